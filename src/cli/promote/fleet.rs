//! `hydrant promote -output-dir`: promotes the standbys of a pattern that are below a directory, several at a time. The
//! failure of one does not stop the others.

use super::procedure::{NEXT, Promoted, Promotion, take_over};
use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{PatternSource, PromoteArgs};
use crate::cli::failures::{absolute, from_discovery, no_match};
use crate::cli::restore_pattern::LoadedPattern;
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::screen;
use crate::config::Env;
use crate::error::{Class, escaped};
use crate::fleet::{
    Admission, Discovery, DiscoveryProgress, Ended, Ending, First, FleetSource, Instead, Job, Jobs, Options, Places,
    discover, folds_case,
};
use crate::follow::{FollowLock, sidecar};
use crate::process::locks::lock;
use crate::report::json_line;
use crate::telemetry::Counters;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The follower of a fleet that was asked to end has 10 s for it: it closes many databases.
const FOLLOWER_ENDS: Duration = Duration::from_secs(10);
/// At most 16 databases are promoted at a time. Each has a thread, which waits for requests most of the time: one takes
/// about 5 requests in a row.
const AT_A_TIME: usize = 16;

/// A line of `-json`: a database that has ended.
#[derive(Serialize)]
struct DatabaseLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    db_path: Option<String>,
    outcome: &'static str,
    #[serde(flatten)]
    promoted: Option<Promoted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The last line of `-json`.
