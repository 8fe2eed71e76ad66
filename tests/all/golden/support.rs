//! The program in a directory of its own, and transcripts that are compared with the pinned ones.

use super::diff::diff;
use super::normal::{Normal, is_latency, measured_row, squeezed};
pub(super) use crate::common::wait::until;
use hydrant::sim::server::SimServer;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(super) const ACCESS_KEY: &str = "AKIDHYDRANTTESTS";
pub(super) const SECRET_KEY: &str = "hydrant-tests-secret-key";

/// One request and one database at a time: nothing is hedged, and how many requests there are does
/// not depend on timing. No progress lines, which come by the clock.
pub(super) const STEADY: [&str; 5] = ["--io-engine", "pwrite", "--max-requests", "1", "-no-progress"];
/// The same for a fleet; what may pass is tried again once, at once.
pub(super) const STEADY_FLEET: [&str; 6] = ["--parallel", "1", "--max-retries", "1", "--retry-delay", "1ms"];

/// An operator's shell.
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
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(args, self.command(args).output().unwrap())
    }

    /// Shows this directory as `<dir>` and the server's port as `<port>`.
    pub(super) fn normal(&self, server: &SimServer) -> Normal {
        let mut normal = Normal::default();
        normal.replace(self.root.to_str().unwrap(), "<dir>");
        normal.replace(format!("127.0.0.1:{}", server.address().port()), "127.0.0.1:<port>");
        normal
    }
}

/// `s3://bucket/path` on `server`.
pub(super) fn url(server: &SimServer, path: &str) -> String {
    format!("s3://bucket/{path}?endpoint={}&region=us-east-1", server.endpoint())
}

/// How a run ended.
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
        Self { args: args.iter().map(|arg| (*arg).to_owned()).collect(), code, stdout, stderr }
    }
}

impl Ran {
    /// Messages that `alike` shows alike are shown once, with how many there were.
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

/// What a text is, and so how it is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As it is.
    Text,
    /// Messages, in the order of a run: what is said of single databases comes in any order, and
    /// is sorted.
    Messages,
    /// JSON in the order in which it came.
    Json,
    /// A line of JSON each, in any order, but for the last.
    JsonLines,
    /// A line of JSON each, in any order.
    JsonMessages,
    /// A table whose widths depend on the length of a path.
    PathTable,
    /// Tables of measurements.
    Measurements,
}

/// What a test has seen, to be compared with `tests/fixtures/golden/<name>.txt`.
pub(super) struct Transcript {
    name: &'static str,
    normal: Normal,
    text: String,
}

impl Transcript {
    pub(super) fn new(name: &'static str, normal: Normal) -> Self {
        Self { name, normal, text: String::new() }
    }

    /// A run: its command line, exit code and output.
    pub(super) fn ran(&mut self, ran: &Ran, stdout: Shape, stderr: Shape) {
        let args = self.normal.text(&shown(&ran.args));
        self.text.push_str(&format!("$ hydrant {args}\nexit {}\n", ran.code));
        self.part("stdout", &ran.stdout, stdout);
        self.part("stderr", &ran.stderr, stderr);
        self.text.push('\n');
    }

    /// A file that a run wrote, or a group of lines.
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

    /// Compares.
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

/// The command line without what keeps runs alike.
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

/// What is said of the whole run begins so; all else is said of a database.
const OF_THE_RUN: [&str; 6] = ["found ", "restored ", "can restore ", "Warning: further ", "Error: ", "Try: "];

/// First what is said of databases, sorted; then the rest in its order.
fn messages(text: &str) -> String {
    let is_of_the_run = |line: &&str| {
        let begins_so = OF_THE_RUN.iter().any(|begin| line.starts_with(begin));
        // `restored NAME: … at txid …` with -v.
        (begins_so && !line.contains(" at txid ")) || is_latency(line)
    };
    let (of_the_run, mut of_databases): (Vec<&str>, Vec<&str>) = text.lines().partition(is_of_the_run);
    of_databases.sort();
    joined(of_databases.into_iter().chain(of_the_run).map(str::to_owned).collect())
}

impl Transcript {
    /// Lines in any order.
    pub(super) fn error_log(&mut self, text: &str) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        self.file("error log, sorted", &joined(lines));
    }

    /// The report of `ran`: a line for each database, as on stdout, between the first and the last.
    pub(super) fn report(&mut self, text: &str, ran: &Ran) {
        assert!(text.ends_with("}\n") && serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let [first, databases @ .., last] = lines.as_slice() else { panic!("{text}") };
        let separated = databases.join("\n");
        let mut reported: Vec<&str> = separated.split(",\n").filter(|line| !line.is_empty()).collect();
        let mut printed: Vec<&str> = ran.stdout.lines().filter(|line| !line.contains(r#""type":"summary""#)).collect();
        reported.sort();
        printed.sort();
        assert_eq!(reported, printed, "the report and -json say the same of each database");
        let all = [
            self.normal.json(first),
            "(the databases as on stdout, commas between them)".to_owned(),
            self.normal.json(last),
        ];
        self.part("report", &joined(all.into()), Shape::Text);
        self.text.push('\n');
    }
}
