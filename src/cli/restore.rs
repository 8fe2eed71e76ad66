//! The command `hydrant restore`: the checks before the restore and the report after it. The restore itself
//! is behind the trait [`Restorer`], so that tests of this command need no replica.

use crate::cancel::CancellationToken;
use crate::cli::advice;
use crate::cli::args::resolved::{RestoreArgs, Source};
use crate::cli::failures::absolute;
use crate::cli::metrics::{MetricsOutput, depth, refuse_output};
use crate::cli::past;
use crate::cli::slips;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::planned::PlanReport;
use crate::cli::ui::progress::{self, ProgressSnapshot};
use crate::cli::ui::screen::{self, RestoreReport};
use crate::cli::warnings;
use crate::commit::stands_at;
use crate::config::{self, Config, Env, Location, RestorePattern};
use crate::error::Class;
use crate::metrics::RunMetrics;
use crate::restore::NothingFound;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A request to plan or restore one database, made from the command line.
#[derive(Clone, Copy)]
pub struct RestoreRequest<'a> {
    pub args: &'a RestoreArgs,
    /// Where the replica is: a bucket or a local directory, and the path in it.
    pub location: &'a Location,
    /// The absolute path at which the database is to be created.
    pub output: &'a Path,
    /// The same path as messages and reports show it: `-o` as typed, else the configured path.
    pub output_shown: &'a str,
    pub log: &'a Log,
    pub cancel: &'a CancellationToken,
}

/// Plans or restores one database. The command calls either `plan` or `restore`, once. Meanwhile another
/// thread calls `snapshot` repeatedly to show progress.
pub trait Restorer: Sync {
    /// Repairs what an interrupted run left beside `output`, and reports it. Must run before any check
    /// of the output.
    fn put_right(&self, output: &Path, log: &Log);

