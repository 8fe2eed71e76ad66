//! Runs the program in a directory of its own, and compares transcripts of the runs with the stored ones.

use super::diff::diff;
use super::normal::{Normal, is_latency, measured_row, shape, squeezed};
use crate::common::wait::grant_time_to_end;
pub(super) use crate::common::wait::until;
use hydrant::sim::server::SimServer;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(super) const ACCESS_KEY: &str = "AKIDHYDRANTTESTS";
pub(super) const SECRET_KEY: &str = "hydrant-tests-secret-key";

/// Flags that allow one request at a time, so that no request is hedged and the number of requests does not depend
/// on timing. Progress lines are off, because they depend on the clock.
pub(super) const STEADY: [&str; 5] = ["--io-engine", "pwrite", "--max-requests", "1", "-no-progress"];
/// Flags that allow one database at a time. A failed database is tried again once, without a pause.
pub(super) const STEADY_FLEET: [&str; 6] = ["--parallel", "1", "--max-retries", "1", "--retry-delay", "1ms"];

/// A temporary directory in which a test runs the program.
pub(super) struct Host {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Host {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        Self { _dir: dir, root }
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub(super) fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(args).current_dir(&self.root).env_clear();
        for (name, value) in [
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ] {
            command.env(name, value);
        }
        grant_time_to_end(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(args, self.command(args).output().unwrap())
    }

    /// Replaces this directory by `<dir>` and the server's port by `<port>`.
    pub(super) fn normal(&self, server: &SimServer) -> Normal {
        let mut normal = Normal::default();
        normal.replace(self.root.to_str().unwrap(), "<dir>");
        normal.replace(format!("127.0.0.1:{}", server.address().port()), "127.0.0.1:<port>");
        normal
    }
}

/// The replica URL `s3://bucket/path` on the simulator `server`.
pub(super) fn url(server: &SimServer, path: &str) -> String {
    format!("s3://bucket/{path}?endpoint={}&region=us-east-1", server.endpoint())
}

/// The result of one run of the program.
pub(super) struct Ran {
    args: Vec<String>,
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    pub(super) fn of(args: &[&str], output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self::new(args, output.status.code().unwrap(), stdout, stderr)
    }

    pub(super) fn new(args: &[&str], code: i32, stdout: String, stderr: String) -> Self {
        assert!(!stdout.contains(SECRET_KEY) && !stderr.contains(SECRET_KEY), "{stdout}{stderr}");
        // Events are for people, with times and numbers of their own; no script reads them.
        let is_event = |line: &&str| line.starts_with("hydrant::") || line.contains(r#","target":"hydrant::"#);
        let stderr = stderr.split_inclusive('\n').filter(|line| !is_event(line)).collect();
        Self { args: args.iter().map(|arg| (*arg).to_owned()).collect(), code, stdout, stderr }
    }
}

impl Ran {
    /// Joins messages that `alike` maps to the same text. They are shown once, with their number.
    pub(super) fn counting(mut self, alike: impl Fn(&str) -> Option<String>) -> Self {
        let mut counted: Vec<(String, u64)> = Vec::new();
        for line in self.stderr.lines() {
            let shown = alike(line).unwrap_or_else(|| line.to_owned());
            match counted.iter_mut().find(|(line, _)| *line == shown) {
                Some((_, times)) => *times += 1,
                None => counted.push((shown, 1)),
            }
        }
        let shown = |(line, times)| if times == 1 { line } else { format!("{line} ({times} times)") };
        self.stderr = joined(counted.into_iter().map(shown).collect());
        self
    }
}

/// The kind of a text, which decides how it is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text that is compared as it is.
    Text,
    /// Messages of a run. The messages about single databases come in any order, so they are sorted.
    Messages,
    /// JSON in the order in which it came.
    Json,
    /// One JSON document per line, in any order except for the last.
    JsonLines,
    /// One JSON document per line, in any order.
    JsonMessages,
    /// A table whose column widths depend on the length of a path.
    PathTable,
    /// Tables of measurements, whose numbers are replaced by placeholders.
    Measurements,
}

/// The transcript of a test, which is compared with `tests/fixtures/golden/<name>.txt`.
pub(super) struct Transcript {
    name: &'static str,
    normal: Normal,
    text: String,
}

impl Transcript {
    pub(super) fn new(name: &'static str, normal: Normal) -> Self {
        Self { name, normal, text: String::new() }
    }

    /// Adds a run: its command line, exit code and output.
    pub(super) fn ran(&mut self, ran: &Ran, stdout: Shape, stderr: Shape) {
        let args = self.normal.text(&shown(&ran.args));
        self.text.push_str(&format!("$ hydrant {args}\nexit {}\n", ran.code));
        self.part("stdout", &ran.stdout, stdout);
        self.part("stderr", &ran.stderr, stderr);
        self.text.push('\n');
    }

    /// Adds a file that a run wrote, or a group of lines.
    pub(super) fn file(&mut self, title: &str, text: &str) {
        self.part(title, text, Shape::Text);
        self.text.push('\n');
    }

