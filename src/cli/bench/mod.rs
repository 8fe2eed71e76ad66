//! The command `hydrant bench`: measures how fast the databases that a pattern selects are listed, fetched, decoded
//! and restored. Each stage is measured alone, by the same code that restores databases.
//!
//! `measured` holds the results, `rows` those of each database for reports. `hlog` writes histograms of latencies. `scratch` is the temporary directory that
//! databases are restored to. The command deletes no files but its own.

mod hlog;
mod measured;
mod rows;
mod scratch;

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{BenchArgs, BenchStage};
use crate::cli::failures::{from_config, from_discovery, no_match};
use crate::cli::past;
use crate::cli::reported::RunStart;
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::{human, screen};
use crate::cli::warnings;
use crate::commit::{CommitContext, Replace};
use crate::config::{self, Env};
use crate::error::{Class, escaped};
use crate::fleet::{
    Admission, CatalogueUse, DatabaseWindow, Descriptors, Discovery, DiscoverySearch, Ended, Ending, Feed, First,
    Fleet, FleetSource, Instead, Options, Places, Progress, RunEvent, Settings, Work, discover, folds_case, with_class,
};
use crate::plan::Target;
use crate::process::threads::NoThread;
use crate::report::{self, Timeline};
use crate::restore::DiscardStage;
use crate::telemetry::{Counters, Stages};
use hlog::Hlog;
use measured::{Bench, Measured};
use rows::{BenchRows, EndedCounts};
use scratch::Scratch;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// At most 5 failed databases of each stage are shown on stderr, so that they do not flood the terminal.
const MAX_FAILURES_SHOWN: u64 = 5;
/// The histogram log (`-hlog`) has one line per latency and second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command `hydrant bench` and prints the results on stdout. If a signal ends the run early, the results
/// until then are printed.
pub(super) fn run(args: &BenchArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<(), Failure> {
    let start = RunStart::now();
    let (location, _) = config::parse_pattern_url(&args.url, env).map_err(|e| from_config(&e))?;
    warnings::of_location(log, &location);
    // The directory is declared before the workers. Rust drops variables in reverse order, so if this function
    // returns early, the workers have stopped writing before the directory is removed.
    let scratch = args.output_dir.as_deref().map(Scratch::new).transpose()?;
    let rows = BenchRows::open(args, start)?;
    let counters = Arc::new(Counters::default());
    let parallel = args.parallel.map(usize::from);
    let useful = Descriptors::useful_databases(args.common.max_requests.map(usize::from));
    let session = Session::open(&args.common, parallel.unwrap_or(useful), false, &counters, log, cancel)?;
    let mut refused = Ok(());
    let open = &mut |store: &_| {
        refused = session.refuse_on_disk(store);
        session.store(store)
    };
    let source = FleetSource::url(&args.url, env, open).map_err(|e| from_discovery(&e))?;
    refused?;
    let first = First::new(&[], &source, env).map_err(|e| Failure::usage(e.to_string()))?;
    let mut bench = Bench {
        source: args.source_shown.clone(),
        io_engine: session.backend.as_str(),
        stages: Vec::new(),
        past: None,
    };
    let run = BenchRun {
        args,
        session,
        source: Arc::new(source),
        first,
        counters,
        commit: CommitContext::default(),
        scratch: scratch.as_ref(),
        rows: &rows,
        counts: EndedCounts::default(),
        log,
        cancel,
    };
    let ((ended, timeline), broken) = hlog::within(args.hlog.as_deref(), |hlog| {
        let work = || run.all(&mut bench.stages, hlog);
        match rows.is_wanted() {
            true => report::sampled(start.begun, || run.counts.sample(&run.counters), work),
            false => (work(), Timeline::default()),
        }
    })?;
    bench.past = run.session.pasts().first().map(|past| (past.as_of(), !past.is_incomplete()));
    let last = (run.counts.sample(&run.counters), run.counters.as_ref());
    for error in rows.finish(args, &bench, timeline, last, (&ended, cancel)) {
        log.essential(Severity::Warn, &error.to_string(), &[]);
    }
    let cancelled = cancel.reason().map(Failure::Cancelled);
    past::say_of_fleet(&run.session.pasts(), log);
    drop(run);
    drop(scratch);
    if bench.stages.iter().any(Measured::is_something) {
        let json = || screen::pretty(&bench.to_json(cancelled.is_some()));
        screen::print(&if args.json { json() } else { bench.to_text() })?;
    }
    ended?;
    match (cancelled, broken) {
        (Some(failure), _) | (None, Some(failure)) => Err(failure),
        (None, None) => bench.verdict(),
    }
}

struct BenchRun<'a> {
    args: &'a BenchArgs,
    session: Session,
    source: Arc<FleetSource>,
    /// The databases to restore before all others. Always empty: the command has no flag `-first`.
    first: First,
    counters: Arc<Counters>,
    commit: CommitContext,
    scratch: Option<&'a Scratch>,
    rows: &'a BenchRows,
    counts: EndedCounts,
    log: &'a Log,
    cancel: &'a CancellationToken,
}