#[derive(Serialize)]
struct SummaryLine {
    #[serde(rename = "type")]
    kind: &'static str,
    databases: u64,
    promoted: u64,
    failed: u64,
    skipped: u64,
    interrupted: u64,
    ended_follower: bool,
    duration_ms: u64,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Partial`] if some databases were promoted and some were not. Any other failure if none was.
pub(super) fn run(
    args: &PromoteArgs,
    (pattern, output_dir): (&PatternSource, &Path),
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let loaded = LoadedPattern::load(pattern, env, log)?;
    let section = loaded.defaults()?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let output_dir = absolute(output_dir)?;
    if !output_dir.is_dir() {
        let message = format!("{} is no directory", escaped(&output_dir.to_string_lossy()));
        return Err(Failure::failed(Class::Config, message));
    }
    let counters = Arc::new(Counters::default());
    // As for a follower, a signal ends the work and not the workers.
    let session = Session::open(&args.common, AT_A_TIME, false, &counters, log, &CancellationToken::new())?;
    let source = loaded.open(env, &session)?;
    let first = First::new(&[], &source, env).map_err(|e| Failure::internal(&e.to_string()))?;
    let mut discovery = found(&session, source, cancel)?;
    let instead = discovery.instead.take();
    if discovery.matched == 0 && discovery.failed.is_empty() {
        return Err(nothing_found(&args, pattern, instead));
    }
    discovery.warnings.iter().for_each(|warning| log.warn(warning));
    let places = Places { output_dir: Arc::from(&*output_dir), reserved: Vec::new(), folds: folds_case };
    log.info(&format!("found {}", human::count(discovery.matched, "database")));
    let Jobs { jobs, refused, .. } = Admission::new(places, &first).admit(discovery);
    let take = || FollowLock::take_directory(&output_dir, &args.source_shown);
    let shown = escaped(&output_dir.to_string_lossy());
    let (mut lock, ended_follower) = take_over(take, &shown, FOLLOWER_ENDS, log, cancel)?;
    let fleet = FleetPromotion { args: &args, session: &session, log, cancel, counts: Mutex::default() };
    refused.iter().for_each(|ended| fleet.refused(ended));
    fleet.promote(jobs);
    let counts = fleet.counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if counts.promoted > 0 && counts.failed + counts.skipped + counts.left == 0 {
        lock.discard();
    }
    counts.finish(&args, ended_follower, begun.elapsed(), log, cancel)
}

/// Finds the databases of the pattern.
fn found(session: &Session, source: FleetSource, cancel: &CancellationToken) -> Result<Discovery, Failure> {
    let (source, cancelled) = (Arc::new(source), cancel.clone());
    // With `-output-dir`, configured databases lie below that directory too.
    let options = Options { shard: None, relative_outputs: true };
    let found = session.workers.run(move |worker| {
        Box::pin(async move {
            let progress = DiscoveryProgress::default();
            tokio::select! {
                biased;
                _ = cancelled.cancelled() => None,
                found = discover(&worker, &source, options, &progress) => Some(found),
            }
        })
    });
    match found.flatten() {
        Some(found) => found.map_err(|error| from_discovery(&error)),
        None => Err(Failure::ended_early(cancel, "the listing of the databases ended without a result")),
    }
}

fn nothing_found(args: &PromoteArgs, pattern: &PatternSource, instead: Option<Instead>) -> Failure {
    let url = match pattern {
        PatternSource::Url(url) => Some(url.as_str()),
        PatternSource::Configured { .. } => None,
    };
    no_match(&args.source_shown, url, instead)
}

struct FleetPromotion<'a> {
    args: &'a PromoteArgs,
    session: &'a Session,
    log: &'a Log,
    cancel: &'a CancellationToken,
    counts: Mutex<PromotionCounts>,
}

impl FleetPromotion<'_> {
    /// Promotes the databases of `jobs`, [`AT_A_TIME`] side by side.
    fn promote(&self, jobs: Vec<Job>) {
        let threads = AT_A_TIME.min(self.session.max_databases).min(jobs.len());
        let jobs = Mutex::new(jobs.into_iter());
        let work = || {
            // Ends: each turn takes a job.
            loop {
                let Some(job) = lock(&jobs).next() else { return };
                self.one(&job);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where no more threads can be started, fewer databases are promoted at a time.
                if std::thread::Builder::new().name("promote".to_owned()).spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
    }

    fn one(&self, job: &Job) {
        if self.cancel.is_cancelled() {
            lock(&self.counts).left += 1;
            return;
        }
        let (name, path) = (job.database.name(), job.place.path());
        let key = Some(job.database.id());
        if !path.exists() || matches!(sidecar::read(&path), Ok(None)) {
            let line =
                DatabaseLine { reason: Some("no standby".to_owned()), ..line(name, key, Some(&path), "skipped") };
            self.log.about(Severity::Debug, &format!("{}: no standby, skipping", escaped(name)), &[("database", name)]);
            return self.end(&line, |counts| counts.skipped += 1);
        }
        match self.promotion(job, &path) {
            Ok(promoted) => {
                let text = format!("promoted {} at txid {}", escaped(name), promoted.txid);
                self.log.about(Severity::Debug, &text, &[("database", name)]);
                let line = DatabaseLine { promoted: Some(promoted), ..line(name, key, Some(&path), "promoted") };
                self.end(&line, |counts| counts.promoted += 1);
            }
            Err(Failure::Cancelled(_)) => lock(&self.counts).left += 1,
            Err(failure) => {
                let class = failure.class().unwrap_or(Class::Config);
                self.failed((name, key, Some(&path)), class, failure.message());
            }
        }
    }

    fn promotion(&self, job: &Job, path: &Path) -> Result<Promoted, Failure> {
        // A name from the bucket must not lead out of the directory.
        job.place.check_way().map_err(|error| Failure::failed(error.class(), error.to_string()))?;
        let promotion = Promotion {
            args: self.args,
            session: self.session,
            store: job.database.store.clone(),
            replica: job.database.path().to_owned(),
            database: path,
            prefix: format!("{}: ", escaped(job.database.name())),
            log: self.log,
            cancel: self.cancel,
        };
        promotion.run()
    }

    /// A database or an entry of litestream.yml without an output path.
    fn refused(&self, ended: &Ended) {
        if let Ending::Failed { class, reason } = &ended.ending {
            self.failed((ended.name(), ended.subject.id(), ended.output.as_ref()), *class, reason);
        }
    }

    fn failed(&self, (name, key, path): (&str, Option<&str>, Option<&PathBuf>), class: Class, reason: &str) {
        let keys = [("database", name), ("class", class.as_str())];
        self.log.essential(Severity::Warn, &format!("{}: {reason}", escaped(name)), &keys);
        let (class_shown, reason) = (Some(class.as_str()), Some(reason.to_owned()));
        let line = DatabaseLine { class: class_shown, reason, ..line(name, key, path, "failed") };
        self.end(&line, |counts| {
            counts.failed += 1;
            *counts.classes.entry(class).or_default() += 1;
        });
    }

    fn end(&self, line: &DatabaseLine<'_>, count: impl FnOnce(&mut PromotionCounts)) {
        let mut counts = lock(&self.counts);
        count(&mut counts);
        if self.args.json && counts.stdout_failure.is_none() {
            counts.stdout_failure = screen::print(&json_line(line)).err();
        }
    }
}

fn line<'a>(name: &'a str, key: Option<&'a str>, path: Option<&PathBuf>, outcome: &'static str) -> DatabaseLine<'a> {
    let db_path = path.map(|path| path.to_string_lossy().into_owned());
    DatabaseLine { kind: "database", name, key, db_path, outcome, promoted: None, class: None, reason: None }
}

/// How many databases have ended, and how.
#[derive(Debug, Default)]
struct PromotionCounts {
    promoted: u64,
    failed: u64,
    /// Databases that are no standbys.
    skipped: u64,
    /// Standbys that a signal has left as they were.
    left: u64,
    /// The number of failures of each class.
    classes: BTreeMap<Class, u64>,
    stdout_failure: Option<Failure>,
}

impl PromotionCounts {
    fn finish(
        self,
        args: &PromoteArgs,
        ended_follower: bool,
        took: Duration,
        log: &Log,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let Self { promoted, failed, skipped, left, .. } = self;
        if let Some(failure) = self.stdout_failure {
            return Err(failure);
        }
        if args.json {
            let summary = SummaryLine {
                kind: "summary",
                databases: promoted + failed + skipped + left,
                promoted,
                failed,
                skipped,
                interrupted: left,
                ended_follower,
                duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            };
            screen::print(&json_line(&summary))?;
        }
        let count = human::thousands;
        let mut text =
            format!("promoted {}, failed {}, no standbys {}", count(promoted), count(failed), count(skipped));
        if left > 0 {
            text.push_str(&format!(", interrupted {}", count(left)));
        }
        log.essential(Severity::Info, &format!("{text}; in {}", human::duration(took)), &[]);
        if promoted > 0 {
            log.info(NEXT);
        }
        if let Some(reason) = cancel.reason() {
            return Err(Failure::Cancelled(reason));
        }
        let all = promoted + failed;
        let classes: Vec<_> = self.classes.iter().map(|(class, n)| format!("{} {class}", count(*n))).collect();
        let message = format!("{} of {} standbys were not promoted: {}", count(failed), count(all), classes.join(", "));
        let worst = self.classes.iter().max_by_key(|(_, count)| **count).map(|(class, _)| *class);
        match (promoted, worst) {
            (0, None) => Err(Failure::failed(Class::Config, "no database of the pattern is a standby there")),
            (_, None) => Ok(()),
            (0, Some(class)) => Err(Failure::failed(class, message)),
            (_, Some(_)) => Err(Failure::Partial { message, try_call: None }),
        }
    }
}
