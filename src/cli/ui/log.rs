//! Writes messages to stderr, as text or as lines of JSON, with the progress bar on the line below them
//! (docs/LOGGING.md).
//!
//! All parts of the program write to stderr through a [`Log`]. Otherwise a message could be written into the
//! middle of the progress bar. Errors of writing to stderr are ignored, because a closed stderr must not stop
//! a restore.

use crate::cli::ui::failure::Failure;
use crate::error::escaped;
use crate::process::locks::lock;
use crate::timestamp::Timestamp;
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

/// The format of messages on stderr (`-log-format`): text, or one JSON object per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The options of the command line about messages on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// How much is logged: 0 by default, 1 with `-v`, 2 with `-vv`.
    pub verbosity: u8,
    pub format: LogFormat,
    /// `-quiet`: only errors, failures of databases and the result are logged.
    pub quiet: bool,
    /// True if `-no-color` or the environment variable `NO_COLOR` forbids colours.
    pub no_color: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warn,
    /// Messages that are shown without any flag, such as databases that were skipped, and the summary of a run.
    Info,
    /// Messages that are shown with `-v` and `-vv`.
    Debug,
    /// Shown with `-vv`.
    Trace,
}

impl Severity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

/// A writer of messages to stderr. Clones write to the same output, so that messages and progress bar do not mix.
#[derive(Clone)]
pub struct Log(Arc<LogState>);

struct LogState {
    /// Messages of this severity and of higher ones are shown. None: only essential ones are.
    least: Option<Severity>,
    format: LogFormat,
    /// True if the output is a terminal that understands control sequences, so that a progress bar can be drawn.
    terminal: bool,
    color: bool,
    out: Mutex<Out>,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// The progress bar that the last line of the terminal shows now. None if it shows none.
    bar: Option<String>,
}

/// Terminal control sequence that moves the cursor to the start of the line and clears the line.
const CLEAR_LINE: &str = "\r\x1b[K";