impl BenchRun<'_> {
    fn no_match(&self, instead: Option<Instead>) -> Failure {
        no_match(&self.args.source_shown, Some(&self.args.url), instead)
    }

    /// Measures one stage after the other and appends the results to `measured`.
    ///
    /// # Errors
    /// A stage could not be completed, for example because the listing failed or a signal arrived. `measured` has the
    /// results until then.
    fn all(&self, measured: &mut Vec<Measured>, mut hlog: Option<&mut Hlog<'_>>) -> Result<(), Failure> {
        let mut found = match self.args.stages.first() {
            Some(BenchStage::Fetch | BenchStage::Decode) => self.discover()?,
            _ => Discovery::default(),
        };
        // Latencies that were recorded while the databases were listed here belong to no stage, so they are dropped.
        drop(self.session.workers.take_stages());
        for &stage in &self.args.stages {
            let mut now = Measured::new(stage);
            let (ended, latency) =
                self.sampled(stage, hlog.as_deref_mut(), || self.passes(stage, &mut found, &mut now))?;
            now.latency = latency;
            // If a stage failed before its first database, only its error is reported.
            if now.passes > 0 || now.is_something() {
                self.log.info(&format!(
                    "{} measured: {} over {} in {}{}",
                    stage.as_str(),
                    if now.passes == 1 { "1 pass".to_owned() } else { format!("{} passes", now.passes) },
                    human::count(now.databases / now.passes.max(1), "database"),
                    human::duration(now.took),
                    if now.failed > 0 { format!(", {} failed", human::thousands(now.failed)) } else { String::new() },
                ));
            }
            measured.push(now);
            ended?;
        }
        Ok(())
    }

    /// Runs `work`, which measures `stage`, and returns its result and the latencies recorded meanwhile. If `hlog` is
    /// given, a thread also writes these latencies to it, once per [`INTERVAL`].
    ///
    /// # Errors
    /// The thread cannot be started, or it panicked.
    fn sampled<T>(
        &self,
        stage: BenchStage,
        hlog: Option<&mut Hlog<'_>>,
        work: impl FnOnce() -> T,
    ) -> Result<(T, Stages), Failure> {
        let engine = &self.session.workers;
        let Some(hlog) = hlog else {
            let result = work();
            return Ok((result, engine.take_stages()));
        };
        // The sender `working` is dropped when `work` ends, also if it panics. That ends the thread.
        let (working, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let sampler = std::thread::Builder::new().name("sampler".to_owned());
            let sampler = sampler.spawn_scoped(scope, move || {
                let mut total = Stages::default();
                // This loop ends after `work`: the sender is dropped then, and `recv_timeout` fails with another
                // error than a timeout.
                loop {
                    let begun = Instant::now();
                    let is_over = ended.recv_timeout(INTERVAL) != Err(mpsc::RecvTimeoutError::Timeout);
                    let stages = engine.take_stages();
                    hlog.write(stage, begun, &stages);
                    total.add(&stages);
                    if is_over {
                        return total;
                    }
                }
            });
            let sampler = sampler.map_err(|e| Failure::failed(Class::Io, NoThread::from(e).to_string()))?;
            let result = work();
            drop(working);
            let total = sampler.join().map_err(|_| Failure::internal("the thread that samples latencies panicked"))?;
            Ok((result, total))
        })
    }

    /// Measures `stage` in passes over all databases, until the time of `-duration` is over. Makes at least one pass.
    /// `found` are the databases from the last listing; the stage `list` replaces them.
    fn passes(&self, stage: BenchStage, found: &mut Discovery, measured: &mut Measured) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            match stage {
                BenchStage::List => *found = self.list(measured)?,
                BenchStage::Fetch => self.rehearse(DiscardStage::Fetch, found, measured)?,
                BenchStage::Decode => self.rehearse(DiscardStage::Decode, found, measured)?,
                BenchStage::All => self.restore(measured)?,
            }
            if let Some(reason) = self.cancel.reason() {
                return Err(Failure::Cancelled(reason));
            }
            measured.passes += 1;
            if begun.elapsed() >= self.args.duration {
                return Ok(());
            }
        }
    }

    /// Makes one pass of the stage `list`: lists all replicas and returns the databases found.
    fn list(&self, measured: &mut Measured) -> Result<Discovery, Failure> {
        let found = measured.time(&self.counters, |_| self.discover())?;
        measured.databases += found.found.len() as u64;
        Ok(found)
    }

    /// Makes one pass of the stage `fetch` or `decode` over the databases `found`. Pages are discarded.
    fn rehearse(&self, depth: DiscardStage, found: &Discovery, measured: &mut Measured) -> Result<(), Failure> {
        let found = found.clone();
        measured.time(&self.counters, |measured| {
            // Nothing is written in this stage, so the output directory is never used and may be any path.
            self.work(Work::Rehearse(depth), Feed::of(found), Path::new("/"), |_| false, measured)
        })
    }

    /// Makes one pass of the stage `all`: restores all databases as `restore-pattern` does, into a new directory, and
    /// removes the directory.
    fn restore(&self, measured: &mut Measured) -> Result<(), Failure> {
        let Some(scratch) = self.scratch else {
            return Err(Failure::internal("stage all was let through without -output-dir"));
        };
        let dir = scratch.fresh()?;
        measured.time(&self.counters, |measured| {
            let search = DiscoverySearch {
                options: Options::default(),
                catalogue: CatalogueUse::List,
                // Retries are off: their pauses would be measured as work.
                max_retries: 0,
                retry_delay: Duration::ZERO,
            };
            let feed = Feed::start(&self.session.workers, Arc::clone(&self.source), search, Arc::default());
            self.work(Work::Restore, feed, &dir, folds_case, measured)
        })?;
        if self.cancel.is_cancelled() {
            // After a cancellation the workers may still be writing. The directory is removed by `Scratch` when they
            // have stopped.
            return Ok(());
        }
        scratch.remove(&dir)
    }

    /// Lists the replicas and returns the databases that the pattern matches.
    ///
    /// # Errors
    /// The listing failed, or no database matches.
    fn discover(&self) -> Result<Discovery, Failure> {
        let (source, progress) = (Arc::clone(&self.source), Arc::default());
        let found = self.session.workers.run(move |worker| {
            Box::pin(async move { discover(&worker, &source, Options::default(), &progress).await })
        });
        match found {
            None => Err(self.session.cancelled("a listing ended without a result")),
            Some(Err(e)) => Err(past::or_usage(from_discovery(&e), &self.session.pasts())),
            Some(Ok(found)) if found.matched == 0 => Err(self.no_match(found.instead)),
            Some(Ok(found)) => Ok(found),
        }
    }

    /// Does `work` for all databases of `feed`, with outputs below `dir`, and adds each one's result to `measured`.
    ///
    /// # Errors
    /// The listing failed, no database matches, or a signal arrived. The failure of a single database is not an error
    /// here; it is counted in `measured`.
    fn work(
        &self,
        work: Work,
        feed: Feed,
        dir: &Path,
        folds: fn(&Path) -> bool,
        measured: &mut Measured,
    ) -> Result<(), Failure> {
        let settings = Settings {
            work,
            target: Target::Latest,
            check: None,
            replace: Replace::Never,
            if_db_not_exists: false,
            if_replica_exists: false,
            newest_intact: false,
            // A failed database is not restored again here. The pauses before retries would be measured as if they
            // were work.
            max_retries: 0,
            retry_delay: Duration::ZERO,
            fail_fast: false,
            verify: None,
        };
        let places = Places { output_dir: Arc::from(dir), reserved: Vec::new(), folds };
        let fleet = Fleet {
            engine: &self.session.workers,
            settings: &settings,
            progress: &Progress::default(),
            counters: &self.counters,
            commit: &self.commit,
            cancel: self.cancel,
        };
        let window = DatabaseWindow::new(
            self.args.parallel.map(usize::from),
            self.session.max_databases,
            self.session.requests(),
        );
        let (mut matched, mut what_lies_there) = (0, None);
        let result = fleet.run(feed, Admission::new(places, &self.first), window, &mut |event| match event {
            RunEvent::Ended(ended) => self.ended(&ended, measured),
            RunEvent::AllFound { discovered, instead, .. } => {
                (matched, what_lies_there) = (discovered.matched, instead)
            }
            RunEvent::ListingAgain(_) | RunEvent::PutRight(_) | RunEvent::LittleSpace(_) => {}
        });
        match result.map_err(|e| Failure::failed(e.class(), e.to_string()))?.discovered {
            None => Err(self.session.cancelled("a listing ended without a result")),
            Some(Err(e)) => Err(past::or_usage(from_discovery(&e), &self.session.pasts())),
            Some(Ok(())) if matched == 0 => Err(self.no_match(what_lies_there)),
            Some(Ok(())) => Ok(()),
        }
    }

    /// Adds a database that has ended to the results, and logs its failure unless there were too many.
    fn ended(&self, ended: &Ended, measured: &mut Measured) {
        self.counts.add(ended);
        self.rows.add(ended, measured);
        measured.add(ended);
        if let Ending::Failed { class, reason } = &ended.ending
            && measured.failed <= MAX_FAILURES_SHOWN
        {
            self.log.warn(&format!("{}: {}", escaped(ended.name()), with_class(*class, reason)));
            if measured.failed == MAX_FAILURES_SHOWN {
                self.log.warn("further failures are not shown");
            }
        }
    }
}
