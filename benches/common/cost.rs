//! Runs commands and measures them from outside: time, CPU, memory and requests.

#![allow(unsafe_code)]

use super::server::{ACCESS_KEY, SECRET_KEY, Server};
use hydrant::sim::server::Stats;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The measurements of one finished command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cost {
    pub wall: f64,
    /// CPU time of the process and its children, in seconds.
    pub cpu: f64,
    /// CPU time of the simulated S3 server during the command, in seconds.
    pub server_cpu: f64,
    /// The largest resident memory of the measured process, in MB.
    pub peak_mb: f64,
    /// The largest number of open file descriptors that was observed.
    pub descriptors: usize,
    /// The counters of the server for the time of the command.
    pub served: Option<Stats>,
    pub stdout: String,
    /// The output on stderr if the command failed.
    pub failure: Option<String>,
}

impl Cost {
    /// The run with the median wall time. `runs` must not be empty.
    pub(crate) fn median(mut runs: Vec<Self>) -> Self {
        runs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
        let middle = runs.len() / 2;
        runs.swap_remove(middle)
    }

    /// The number of requests that the simulated server received while the command ran.
    pub(crate) fn sent(&self) -> u64 {
        self.served.as_ref().map_or(0, Stats::total)
    }
}

/// A command whose environment has the bench's credentials, and none of the caller's credentials or proxies.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if ["AWS_", "LITESTREAM_", "S3_"].iter().any(|prefix| upper.starts_with(prefix)) || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A command for the program `hydrant` that was built with this bench. If `HYDRANT_BENCH_BINARY` names another
/// program, that one is used, so that builds can be compared.
pub(crate) fn hydrant() -> Command {
    let named = std::env::var_os("HYDRANT_BENCH_BINARY");
    command(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_hydrant").into()))
}

/// Runs a command `runs` times and returns the run with the median wall time.
pub(crate) fn median_of(runs: u64, server: Option<&Server>, mut make: impl FnMut() -> Command) -> Cost {
    Cost::median((0..runs.max(1)).map(|_| measured(server, &mut make())).collect())
}

/// The pause between two measurements. After a file of a gigabyte is deleted, the kernel is still freeing its
/// blocks and pages for a while.
const PAUSE: Duration = Duration::from_millis(300);

/// One of several things that are measured in turn: the number of runs, and a function that does one run. The
/// function returns None if the program that it needs is not installed.
pub(crate) type Entrant<'a> = (u64, Box<dyn Fn() -> Option<Cost> + 'a>);

/// Measures all of `entrants` in turn, round after round, and returns the median of each. If the machine is slower
/// for a while, it is so for all of them.
pub(crate) fn in_turn(entrants: &[Entrant<'_>]) -> Vec<Option<Cost>> {
    let mut costs: Vec<Vec<Cost>> = entrants.iter().map(|_| Vec::new()).collect();
    for round in 0..entrants.iter().map(|(times, _)| *times).max().unwrap_or(0) {
        for ((times, run), costs) in entrants.iter().zip(&mut costs) {
            if round < *times {
                // The writes and frees that the previous entrant left must not be measured as part of this one.
                rustix::fs::sync();
                std::thread::sleep(PAUSE);
                costs.extend(run());
            }
        }
    }
    costs.into_iter().map(|costs| (!costs.is_empty()).then(|| Cost::median(costs))).collect()
}

/// Runs `command` to its end and measures it. The command must succeed. `server` is the server to which it sends
/// requests.
pub(crate) fn measured(server: Option<&Server>, command: &mut Command) -> Cost {
    succeeded(measure(server, command, false), command)
}

/// The same as [`measured`] for commands that may fail, for example because some of many restores fail.
pub(crate) fn attempted(server: Option<&Server>, command: &mut Command) -> Cost {
    measure(server, command, false)
}

/// The same as [`measured`], and the result contains the command's stdout.
pub(crate) fn captured(server: Option<&Server>, command: &mut Command) -> Cost {
    succeeded(measure(server, command, true), command)
}

fn succeeded(cost: Cost, command: &Command) -> Cost {
    assert!(cost.failure.is_none(), "{command:?} failed: {}", cost.failure.unwrap_or_default());
    cost
}

fn measure(server: Option<&Server>, command: &mut Command, with_stdout: bool) -> Cost {
    // The output goes to files and not to pipes, because it is read only after the command has ended.
    let (mut stdout, mut stderr) = (scratch(), scratch());
    if with_stdout {
        command.stdout(stdout.try_clone().expect("a descriptor"));
    }
    command.stderr(stderr.try_clone().expect("a descriptor"));
    let before = server.map(Server::stats);
    let (server_cpu, cpu) = (server_cpu_seconds(), children_cpu_seconds());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let pid = child.id();
    let (peak_kib, descriptors, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (wall, success) = std::thread::scope(|scope| {
        scope.spawn(|| sample(pid, &peak_kib, &descriptors, &over));
        let ended = child.wait().expect("its end");
        let wall = begun.elapsed().as_secs_f64();
        over.store(true, Relaxed);
        (wall, ended.success())
    });
    let server_cpu = server_cpu_seconds() - server_cpu;
    Cost {
        wall,
        cpu: children_cpu_seconds() - cpu,
        server_cpu,
        peak_mb: peak_kib.into_inner() as f64 * 1024.0 / 1e6,
        descriptors: descriptors.into_inner() as usize,
        served: server.zip(before).map(|(server, before)| server.stats().since(&before)),
        stdout: if with_stdout { text_of(&mut stdout) } else { String::new() },
        failure: (!success).then(|| text_of(&mut stderr)),
    }
}

fn scratch() -> std::fs::File {
    tempfile::tempfile().expect("a temporary file")
}

fn text_of(file: &mut std::fs::File) -> String {
    let mut text = String::new();
    file.rewind().expect("a file");
    let _ = file.read_to_string(&mut text);
    text
}

/// Observes a process until it has ended. The kernel keeps the maximum of its memory, so only growth in the last
/// milliseconds can be missed.
fn sample(pid: u32, peak_kib: &AtomicU64, descriptors: &AtomicU64, over: &AtomicBool) {
    let (status, open) = (format!("/proc/{pid}/status"), format!("/proc/{pid}/fd"));
    for turn in 0u64.. {
        if over.load(Relaxed) {
            return;
        }
        if let Some(kib) = peak_of(&status) {
            peak_kib.fetch_max(kib, Relaxed);
        }
        // Descriptors are counted only in every 16th turn. Counting takes long if the process has many.
        if turn % 16 == 15
            && let Ok(open) = std::fs::read_dir(&open)
        {
            descriptors.fetch_max(open.count() as u64, Relaxed);
        }
        std::thread::sleep(Duration::from_millis((turn + 1).min(10)));
    }
}

fn peak_of(status_file: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status_file).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The CPU time of all child processes that have ended and were waited for, in seconds.
fn children_cpu_seconds() -> f64 {
    // SAFETY: an all-zero rusage is a valid value of the type, which holds numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live value of the right type.
    let done = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert!(done == 0, "getrusage: {}", std::io::Error::last_os_error());
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The CPU time of this process in seconds. This process does little else than serve requests.
pub(crate) fn server_cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