    /// For `-dry-run`: reads the replica. Of the output it only checks that its directories can be used.
    fn plan(&self, request: &RestoreRequest<'_>) -> Result<PlanReport, Failure>;

    /// Checks the output, then lists the replica, then restores (docs/CLI.md, "Order of checks").
    ///
    /// # Errors
    /// [`Failure::NoBackups`] only if the replica was listed, because `-if-replica-exists` can turn this failure into
    /// a success.
    fn restore(&self, request: &RestoreRequest<'_>) -> Result<RestoreReport, Failure>;

    /// The progress of the running `restore` at this moment.
    fn snapshot(&self) -> ProgressSnapshot;

    /// The counters of requests and bytes.
    fn counters(&self) -> &Counters;
}

/// How the command has ended, if not by a failure.
enum RestoreEnding {
    Restored(Box<RestoreReport>),
    Planned(Box<PlanReport>),
    Skipped,
}

/// Runs the command `hydrant restore` and returns the text to print on stdout.
pub fn run(
    args: &RestoreArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
    engine: &impl Restorer,
) -> Result<String, Failure> {
    if let Some(metrics) = args.metrics_textfile.as_deref() {
        refuse_output(metrics, &output_path(args)?.0)?;
        if !args.dry_run {
            engine.put_right(metrics, log);
        }
    }
    let metrics = MetricsOutput::open(args.metrics_textfile.as_deref(), log)?;
    let ended = end(args, env, log, cancel, engine);
    metrics.write(engine.counters(), |common| figures(args, &ended, common));
    Ok(match ended? {
        RestoreEnding::Restored(report) if args.json => report.to_json(),
        RestoreEnding::Restored(_) | RestoreEnding::Skipped => String::new(),
        RestoreEnding::Planned(plan) => {
            if args.json {
                plan.to_json()
            } else {
                plan.to_text()
            }
        }
    })
}

/// The metrics of a command that has ended.
fn figures(args: &RestoreArgs, ended: &Result<RestoreEnding, Failure>, common: RunMetrics) -> RunMetrics {
    let done = if args.dry_run { "planned" } else { "restored" };
    let mut metrics = RunMetrics {
        command: "restore",
        depth: depth(args.dry_run),
        source: args.source_shown.clone(),
        databases: [done, "skipped", "failed", "interrupted"].map(|outcome| (outcome, 0)).to_vec(),
        ..common
    };
    let (outcome, age) = match ended {
        Ok(RestoreEnding::Restored(report)) => {
            metrics.database_bytes = report.bytes;
            (done, report.time.map(|(time, _)| time.seconds_until(report.reference)))
        }
        Ok(RestoreEnding::Planned(plan)) => (done, plan.age_seconds()),
        Ok(RestoreEnding::Skipped) => ("skipped", None),
        Err(failure) if failure.class() == Some(Class::Cancelled) => ("interrupted", None),
        Err(_) => ("failed", None),
    };
    age.iter().for_each(|age| metrics.ages.add(*age));
    metrics.databases.iter_mut().filter(|(name, _)| *name == outcome).for_each(|(_, count)| *count = 1);
    metrics.succeeded = (outcome == done).then(Timestamp::now);
    metrics
}

fn end(
    args: &RestoreArgs,
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
    engine: &impl Restorer,
) -> Result<RestoreEnding, Failure> {
    let (output, output_shown) = output_path(args)?;
    if args.if_db_not_exists && !args.dry_run {
        engine.put_right(&output, log);
    }
    if args.if_db_not_exists && stands_at(&output) {
        log.essential(Severity::Info, "database already exists, skipping", &[]);
        return Ok(RestoreEnding::Skipped);
    }
    let (location, section) = locate(&args.source, &args.source_shown, env, log)?;
    past::refuse_on_disk(&args.common.store.past, &location.store)?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let args = &args;
    let request =
        RestoreRequest { args, location: &location, output: &output, output_shown: &output_shown, log, cancel };
    let fewer = |failure: Failure| match failure {
        Failure::NoBackups { found, try_call, .. } => {
            let found = without_configured(*found, &args.source, &location, env);
            let advice = advice::of_nothing(&found, &args.source, Some(&output), env);
            Failure::no_backups(found).advised(try_call.or(advice))
        }
        other => other,
    };
    if args.dry_run {
        let plan = engine.plan(&request).map_err(fewer)?;
        plan.newest_state().iter().for_each(|state| log.info(state));
        return Ok(RestoreEnding::Planned(Box::new(plan)));
    }
    let ended = progress::during(args.progress, log, || engine.snapshot(), || engine.restore(&request));
    match ended.map_err(fewer) {
        Ok(report) => {
            log.essential(Severity::Info, &summary(&report), &[]);
            Ok(RestoreEnding::Restored(Box::new(report)))
        }
        Err(Failure::NoBackups { found, .. }) if args.if_replica_exists && found.is_no_backup() => {
            if let Some(warning) = found.warning() {
                log.warn(&warning);
            }
            log.essential(Severity::Info, "no matching backups found", &[]);
            Ok(RestoreEnding::Skipped)
        }
        // Another restore was faster: the output exists now, and did not when this one began.
        Err(Failure::Failed { class: Class::OutputExists, .. })
            if args.if_db_not_exists && output.metadata().is_ok() =>
        {
            log.info("database already exists, skipping");
            Ok(RestoreEnding::Skipped)
        }
        Err(failure) => {
            let advice = advice::of_restore(&failure, &output).or_else(|| failure.advice().cloned());
            Err(failure.advised(advice))
        }
    }
}

/// Finds where the backups of a source are: by its URL, or by litestream.yml. `typed` is the source as messages show
/// it. Also returns the section `restore-pattern` of that file, which holds defaults of flags.
pub fn locate(source: &Source, typed: &str, env: &Env<'_>, log: &Log) -> Result<(Location, RestorePattern), Failure> {
    let found = match source {
        Source::Url(url) => config::parse_replica_url(url, env).map(|location| (location, RestorePattern::default())),
        Source::Database { path, config } => Config::load(&config.path, config.expand_env, env).and_then(|config| {
            warnings::of_other_section(log, &config);
            // A section that cannot be read is warned of above.
            let section = config.restore_pattern.clone().and_then(Result::ok).unwrap_or_default();
            Ok((config.find(path)?, section))
        }),
    };
    let (location, section) = found.map_err(|e| slips::explained(&e, typed))?;
    warnings::of_location(log, &location);
    Ok((location, section))
}

/// `nothing`, without the databases that the same configuration file names: that they lie below the replica's path is
/// no sign of a mistake. For a source without a configuration file, `nothing` unchanged.
pub fn without_configured(nothing: NothingFound, source: &Source, location: &Location, env: &Env<'_>) -> NothingFound {
    let Source::Database { config, .. } = source else { return nothing };
    let Ok(config) = Config::load(&config.path, config.expand_env, env) else { return nothing };
    nothing.without(&|root| config.names_root(&location.store, root))
}

/// The path of the database to create, absolute and as reports show it. It is `-o`, else the path of the
/// configured database.
pub(super) fn output_path(args: &RestoreArgs) -> Result<(PathBuf, String), Failure> {
    let typed = match (&args.output, &args.source) {
        (Some(output), _) => output,
        (None, Source::Database { path, .. }) => path,
        (None, Source::Url(_)) => return Err(Failure::usage("-o is required when restoring from a replica URL")),
    };
    Ok((absolute(typed)?, typed.display().to_string()))
}

/// The message after a successful restore, for example
/// `restored /tmp/db: 1.1 GiB at txid 00000000000003e8 (…), 502 files, 565 MiB fetched in 640 ms (1.7 GiB/s)`.
/// The speed is the size of the database divided by the time.
pub(super) fn summary(report: &RestoreReport) -> String {
    let took = Duration::from_millis(report.duration_ms);
    let time = report.time.map(|(time, _)| {
        let age = human::age(time.seconds_until(report.reference));
        let by = if report.v3.is_some() { " by the listing" } else { "" };
        format!(" ({}{by}, {age} old)", time.to_rfc3339_seconds())
    });
    let time = time.unwrap_or_default();
    let speed = human::speed(report.bytes as f64 / took.as_secs_f64().max(0.001));
    format!(
        "restored {}: {} at {}{time}, {}, {} fetched in {} ({speed})",
        report.db_path,
        human::bytes(report.bytes),
        screen::state(report.txid, report.v3.as_ref()),
        human::count(report.files, "file"),
        human::bytes(report.bytes_fetched),
        human::duration(took),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use super::*;
    use crate::catalogue::Generation;
    use crate::cli::args::resolved::LogFormat;
    use crate::cli::ui::planned::PlannedFiles;
    use crate::cli::ui::screen::{FileLine, TimeSource};
    use crate::ltx::{Level, Txid};
    use crate::plan::V3State;
    use std::ffi::OsString;

    /// A [`Restorer`] that reads and writes nothing. It returns a fixed result.
    struct Fake(Result<RestoreReport, Failure>, Counters);

    fn fake(result: Result<RestoreReport, Failure>) -> Fake {
        Fake(result, Counters::default())
    }

    impl Restorer for Fake {
        fn put_right(&self, _output: &Path, _log: &Log) {}
        fn plan(&self, request: &RestoreRequest<'_>) -> Result<PlanReport, Failure> {
            let report = self.0.clone()?;
            let file = FileLine {
                level: Level::SNAPSHOT,
                min_txid: Txid(1),
                max_txid: report.txid,
                size: 10,
                time: Timestamp::from_millis(0),
                time_source: TimeSource::LastModified,
                version_id: None,
            };
            Ok(PlanReport {
                source: request.args.source_shown.clone(),
                target_path: request.output_shown.to_owned(),
                replica: "file",
                reference: Timestamp::from_millis(0),
                files: PlannedFiles::Ltx(vec![file]),
                lost: None,
                past: None,
            })
        }
        fn restore(&self, request: &RestoreRequest<'_>) -> Result<RestoreReport, Failure> {
            assert!(request.output.is_absolute());
            self.0.clone()
        }
        fn snapshot(&self) -> ProgressSnapshot {
            ProgressSnapshot::default()
        }
        fn counters(&self) -> &Counters {
            &self.1
        }
    }

    fn report() -> RestoreReport {
        RestoreReport {
            db_path: "out.db".to_owned(),
            replica: "file",
            txid: Txid(7),
            v3: None,
            time: Some((Timestamp::from_millis(1_000), TimeSource::Header)),
            reference: Timestamp::from_millis(8_000_000),
            duration_ms: 1_500,
            integrity_check: "none",
            bytes: 3 << 20,
            files: 2,
            bytes_fetched: 1 << 20,
            requests: 3,
            retries: 0,
            hedged: 0,
            lost: None,
            warnings: vec![],
            past: None,
        }
    }

    fn ran(flags: &[&str], engine: &Fake) -> Result<String, Failure> {
        let args = ["restore", "-o", "out.db", "file:///backups/a.db"].iter().chain(flags).map(OsString::from);
        let Ok(Command::Restore(args)) = parse(args, &|_| None) else { panic!("{flags:?}") };
        let log = Log::new(Box::new(std::io::sink()), 0, LogFormat::Text, false, false);
        run(&args, &|_| None, &log, &CancellationToken::new(), engine)
    }

    #[test]
    fn what_stdout_holds() {
        let done = fake(Ok(report()));
        assert_eq!(ran(&[], &done).unwrap(), "");
        assert_eq!(ran(&["-json"], &done).unwrap(), report().to_json());
        assert!(ran(&["-dry-run"], &done).unwrap().contains("\n  target: out.db\n  replica: file\n"));
        assert!(ran(&["-dry-run", "-json"], &done).unwrap().contains("\"source\": \"file:///backups/a.db\""));
        assert_eq!(
            summary(&report()),
            "restored out.db: 3.0 MiB at txid 0000000000000007 (1970-01-01T00:00:01Z, 2 hours old), 2 files, 1.0 MiB fetched in 1.5 s (2.0 MiB/s)"
        );
        let state =
            V3State { generation: Generation(255), index: 16, offset: 4152, time: Timestamp::from_millis(1_000) };
        let time = Some((state.time, TimeSource::LastModified));
        assert_eq!(
            summary(&RestoreReport { v3: Some(state), txid: Txid(0), time, ..report() }),
            "restored out.db: 3.0 MiB at generation 00000000000000ff, index 00000010, offset 00001038 \
             (1970-01-01T00:00:01Z by the listing, 2 hours old), 2 files, 1.0 MiB fetched in 1.5 s (2.0 MiB/s)"
        );
    }

    /// Another restore publishes the database while this one runs.
    #[derive(Default)]
    struct Slower(Counters);

    impl Restorer for Slower {
        fn put_right(&self, _output: &Path, _log: &Log) {}
        fn plan(&self, _request: &RestoreRequest<'_>) -> Result<PlanReport, Failure> {
            Err(Failure::internal("not asked for"))
        }
        fn restore(&self, request: &RestoreRequest<'_>) -> Result<RestoreReport, Failure> {
            std::fs::write(request.output, "the faster one's").unwrap();
            Err(Failure::failed(Class::OutputExists, "output path already exists"))
        }
        fn snapshot(&self) -> ProgressSnapshot {
            ProgressSnapshot::default()
        }
        fn counters(&self) -> &Counters {
            &self.0
        }
    }

    #[test]
    fn the_slower_of_two_skips_if_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.db");
        let run_with = |flags: &[&str]| {
            let args = ["restore", "-o", out.to_str().unwrap(), "file:///backups/a.db"];
            let args = args.iter().chain(flags).map(OsString::from);
            let Ok(Command::Restore(args)) = parse(args, &|_| None) else { panic!("{flags:?}") };
            let log = Log::new(Box::new(std::io::sink()), 0, LogFormat::Text, false, false);
            let ran = run(&args, &|_| None, &log, &CancellationToken::new(), &Slower::default());
            std::fs::remove_file(&out).unwrap();
            ran
        };
        assert_eq!(run_with(&["-if-db-not-exists", "-json"]), Ok(String::new()));
        assert!(matches!(run_with(&[]), Err(Failure::Failed { class: Class::OutputExists, .. })));
    }

    #[test]
    fn no_backups_is_a_skip_only_where_allowed() {
        let nothing = NothingFound::Empty { path: "p".to_owned(), objects: 0, example: None };
        let nothing = Failure::no_backups(nothing);
        let none = fake(Err(nothing.clone()));
        assert_eq!(ran(&[], &none), Err(nothing.clone()));
        assert_eq!(ran(&["-if-replica-exists", "-json"], &none).unwrap(), "");
        assert_eq!(ran(&["-if-replica-exists", "-dry-run"], &none), Err(nothing));
        let inside = NothingFound::Inside { path: "p/0000".to_owned(), replica: "p".to_owned(), root: "p".to_owned() };
        let inside = Failure::no_backups(inside);
        assert_eq!(ran(&["-if-replica-exists"], &fake(Err(inside.clone()))), Err(inside));
        let denied = Failure::failed(Class::AccessDenied, "403");
        assert_eq!(ran(&["-if-replica-exists"], &fake(Err(denied.clone()))), Err(denied));
    }
}