impl Log {
    /// Makes a log that writes to stderr. If stderr is a terminal, progress bars can be drawn, unless `TERM` is
    /// `dumb`.
    pub fn stderr(options: LogOptions) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        let least = (!options.quiet).then(|| least(options.verbosity));
        Self::of(Box::new(std::io::stderr()), least, options.format, terminal, !options.no_color)
    }

    /// Makes a log that writes to `to`. If `to` is a `terminal`, progress bars are drawn, and with `color` the
    /// words `Warning:` and `Error:` are coloured.
    pub fn new(to: Box<dyn Write + Send>, verbosity: u8, format: LogFormat, terminal: bool, color: bool) -> Self {
        Self::of(to, Some(least(verbosity)), format, terminal, color)
    }

    fn of(to: Box<dyn Write + Send>, least: Option<Severity>, format: LogFormat, terminal: bool, color: bool) -> Self {
        Self(Arc::new(LogState {
            least,
            format,
            terminal,
            color: color && terminal,
            out: Mutex::new(Out { to, bar: None }),
        }))
    }

    /// Whether the log writes to a terminal, on which a progress bar can be drawn.
    pub fn is_terminal(&self) -> bool {
        self.0.terminal
    }

    /// Whether messages of this severity are shown. With it, a caller can avoid building a message that nobody sees.
    pub fn shows(&self, severity: Severity) -> bool {
        self.0.least.is_some_and(|least| severity <= least)
    }

    pub fn warn(&self, message: &str) {
        self.say(Severity::Warn, message, &[]);
    }

    pub fn info(&self, message: &str) {
        self.say(Severity::Info, message, &[]);
    }

    pub fn debug(&self, message: &str) {
        self.say(Severity::Debug, message, &[]);
    }

    /// Writes a message, followed by facts (names and values). Control characters in message and values are escaped,
    /// because they may come from file names in a bucket.
    pub fn say(&self, severity: Severity, message: &str, facts: &[(&str, &str)]) {
        if self.shows(severity) {
            let facts: Vec<_> = facts.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
            self.write(severity, None, message, &facts);
        }
    }

    /// Writes a message about what `keys` name, such as a database. The keys are shown in JSON only: as text, the
    /// message names them itself.
    pub fn about(&self, severity: Severity, message: &str, keys: &[(&str, &str)]) {
        if self.shows(severity) {
            self.essential(severity, message, keys);
        }
    }

    /// As [`Self::about`], for failures and results: shown with `-quiet` too.
    pub fn essential(&self, severity: Severity, message: &str, keys: &[(&str, &str)]) {
        let keys = match self.0.format {
            LogFormat::Text => &[],
            LogFormat::Json => keys,
        };
        let facts: Vec<_> = keys.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        self.write(severity, None, message, &facts);
    }

    /// Writes an event of the modules below the command line. `target` says which: `hydrant::s3`.
    pub fn event(&self, severity: Severity, target: &str, message: &str, facts: &[(&str, Value)]) {
        if self.shows(severity) {
            self.write(severity, Some(target), message, facts);
        }
    }

    fn write(&self, severity: Severity, target: Option<&str>, message: &str, facts: &[(&str, Value)]) {
        self.line(&match self.0.format {
            LogFormat::Text => self.text(severity, target, message, facts),
            LogFormat::Json => json(Timestamp::now(), severity.as_str(), target, message, facts),
        });
    }

    /// Writes `Error: …`, and `Try: …` if a better call is known. Always shown. As JSON it is one line of level
    /// `ERROR`, with the class and with `keys`.
    pub fn failure(&self, failure: &Failure, keys: &[(&str, &str)]) {
        if self.0.format == LogFormat::Json {
            let class = failure.class().map(|class| ("class", class.as_str()));
            let call = failure.tried().map(|call| ("try", call));
            let facts = keys.iter().copied().chain(class).chain(call);
            let facts: Vec<_> = facts.map(|(name, value)| (name, Value::from(value))).collect();
            return self.line(&json(Timestamp::now(), "ERROR", None, failure.message(), &facts));
        }
        let (on, off) = if self.0.color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("{on}Error:{off} {}", escaped(failure.message())));
        if let Some(call) = failure.tried() {
            self.line(&format!("Try: {}", escaped(call)));
        }
    }

    /// Writes a line of text. If a progress bar is shown on the last line, the text goes above it.
    pub fn line(&self, text: &str) {
        self.with(|out| {
            let bar = out.bar.as_deref();
            let clear = if bar.is_some() { CLEAR_LINE } else { "" };
            format!("{clear}{text}\n{}", bar.unwrap_or_default())
        });
    }

    /// Draws `bar` as the progress bar on the last line. None removes the bar. Does nothing if the log does not
    /// write to a terminal.
    pub fn bar(&self, bar: Option<String>) {
        if !self.0.terminal {
            return;
        }
        self.with(|out| {
            if out.bar == bar {
                return String::new();
            }
            out.bar = bar;
            format!("{CLEAR_LINE}{}", out.bar.as_deref().unwrap_or_default())
        });
    }

    fn with(&self, text: impl FnOnce(&mut Out) -> String) {
        let mut out = lock(&self.0.out);
        let text = text(&mut out);
        if !text.is_empty() {
            let _ = out.to.write_all(text.as_bytes());
            let _ = out.to.flush();
        }
    }

    fn text(&self, severity: Severity, target: Option<&str>, message: &str, facts: &[(&str, Value)]) -> String {
        let head = match (severity, self.0.color) {
            (Severity::Warn, false) => "Warning: ",
            (Severity::Warn, true) => "\x1b[1;33mWarning:\x1b[0m ",
            _ => "",
        };
        let mut line = head.to_owned();
        if let Some(target) = target {
            line.push_str(target);
            line.push_str(": ");
        }
        line.push_str(&escaped(message));
        for (name, value) in facts {
            let value = match value {
                Value::String(text) => escaped(text),
                other => other.to_string(),
            };
            if value.is_empty() || value.contains([' ', '"', '=']) {
                line.push_str(&format!(" {name}={value:?}"));
            } else {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        line
    }
}

/// The least severity that is shown by the number of `-v`.
const fn least(verbosity: u8) -> Severity {
    match verbosity {
        0 => Severity::Info,
        1 => Severity::Debug,
        _ => Severity::Trace,
    }
}

fn json(now: Timestamp, level: &str, target: Option<&str>, message: &str, facts: &[(&str, Value)]) -> String {
    let mut object = Map::new();
    object.insert("time".to_owned(), now.to_string().into());
    object.insert("level".to_owned(), level.into());
    if let Some(target) = target {
        object.insert("target".to_owned(), target.into());
    }
    object.insert("msg".to_owned(), escaped(message).into());
    for (name, value) in facts {
        let value = match value {
            Value::String(text) => escaped(text).into(),
            other => other.clone(),
        };
        // A fact cannot take the place of a key above: an event of a library may have any names.
        object.entry(*name).or_insert(value);
    }
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use crate::cli::ui::log::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Buffer {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    #[test]
    fn text_by_verbosity_and_escaped() {
        let buffer = Buffer::default();
        let log = Log::new(Box::new(buffer.clone()), 0, LogFormat::Text, false, true);
        log.info("database already exists, skipping");
        log.debug("hidden");
        log.say(Severity::Warn, "odd\x1b[2J", &[("key", "a b\n"), ("n", "1")]);
        log.bar(Some("never drawn".to_owned()));
        assert_eq!(buffer.take(), "database already exists, skipping\nWarning: odd\\u{1b}[2J key=\"a b\\\\n\" n=1\n");
        let log = Log::new(Box::new(buffer.clone()), 1, LogFormat::Text, false, true);
        log.debug("shown");
        assert_eq!(buffer.take(), "shown\n");
    }

    #[test]
    fn json_lines_parse() {
        let buffer = Buffer::default();
        let log = Log::new(Box::new(buffer.clone()), 0, LogFormat::Json, true, true);
        log.say(Severity::Warn, "a \"b\"", &[("key", "k")]);
        let value: Value = serde_json::from_str(&buffer.take()).unwrap();
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["msg"], "a \"b\"");
        assert_eq!(value["key"], "k");
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn messages_stand_above_the_bar_and_colours_can_be_had() {
        let buffer = Buffer::default();
        let log = Log::new(Box::new(buffer.clone()), 0, LogFormat::Text, true, true);
        log.bar(Some("[##]".to_owned()));
        log.bar(Some("[##]".to_owned()));
        log.info("message");
        log.bar(None);
        log.failure(&Failure::usage("bad").try_call("hydrant"), &[]);
        assert_eq!(
            buffer.take(),
            "\r\x1b[K[##]\r\x1b[Kmessage\n[##]\r\x1b[K\x1b[1;31mError:\x1b[0m bad\nTry: hydrant\n"
        );
        let log = Log::new(Box::new(buffer.clone()), 0, LogFormat::Text, true, false);
        log.failure(&Failure::usage("bad"), &[]);
        assert_eq!(buffer.take(), "Error: bad\n");
    }

    #[test]
    fn quiet_shows_what_is_essential() {
        let buffer = Buffer::default();
        let log = Log::of(Box::new(buffer.clone()), None, LogFormat::Text, false, false);
        log.warn("hidden");
        log.info("hidden");
        log.about(Severity::Warn, "hidden", &[("database", "a.db")]);
        log.essential(Severity::Warn, "a.db: hole", &[("database", "a.db")]);
        log.essential(Severity::Info, "restored 0", &[]);
        log.failure(&Failure::usage("bad"), &[("database", "a.db")]);
        assert_eq!(buffer.take(), "Warning: a.db: hole\nrestored 0\nError: bad\n");
    }

    #[test]
    fn json_to_the_last_line_with_database_path_and_class() {
        let buffer = Buffer::default();
        let log = Log::new(Box::new(buffer.clone()), 0, LogFormat::Json, false, true);
        let keys = [("database", "a\u{1b}.db"), ("path", "/out/a.db")];
        log.about(Severity::Warn, "a.db: hole", &[keys[0], ("class", "hole")]);
        log.failure(&Failure::failed(crate::error::Class::Hole, "a hole").try_call("hydrant ltx"), &keys);
        let text = buffer.take();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["database"], &lines[0]["class"]), (&"a\\u{1b}.db".into(), &"hole".into()));
        let keys: Vec<_> = lines[1].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["time", "level", "msg", "database", "path", "class", "try"]);
        assert_eq!((&lines[1]["level"], &lines[1]["class"]), (&"ERROR".into(), &"hole".into()));
        assert_eq!(lines.len(), 2);
    }
}
