//! Shows the `tracing` events of all modules in the program's log (docs/LOGGING.md, "Events"). This table says
//! which events are shown:
//!
//! | option | Hydrant's own events | events of the AWS credentials chain |
//! |---|---|---|
//! | none | none | none |
//! | `-v` | DEBUG and above | WARN and above |
//! | `-vv` | TRACE and above | DEBUG and above |
//!
//! Without `-v` no `tracing` subscriber is installed, and an event costs only the load of one atomic variable.
//! Spans are ignored, because each event names its request or database itself.

use crate::cli::ui::log::{Log, Severity};
use serde_json::Value;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Prefix of the targets of Hydrant's own events.
const OWN: &str = "hydrant::";
/// Crates of the AWS credentials chain. Their events below DEBUG can contain HTTP headers and bodies, so they
/// are not shown.
const AWS_CHAIN: [&str; 6] =
    ["aws_config", "aws_credential_types", "aws_runtime", "aws_sdk_sso", "aws_sdk_ssooidc", "aws_sdk_sts"];
/// The debug output of AWS credentials hides the secret key but shows the access key id, after this text. The
/// id is replaced by [`HIDDEN`].
const KEY_ID: &str = "access_key_id: \"";
const HIDDEN: &str = "***";

/// The `tracing` subscriber that writes events to a [`Log`].
struct EventWriter {
    log: Log,
}

/// Installs the subscriber that shows this process's events in `log`, if the log's verbosity shows any event.
pub fn show(log: &Log) {
    if log.shows(Severity::Debug) {
        // This call fails if the process already has a subscriber. The program installs it once, before the
        // first command.
        let _ = tracing::subscriber::set_global_default(EventWriter { log: log.clone() });
    }
}

impl EventWriter {
    /// Returns the most detailed level that is shown for events with this target.
    fn most(&self, target: &str) -> LevelFilter {
        let all = self.log.shows(Severity::Trace);
        let is_of =
            |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        if target.starts_with(OWN) {
            if all { LevelFilter::TRACE } else { LevelFilter::DEBUG }
        } else if AWS_CHAIN.into_iter().any(is_of) {
            if all { LevelFilter::DEBUG } else { LevelFilter::WARN }
        } else {
            LevelFilter::OFF
        }
    }
}

impl Subscriber for EventWriter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !metadata.is_span() && *metadata.level() <= self.most(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most(OWN))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let severity = match *metadata.level() {
            Level::ERROR | Level::WARN => Severity::Warn,
            Level::INFO | Level::DEBUG => Severity::Debug,
            Level::TRACE => Severity::Trace,
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.log.event(severity, metadata.target(), &fields.message, &fields.facts);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Collects the message and the other fields of one event, for its line in the log.
#[derive(Default)]
struct Fields {
    message: String,
    facts: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.facts.push((field.name(), value.into()));
    }

    fn add_text(&mut self, field: &Field, text: String) {
        let text = without_key_ids(text);
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }
}

/// Returns `text` with access key ids replaced, if `text` is the debug output of AWS credentials.
fn without_key_ids(text: String) -> String {
    if !text.contains(KEY_ID) {
        return text;
    }
    let mut parts = text.split(KEY_ID);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(KEY_ID);
        shown.push_str(HIDDEN);
        shown.push_str(part.find('"').and_then(|end| part.get(end..)).unwrap_or("\""));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::log::LogFormat;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(verbosity: u8, format: LogFormat, events: impl FnOnce()) -> String {
        let written = Written::default();
        let log = Log::new(Box::new(written.clone()), verbosity, format, false, false);
        tracing::subscriber::with_default(EventWriter { log }, events);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn some_events() {
        tracing::debug!(target: "hydrant::s3", request = 7u64, key = "a b", absent = None::<u64>, "failed");
        tracing::trace!(target: "hydrant::s3", "sent");
        tracing::debug!(target: "aws_config::profile", creds = "K { access_key_id: \"AKID\", x }", "loaded");
        tracing::warn!(target: "aws_config", "profile is missing");
        tracing::trace!(target: "aws_config", "header: secret");
        tracing::warn!(target: "aws_configuration", "another crate");
        tracing::warn!(target: "hyper", "noise");
    }

    #[test]
    fn levels_decide_what_is_shown() {
        let warning = "Warning: aws_config: profile is missing\n";
        let failed = "hydrant::s3: failed request=7 key=\"a b\"\n";
        let chain = "aws_config::profile: loaded creds=\"K { access_key_id: \\\"***\\\", x }\"\n";
        assert_eq!(shown(1, LogFormat::Text, some_events), format!("{failed}{warning}"));
        assert_eq!(shown(2, LogFormat::Text, some_events), format!("{failed}hydrant::s3: sent\n{chain}{warning}"));
    }

    #[test]
    fn json_has_numbers_and_keeps_its_own_keys() {
        let text = shown(1, LogFormat::Json, || {
            tracing::debug!(target: "hydrant::io", level = "x", msg = "y", status = 503u64, more = true, "message");
        });
        let value: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["time", "level", "target", "msg", "status", "more"]);
        assert_eq!((&value["level"], &value["msg"]), (&"DEBUG".into(), &"message".into()));
        assert_eq!((&value["status"], &value["more"]), (&503.into(), &true.into()));
    }

    #[test]
    fn spans_are_ignored() {
        let text = shown(2, LogFormat::Text, || {
            let span = tracing::debug_span!(target: "hydrant::s3", "a span", key = 1);
            span.in_scope(|| tracing::debug!(target: "hydrant::s3", "inside"));
            assert!(tracing::enabled!(target: "hydrant::s3", Level::TRACE));
            assert!(!tracing::enabled!(target: "hyper", Level::ERROR));
        });
        assert_eq!(text, "hydrant::s3: inside\n");
    }
}
