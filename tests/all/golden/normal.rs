//! Replaces values that differ from run to run (times, speeds, paths, ports, request IDs) by a placeholder of the
//! same type. Keys, their order, spaces and all other values stay unchanged.

use hydrant::telemetry::Stage;
use serde_json::Value;

/// The JSON keys of values that are measured or that depend on timing. Every number with a decimal point is a
/// measurement too.
const MEASURED: [&str; 9] =
    ["age_s", "age_seconds", "older_than_a_day", "duration_ms", "discovery_ms", "p50", "p90", "p99", "max"];

/// The replacements for the runs of one test.
#[derive(Debug, Clone, Default)]
pub(super) struct Normal {
    replaced: Vec<(String, &'static str)>,
    is_off: bool,
}

impl Normal {
    /// No replacements, for output without measurements: all values stay unchanged.
    pub(super) fn off() -> Self {
        Self { is_off: true, ..Self::default() }
    }

    /// Replaces the text `what` by `placeholder`.
    pub(super) fn replace(&mut self, what: impl Into<String>, placeholder: &'static str) {
        self.replaced.push((what.into(), placeholder));
    }

    /// Normalises one or several lines of messages.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if self.is_off {
            return text;
        }
        for (what, placeholder) in &self.replaced {
            text = text.replace(what, placeholder);
        }
        let is_digit: fn(char) -> bool = |c| c.is_ascii_digit();
        let is_alphanumeric: fn(char) -> bool = |c| c.is_ascii_alphanumeric();
        for (before, run, after, placeholder) in [
            ("request id ", is_alphanumeric, ")", "<id>"),
            ("after ", is_digit, " attempts", "<n>"),
            ("(", is_digit, " bytes free)", "<n>"),
            (".hydrant-", is_alphanumeric, "", "<random>"),
        ] {
            text = replace_between(&text, before, run, after, placeholder);
        }
        let line = |line| if is_latency(line) { measured_row(line) } else { without_measures(line) };
        text.split('\n').map(line).collect::<Vec<_>>().join("\n")
    }

    /// Normalises one or several JSON documents. The text stays as it is except for values that vary.
    pub(super) fn json(&self, text: &str) -> String {
        let (mut out, mut key, mut rest) = (String::new(), String::new(), text);
        while let Some(c) = rest.chars().next() {
            let end = match c {
                '"' => end_of_string(rest),
                '-' | '0'..='9' => rest.find(|c: char| !"+-.eE0123456789".contains(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            };
            let (token, after) = rest.split_at(end);
            rest = after;
            match c {
                '"' if after.trim_start().starts_with(':') => {
                    key = unquoted(token);
                    out.push_str(token);
                }
                '"' => {
                    let value = unquoted(token);
                    let is_time = !self.is_off && matches!(key.as_str(), "time" | "started" | "ended");
                    let shown = if is_time { "<time>".to_owned() } else { self.text(&value) };
                    match shown == value {
                        true => out.push_str(token),
                        false => out.push_str(&serde_json::to_string(&shown).unwrap()),
                    }
                }
                '-' | '0'..='9' => out.push_str(number(&key, token)),
                _ => out.push_str(token),
            }
        }
        out
    }
}

/// What a JSON value is made of: keys, the first element of each array, and the types of values.
pub(super) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(all) => all.iter().take(1).map(shape).collect(),
        Value::Number(_) => 0.into(),
        Value::String(_) => "".into(),
        other => other.clone(),
    }
}

fn number<'a>(key: &str, token: &'a str) -> &'a str {
    match key {
        _ if token.contains(['.', 'e', 'E']) => "0.0",
        _ if MEASURED.contains(&key) => "0",
        // The count of a stage may depend on timing (how many writes there are). Whether it is 0 does not.
        "count" if token != "0" => "1",
        _ => token,
    }
}

fn unquoted(token: &str) -> String {
    serde_json::from_str(token).unwrap_or_else(|e| panic!("{e}: {token}"))
}

/// The length of the string at the beginning of `text`, including its quotes.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    panic!("a string without an end: {text}");
}

/// Replaces the characters between `before` and `after` for which `is_run` is true by `placeholder`.
fn replace_between(text: &str, before: &str, is_run: fn(char) -> bool, after: &str, placeholder: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        out.push_str(head);
        let len = tail.find(|c| !is_run(c)).unwrap_or(tail.len());
        rest = tail;
        if len > 0 && tail[len..].starts_with(after) {
            out.push_str(placeholder);
            rest = &tail[len..];
        }
    }
    out + rest
}

