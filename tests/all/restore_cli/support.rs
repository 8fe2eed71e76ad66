//! Runs the program as a child process, provides replicas to restore from, and compares directories.

use crate::common::wait::grant_time_to_end;
pub(super) use crate::common::wait::until;
use hydrant::sim::generate::{GeneratedDatabase, LargeSpec, large_database};
use hydrant::sim::server::{Faults, SimCredentials, SimOptions, SimServer};
pub(super) use rustix::process::Signal;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub(super) const ACCESS_KEY: &str = "AKIDCANARY";
pub(super) const SECRET_KEY: &str = "canary-secret-key";
pub(super) const SESSION_TOKEN: &str = "canary-session-token";
/// The time after which a run counts as hanging.
const DEADLINE: Duration = Duration::from_secs(150);

/// A command for the program with an empty environment.
pub(super) fn hydrant(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(args).env_clear().env("AWS_EC2_METADATA_DISABLED", "true");
    grant_time_to_end(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command for the program with only the simulator's keys in its environment.
pub(super) fn hydrant_s3(args: &[&str]) -> Command {
    let mut command = hydrant(args);
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_SESSION_TOKEN", SESSION_TOKEN);
    command
}

/// The result of one run of the program.
#[derive(Debug)]
pub(super) struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    /// The largest resident memory that was observed, in bytes.
    pub peak_rss_bytes: u64,
}

impl Ran {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub(super) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.stderr.contains("Error:"), "{self:?}");
        self
    }

    /// Checks that the exit code is 1, that stderr has one `Error:` line with `text`, and that stdout is empty.
    #[track_caller]
    pub(super) fn failed(self, text: &str) -> Self {
        assert_eq!((self.code, &*self.stdout), (Some(1), ""), "{self:?}");
        assert_eq!(self.stderr.matches("Error:").count(), 1, "{self:?}");
        let error = self.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
        assert!(error.contains(text), "no {text:?} in {self:?}");
        self
    }
}

/// A child process that is still running. Its output is being read.
pub(super) struct Running {
    child: Child,
    begun: Instant,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
}

pub(super) fn start(command: &mut Command) -> Running {
    let mut child = command.spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |stream: &mut dyn Read| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let stdout = std::thread::spawn(move || read(&mut out));
    let stderr = std::thread::spawn(move || read(&mut err));
    Running { child, begun: Instant::now(), stdout, stderr }
}

pub(super) fn run(command: &mut Command) -> Ran {
    start(command).wait()
}

impl Running {
    pub(super) fn signal(&self, signal: Signal) {
        // The child has not been waited for, so its process ID cannot have been reused.
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the child ends, for [`DEADLINE`] at most. Fails if its output holds a secret.
    pub(super) fn wait(mut self) -> Ran {
        let mut peak_rss_bytes = 0;
        let status: ExitStatus = loop {
            peak_rss_bytes = peak_rss_bytes.max(peak_rss(self.child.id()).unwrap_or(0));
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.begun.elapsed() > DEADLINE {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                let (out, err) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
                panic!("still running after {DEADLINE:?}: {out}{err}");
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        let took = self.begun.elapsed();
        let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
        for secret in ["canary-secret", "canary-session", "canary-sse"] {
            assert!(!stdout.contains(secret) && !stderr.contains(secret), "{secret} in {stdout}{stderr}");
        }
        Ran { code: status.code(), stdout, stderr, took, peak_rss_bytes }
    }
}

fn peak_rss(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// A temporary directory, and the path of an output in it.
pub(super) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn out(&self) -> String {
        self.path("out.db")
    }

    pub(super) fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The content of the directory.
    pub(super) fn contents(&self) -> Contents {
        contents(self.dir())
    }

    /// Checks that the directory holds nothing but the output, with this hash.
    #[track_caller]
    pub(super) fn holds_only(&self, sha256: &str) {
        assert_eq!(self.contents(), Contents::from([("out.db".to_owned(), format!("file {sha256}"))]));
    }

    #[track_caller]
    pub(super) fn is_empty(&self) {
        assert_eq!(self.contents(), Contents::new());
    }
}

/// The content of a directory: relative path → kind of the entry, with the hash of a file's content.
pub(super) type Contents = BTreeMap<String, String>;

pub(super) fn contents(dir: &Path) -> Contents {
    fn add(root: &Path, dir: &Path, all: &mut Contents) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let what = if kind.is_symlink() {
                format!("link to {}", path.read_link().unwrap().display())
            } else if kind.is_dir() {
                add(root, &path, all);
                "directory".to_owned()
            } else {
                format!("file {}", sha256(&path))
            };
            all.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), what);
        }
    }
    let mut all = Contents::new();
    add(dir, dir, &mut all);
    all
}

pub(super) fn hex(bytes: &[u8]) -> String {
    hydrant::hex::Hex(bytes).to_string()
}

pub(super) fn sha256(path: &Path) -> String {
    hex(&Sha256::digest(std::fs::read(path).unwrap()))
}

/// A real replica of the fixtures: its folder and its manifest.
pub(super) fn fixture(name: &str) -> (PathBuf, serde_json::Value) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/single");
    let manifest = std::fs::read(root.join(format!("{name}.json"))).unwrap();
    (root.join(name), serde_json::from_slice(&manifest).unwrap())
}

/// The SHA-256 of the newest state in a replica's manifest.
pub(super) fn latest(manifest: &serde_json::Value) -> String {
    let targets = manifest["targets"].as_array().unwrap();
    let target = targets.iter().find(|t| t["target"] == "latest").unwrap();
    target["sha256"].as_str().unwrap().to_owned()
}

pub(super) fn damaged(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/fleet/bucket/damaged");
    format!("file://{}", root.join(name).join("app.db").display())
}

/// Starts an S3 simulator that checks signatures.
pub(super) fn simulator(faults: Faults) -> SimServer {
    let credentials = SimCredentials {
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        session_token: Some(SESSION_TOKEN.into()),
    };
    SimServer::start(SimOptions { credentials: Some(credentials), faults, ..SimOptions::default() }).unwrap()
}

/// The replica URL `s3://bucket/path` on the server at `endpoint`.
pub(super) fn url(endpoint: &str, path: &str) -> String {
    format!("s3://bucket/{path}?endpoint={endpoint}&region=us-east-1")
}

/// A database with 4 KiB pages below `large.db`: a snapshot of `bytes` bytes and `increments` increments.
pub(super) fn large(bytes: u64, increments: u32) -> GeneratedDatabase {
    let spec = LargeSpec { bytes, increments, pages_per_increment: 8, overlap: 0.3, ..LargeSpec::default() };
    large_database(&spec).unwrap().to_database()
}

/// A simulator with one database of [`large`], its URL and its hash.
pub(super) struct Served {
    pub server: SimServer,
    pub database: GeneratedDatabase,
    pub url: String,
    pub sha256: String,
}

pub(super) fn serve(database: GeneratedDatabase, faults: Faults) -> Served {
    let server = simulator(faults);
    server.objects().put_database("bucket", &database);
    let url = url(&server.endpoint(), &database.root);
    let sha256 = hex(&database.expected.sha256);
    Served { server, database, url, sha256 }
}