    fn part(&mut self, title: &str, text: &str, shape: Shape) {
        if text.is_empty() {
            return;
        }
        let shown = self.shown(text, shape);
        self.text.push_str(&format!("--- {title}\n{shown}"));
        if !shown.ends_with('\n') {
            self.text.push_str("\n(no newline at the end)\n");
        }
    }

    fn shown(&self, text: &str, shape: Shape) -> String {
        let rows = |row: fn(&str) -> String| joined(self.normal.text(text).lines().map(row).collect());
        match shape {
            Shape::Text => self.normal.text(text),
            Shape::Messages => messages(&self.normal.text(text)),
            Shape::Json => self.normal.json(text),
            Shape::JsonLines => {
                let json = self.normal.json(text);
                let mut lines: Vec<String> = json.lines().map(str::to_owned).collect();
                let all_but_last = lines.len().saturating_sub(1);
                lines[..all_but_last].sort();
                joined(lines)
            }
            Shape::JsonMessages => {
                let (json, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('{'));
                let mut lines: Vec<String> = json.iter().map(|line| self.normal.json(line)).collect();
                lines.sort();
                lines.extend(others.iter().map(|line| self.normal.text(line)));
                joined(lines)
            }
            Shape::PathTable => rows(squeezed),
            Shape::Measurements => rows(measured_row),
        }
    }

    /// Compares the transcript with the stored one, or stores it if HYDRANT_GOLDEN is set.
    #[track_caller]
    pub(super) fn matches(self) {
        let path = golden().join(format!("{}.txt", self.name));
        let pinned = std::fs::read_to_string(&path).unwrap_or_default();
        if self.text == pinned {
            return;
        }
        if std::env::var("HYDRANT_GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::create_dir_all(golden()).unwrap();
            std::fs::write(&path, &self.text).unwrap();
            println!("wrote {}", path.display());
            return;
        }
        panic!(
            "what scripts read has changed: {}\n\n{}\n\
             Users' scripts rely on these keys and words. Where the change is meant, renew the file with\n\
             HYDRANT_GOLDEN=write cargo test --test all golden::\nand read what git diff shows before it is committed.\n",
            path.display(),
            diff(&pinned, &self.text)
        );
    }
}

/// The command line without the flags that only make runs equal.
fn shown(args: &[String]) -> String {
    let mut shown = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg {
            "-no-progress" => {}
            "--io-engine" | "--max-requests" | "--parallel" | "--max-retries" | "--retry-delay" => drop(args.next()),
            _ => shown.push(arg),
        }
    }
    shown.join(" ")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden")
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The beginnings of messages about the whole run. All other messages are about a database.
const OF_THE_RUN: [&str; 6] = ["found ", "restored ", "can restore ", "Warning: further ", "Error: ", "Try: "];

/// Orders messages: first those about databases, sorted, then the rest in its order.
fn messages(text: &str) -> String {
    let is_of_the_run = |line: &&str| {
        let begins_so = OF_THE_RUN.iter().any(|begin| line.starts_with(begin));
        // With -v, a line `restored NAME: … at txid …` is about a database.
        (begins_so && !line.contains(" at txid ")) || is_latency(line)
    };
    let (of_the_run, mut of_databases): (Vec<&str>, Vec<&str>) = text.lines().partition(is_of_the_run);
    of_databases.sort();
    joined(of_databases.into_iter().chain(of_the_run).map(str::to_owned).collect())
}

impl Transcript {
    /// Adds the error log, with its lines sorted.
    pub(super) fn error_log(&mut self, text: &str) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        self.file("error log, sorted", &joined(lines));
    }

    /// Adds the report of `ran`. It must have one line per database, the same as on stdout. Of what depends on the
    /// machine and its clock, the keys are shown.
    pub(super) fn report(&mut self, text: &str, ran: &Ran) {
        let Ok(Value::Object(report)) = serde_json::from_str(text) else { panic!("{text}") };
        assert!(text.ends_with("}\n"), "{text}");
        let (rows, rest) = text.split_once("\n],").unwrap();
        let (first, rows) = rows.split_once('\n').unwrap();
        let mut reported: Vec<&str> = rows.split(",\n").filter(|line| !line.is_empty()).collect();
        let mut printed: Vec<&str> = ran.stdout.lines().filter(|line| !line.contains(r#""type":"summary""#)).collect();
        reported.sort();
        printed.sort();
        assert_eq!(reported, printed, "the report and -json say the same of each database");
        let mut all = vec![first.to_owned(), "(the databases as on stdout, commas between them)".to_owned()];
        let (summary, _) = rest.split_once(",\n\"run\":").unwrap();
        all.push(format!("],{},", self.normal.json(summary)));
        for (key, value) in report.iter().skip_while(|(key, _)| *key != "run") {
            let mut value = if key == "run" { value.clone() } else { shape(value) };
            if let Some(host) = value.get_mut("host") {
                *host = shape(host);
            }
            all.push(format!("\"{key}\":{}", self.normal.json(&value.to_string())));
        }
        self.part("report", &joined(all), Shape::Text);
        self.text.push('\n');
    }
}