/// Replaces durations and speeds in the form for people: `12 ms`, `1.5 s`, `4m05s`, `2.0 MiB/s`.
fn without_measures(line: &str) -> String {
    // How many states are older than a day depends on the machine's clock.
    let line = match line.rsplit_once("; ") {
        Some((line, last)) if last.ends_with(" older than a day") => line,
        _ => line,
    };
    let words: Vec<&str> = line.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let unit = words.get(at + 1).copied().unwrap_or_default();
        let (bare, after) = unit.split_at(unit.find([')', ',', ';', ':']).unwrap_or(unit.len()));
        let is_age = matches!(bare.trim_end_matches('s'), "second" | "minute" | "hour" | "day");
        let placeholder = match bare {
            _ if is_age && is_number(&word.replace(',', "")) => {
                out.push("<age>".to_owned());
                at += 2;
                continue;
            }
            "ms" | "s" => Some("<duration>"),
            "B/s" | "KiB/s" | "MiB/s" | "GiB/s" => Some("<speed>"),
            _ => None,
        };
        let number = word.trim_start_matches('(');
        let before = &word[..word.len() - number.len()];
        match placeholder {
            Some(placeholder) if is_number(number) => {
                out.push(format!("{before}{placeholder}{after}"));
                at += 2;
            }
            _ => {
                let (clock, after) = word.split_at(word.find([')', ',']).unwrap_or(word.len()));
                out.push(if is_clock(clock) { format!("<duration>{after}") } else { word.to_owned() });
                at += 1;
            }
        }
    }
    out.join(" ")
}

/// Whether the line belongs to the table of latencies.
pub(super) fn is_latency(line: &str) -> bool {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("latency") => line.starts_with("latency (ms) "),
        Some(stage) => {
            Stage::ALL.iter().any(|s| s.as_str() == stage) && words.next().is_some_and(|n| n == "<n>" || is_number(n))
        }
        None => false,
    }
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// Whether the text is a duration such as `4m05s` or `2h03m`.
fn is_clock(text: &str) -> bool {
    let parts = text.strip_suffix('s').map(|t| t.split_once('m')).or(text.strip_suffix('m').map(|t| t.split_once('h')));
    parts.flatten().is_some_and(|(a, b)| is_number(a) && is_number(b) && b.len() == 2)
}

/// Normalises a line of a table of measurements: every number becomes `<n>`, and columns are separated by one
/// space.
pub(super) fn measured_row(line: &str) -> String {
    let words = line.split_whitespace();
    words.map(|word| if is_number(&word.replace(',', "")) { "<n>" } else { word }).collect::<Vec<_>>().join(" ")
}

/// Normalises a table whose column widths depend on the length of a path: columns are separated by two spaces.
pub(super) fn squeezed(line: &str) -> String {
    let (mut out, mut spaces) = (String::new(), 0);
    for c in line.chars() {
        spaces = if c == ' ' { spaces + 1 } else { 0 };
        if spaces <= 2 {
            out.push(c);
        }
    }
    out
}

#[test]
fn placeholders() {
    let mut normal = Normal::default();
    normal.replace("/tmp/x", "<dir>");
    let cases = [
        ("found 1 (2 listings, 12 ms)", "found 1 (2 listings, <duration>)"),
        ("in 1.5 s (2.0 MiB/s), 3 requests", "in <duration> (<speed>), 3 requests"),
        ("in 4m05s, 1", "in <duration>, 1"),
        ("3 days old (x), a.db; 2 databases older than a day", "<age> old (x), a.db"),
        ("no answer for 5.0 s after 12 attempts", "no answer for <duration> after <n> attempts"),
        ("x (request id 0AF) y (17 bytes free)", "x (request id <id>) y (<n> bytes free)"),
        ("fetch             7  0.41", "fetch <n> <n>"),
        ("/tmp/x/.out.db.hydrant-a1b2c3d4: 7 pages", "<dir>/.out.db.hydrant-<random>: 7 pages"),
    ];
    for (text, expected) in cases {
        assert_eq!(normal.text(text), expected);
    }
    let json = "{\n  \"duration_ms\": 12, \"txid\": \"07\", \"p\":0.125,\"count\":3,\"count\":0,\"n\":[1,-2]}\n";
    let expected = "{\n  \"duration_ms\": 0, \"txid\": \"07\", \"p\":0.0,\"count\":1,\"count\":0,\"n\":[1,-2]}\n";
    assert_eq!(normal.json(json), expected);
    assert_eq!(normal.json(r#"{"time":"2026","a":"\"/tmp/x"}"#), r#"{"time":"<time>","a":"\"<dir>"}"#);
    assert_eq!(measured_row("list/list      12  0.5     -"), "list/list <n> <n> -");
    assert_eq!(squeezed("a     b  c"), "a  b  c");
}
