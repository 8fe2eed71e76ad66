//! Prometheus' text format: families of samples, each family with its HELP and TYPE.

use std::fmt::{Display, Write};

/// The type of a metric. The figures of one run do not grow over time, so only those of a standby are counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Gauge,
    Histogram,
    Counter,
}

/// A text that grows family by family. All samples have the same first labels.
#[derive(Debug)]
pub(super) struct Exposition {
    text: String,
    /// The labels that every sample has, as they are written: `a="1",b="2"`.
    common: String,
    family: &'static str,
}

impl Exposition {
    /// A text without families. Every sample gets the labels `common`. Labels with empty values are left out, because
    /// Prometheus takes them for absent.
    pub(super) fn new(common: &[(&str, &str)]) -> Self {
        let common = common.iter().filter(|(_, value)| !value.is_empty());
        let common = common.map(|(name, value)| label(name, value)).collect::<Vec<_>>().join(",");
        Self { text: String::new(), common, family: "" }
    }

    /// Begins the family `name`. Its samples follow.
    pub(super) fn family(&mut self, name: &'static str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Counter => "counter",
        };
        // In HELP, quotes stay as they are.
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.family = name;
    }

    /// Adds a sample to the family: its name is the family's with `suffix` behind it, and `more` is a further label.
    pub(super) fn sample(&mut self, suffix: &str, more: Option<(&str, &str)>, value: impl Display) {
        let name = self.name(suffix, more);
        let _ = writeln!(self.text, "{name} {value}");
    }

    /// Adds a family of one sample.
    pub(super) fn single(&mut self, name: &'static str, kind: MetricKind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample("", None, value);
    }

    /// Adds a counter that is divided by how its events ended.
    pub(super) fn outcomes(&mut self, name: &'static str, help: &str, outcomes: [(&str, u64); 2]) {
        self.family(name, MetricKind::Counter, help);
        outcomes.into_iter().for_each(|(outcome, count)| self.sample("", Some(("outcome", outcome)), count));
    }

    /// The name and the labels of a sample, as they are written before its value.
    pub(super) fn name(&self, suffix: &str, more: Option<(&str, &str)>) -> String {
        let mut labels = self.common.clone();
        if let Some((name, value)) = more {
            if !labels.is_empty() {
                labels.push(',');
            }
            labels.push_str(&label(name, value));
        }
        let family = self.family;
        if labels.is_empty() { format!("{family}{suffix}") } else { format!("{family}{suffix}{{{labels}}}") }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_ones_left_out() {
        let mut text = Exposition::new(&[("source", "a\"b\\c\nd"), ("shard", "")]);
        text.family("hydrant_x_seconds", MetricKind::Histogram, "one\nline \"\\\"");
        text.sample("_bucket", Some(("le", "+Inf")), 3);
        text.sample("_sum", None, 0.5);
        assert_eq!(
            text.into_text(),
            "# HELP hydrant_x_seconds one\\nline \"\\\\\"\n# TYPE hydrant_x_seconds histogram\n\
             hydrant_x_seconds_bucket{source=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 3\n\
             hydrant_x_seconds_sum{source=\"a\\\"b\\\\c\\nd\"} 0.5\n"
        );
        let mut bare = Exposition::new(&[]);
        bare.family("hydrant_y", MetricKind::Gauge, "y");
        bare.sample("", None, 1);
        assert!(bare.into_text().ends_with("\nhydrant_y 1\n"));
    }
}
