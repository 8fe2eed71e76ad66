//! `hydrant restore`, around the engine: what is checked before, what is said after.

use super::args::{RestoreArgs, Source};
use super::failure::Failure;
use super::human;
use super::log::{Log, Severity};
use super::output::{PlanReport, RestoreReport};
use super::progress::{self, ProgressSnapshot};
use crate::cancel::Cancel;
use crate::config::{self, Config, ConfigError, Env, Location};
use crate::error::Class;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One database to restore.
#[derive(Clone, Copy)]
pub struct RestoreRequest<'a> {
    pub args: &'a RestoreArgs,
    pub location: &'a Location,
    /// Absolute.
    pub output: &'a Path,
    /// `-o` as typed, else absolute: what reports show.
    pub output_shown: &'a str,
    pub env: &'a Env<'a>,
    pub log: &'a Log,
    pub cancel: &'a Cancel,
}

/// What does the work. `plan` and `restore` are called once at most, from the thread that runs
/// the command; `snapshot` meanwhile from another.
pub trait RestoreEngine: Sync {
    /// For `-dry-run`: looks at the replica, never at the output.
    fn plan(&self, request: &RestoreRequest<'_>) -> Result<PlanReport, Failure>;

    /// Checks the output, then asks the replica, then restores (CONTRACT, "Order of checks").
    /// [`Failure::NoBackups`] only where there truly are none.
    fn restore(&self, request: &RestoreRequest<'_>) -> Result<RestoreReport, Failure>;

    /// How far `restore` is.
    fn snapshot(&self) -> ProgressSnapshot;
}

/// Runs the command; the answer is what stdout is to hold.
pub fn run(
    args: &RestoreArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &Cancel,
    engine: &impl RestoreEngine,
) -> Result<String, Failure> {
    let (output, output_shown) = output_path(args)?;
    // Follows links: a dangling one is no database.
    if args.if_db_not_exists && output.metadata().is_ok() {
        log.info("database already exists, skipping");
        return Ok(String::new());
    }
    let location = locate(&args.source, env)?;
    let request =
        RestoreRequest { args, location: &location, output: &output, output_shown: &output_shown, env, log, cancel };
    if args.dry_run {
        let plan = engine.plan(&request)?;
        return Ok(if args.json { plan.to_json() } else { plan.to_text() });
    }
    let ended = progress::during(args.progress, log, || engine.snapshot(), || engine.restore(&request));
    match ended {
        Ok(report) => {
            log.say(Severity::Info, &summary(&report), &[]);
            Ok(if args.json { report.to_json() } else { String::new() })
        }
        Err(Failure::NoBackups) if args.if_replica_exists => {
            log.info("no matching backups found");
            Ok(String::new())
        }
        Err(failure) => Err(failure),
    }
}

/// Where the source's backups are, by its URL or by litestream.yml.
pub fn locate(source: &Source, env: &Env<'_>) -> Result<Location, Failure> {
    let found = match source {
        Source::Url(url) => config::parse_replica_url(url, env),
        Source::Database { path, config } => {
            Config::load(&config.path, config.expand_env, env).and_then(|config| config.find(path))
        }
    };
    found.map_err(|e| from_config(&e))
}

pub(super) fn from_config(error: &ConfigError) -> Failure {
    Failure::failed(error.class(), error.to_string())
}

/// Absolute, and as shown.
fn output_path(args: &RestoreArgs) -> Result<(PathBuf, String), Failure> {
    let typed = match (&args.output, &args.source) {
        (Some(output), _) => output,
        (None, Source::Database { path, .. }) => path,
        (None, Source::Url(_)) => return Err(Failure::usage("-o is required when restoring from a replica URL")),
    };
    let absolute = std::path::absolute(typed)
        .map_err(|e| Failure::failed(Class::Io, format!("cannot make {} absolute: {e}", typed.display())))?;
    Ok((absolute, typed.display().to_string()))
}

/// `restored /tmp/db: 1.1 GiB at txid 00000000000003e8 (…), 502 files, 565 MiB fetched in 640 ms (1.7 GiB/s)`
fn summary(report: &RestoreReport) -> String {
    let took = Duration::from_millis(report.duration_ms);
    let time = report.time.map(|(time, _)| format!(" ({})", time.to_rfc3339_seconds())).unwrap_or_default();
    let speed = human::speed(report.bytes as f64 / took.as_secs_f64().max(0.001));
    format!(
        "restored {}: {} at txid {}{time}, {}, {} fetched in {} ({speed})",
        report.db_path,
        human::bytes(report.bytes),
        report.txid,
        human::count(report.files, "file"),
        human::bytes(report.bytes_fetched),
        human::duration(took),
    )
}

/// Stands where the engine is to be connected.
pub struct Unavailable;

impl RestoreEngine for Unavailable {
    fn plan(&self, _: &RestoreRequest<'_>) -> Result<PlanReport, Failure> {
        Err(Failure::failed(Class::Config, "restore: not available yet in this version"))
    }
    fn restore(&self, _: &RestoreRequest<'_>) -> Result<RestoreReport, Failure> {
        Err(Failure::failed(Class::Config, "restore: not available yet in this version"))
    }
    fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot::default()
    }
}
