//! What the end-to-end benches share: the server as a process of its own, and commands measured
//! from outside (wall, CPU of the process, its peak memory).
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const ACCESS_KEY: &str = "AKIDHYDRANTBENCH";
pub const SECRET_KEY: &str = "hydrant-bench-secret-key";

/// A running `hydrant-s3sim`; stopped when dropped.
pub struct Server {
    pub endpoint: String,
    child: Child,
}

impl Server {
    /// Serves the buckets below `root` from memory; `args` are further flags.
    pub fn start(root: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hydrant-s3sim"))
            .args(["--in-memory", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, "--root"])
            .arg(root)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("hydrant-s3sim starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its stdout");
        BufReader::new(stdout).read_line(&mut line).expect("its endpoint");
        Self { endpoint: line.trim().to_owned(), child }
    }

    /// CPU seconds that the server has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&format!("/proc/{}/stat", self.child.id()), 13)
    }

    /// `s3://bucket/path` with what a client must know.
    pub fn url(&self, bucket: &str, path: &str) -> String {
        format!("s3://{bucket}/{path}?endpoint={}&region=us-east-1&forcePathStyle=true", self.endpoint)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a finished command has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub peak_kib: u64,
    pub peak_descriptors: usize,
}

impl Cost {
    /// The run with the median wall time; runs must not be empty.
    pub fn median(mut runs: Vec<Self>) -> Self {
        runs.sort_by(|a, b| a.wall_seconds.total_cmp(&b.wall_seconds));
        runs[runs.len() / 2]
    }
}

/// A command with a clean environment and the bench's credentials.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_uppercase();
        if name_text.starts_with("AWS_") || name_text.starts_with("LITESTREAM_") || name_text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Runs `command` to its end, which must be a success.
pub fn measured(command: &mut Command) -> Cost {
    let before = cpu_seconds("/proc/self/stat", 15);
    let begun = Instant::now();
    let mut child = command.spawn().expect("the command starts");
    let status_file = format!("/proc/{}/status", child.id());
    let descriptors = format!("/proc/{}/fd", child.id());
    let (mut peak_kib, mut peak_descriptors) = (0, 0);
    let status = loop {
        if let Some(kib) = peak_of(&status_file) {
            peak_kib = peak_kib.max(kib);
        }
        if let Ok(open) = std::fs::read_dir(&descriptors) {
            peak_descriptors = peak_descriptors.max(open.count());
        }
        if let Some(status) = child.try_wait().expect("its status") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let wall_seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        panic!("{command:?} failed: {said}");
    }
    Cost { wall_seconds, cpu_seconds: cpu_seconds("/proc/self/stat", 15) - before, peak_kib, peak_descriptors }
}

/// Peak resident memory, from a process's status file.
fn peak_of(status_file: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status_file).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// User and system time in a stat file: fields `first` and the next (counted from 0; 13 for the
/// process itself, 15 for its children). Ticks are 10 ms.
fn cpu_seconds(stat_file: &str, first: usize) -> f64 {
    let text = std::fs::read_to_string(stat_file).unwrap_or_default();
    // The name, in parentheses, may hold spaces.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    let at = |i: usize| fields.get(i - 2).copied().unwrap_or(0.0);
    (at(first) + at(first + 1)) / 100.0
}

/// A program on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// A directory that did not exist before: creating files where many were just deleted measures
/// the file system's journal.
pub fn fresh_dir(name: &str) -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}-{n}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a fresh directory");
    dir
}
