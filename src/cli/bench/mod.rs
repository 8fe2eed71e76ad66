//! `hydrant bench`: how fast each stage is by itself, and all of them together, with a fleet that
//! is there, through the engine that restores it.
//!
//! `measured` says what came of it, `hlog` keeps the latencies' histograms, `scratch` is where
//! files are written. Only what this command has made is ever removed.

mod hlog;
mod measured;
mod scratch;

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{BenchArgs, BenchStage};
use crate::cli::failures::{from_discovery, no_match};
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::Log;
use crate::cli::ui::{human, screen};
use crate::commit::Replace;
use crate::config::Env;
use crate::error::{Class, escaped};
use crate::fleet::{
    Admission, DatabaseWindow, Descriptors, Discovery, DiscoverySearch, Ended, Ending, Feed, First, Fleet, FleetSource,
    Options, Places, Progress, RunEvent, Settings, Work, discover, folds_case, with_class,
};
use crate::plan::Target;
use crate::process::threads::NoThread;
use crate::restore::DiscardStage;
use crate::telemetry::{Counters, Stages};
use hlog::Hlog;
use measured::{Bench, Measured};
use scratch::Scratch;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Failures told on stderr, of each stage.
const FAILURES_TOLD: u64 = 5;
/// Of the histograms' log.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command; stdout gets what was measured, also of a run that was interrupted.
pub fn run(args: &BenchArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<(), Failure> {
    // Before the workers: it must outlive whatever they still write.
    let scratch = args.output_dir.as_deref().map(Scratch::new).transpose()?;
    let counters = Arc::new(Counters::default());
    let parallel = args.parallel.map(usize::from);
    let useful = Descriptors::useful_databases(args.common.max_requests.map(usize::from));
    let session = Session::open(&args.common, parallel.unwrap_or(useful), false, &counters, log, cancel)?;
    let source = FleetSource::url(&args.url, env, &mut |store| session.store(store)).map_err(|e| from_discovery(&e))?;
    let first = First::new(&[], &source, env).map_err(|e| Failure::usage(e.to_string()))?;
    let mut bench = Bench { source: args.source_shown.clone(), io_engine: session.kind.as_str(), stages: Vec::new() };
    let run =
        BenchRun { args, session, source: Arc::new(source), first, counters, scratch: scratch.as_ref(), log, cancel };
    let (ended, broken) = hlog::within(args.hlog.as_deref(), |hlog| run.all(&mut bench.stages, hlog))?;
    let cancelled = cancel.reason().map(Failure::Cancelled);
    drop(run);
    drop(scratch);
    if bench.stages.iter().any(Measured::is_something) {
        screen::print(&if args.json { bench.to_json(cancelled.is_some()) } else { bench.to_text() })?;
    }
    ended?;
    match (cancelled, broken) {
        (Some(failure), _) | (None, Some(failure)) => Err(failure),
        (None, None) => bench.verdict(),
    }
}

/// A bench under way.
struct BenchRun<'a> {
    args: &'a BenchArgs,
    session: Session,
    source: Arc<FleetSource>,
    /// None.
    first: First,
    counters: Arc<Counters>,
    scratch: Option<&'a Scratch>,
    log: &'a Log,
    cancel: &'a CancellationToken,
}

impl BenchRun<'_> {
    /// One stage after the other. What was measured stands in `measured`, whatever happens.
    fn all(&self, measured: &mut Vec<Measured>, mut hlog: Option<&mut Hlog<'_>>) -> Result<(), Failure> {
        let mut found = match self.args.stages.first() {
            Some(BenchStage::Fetch | BenchStage::Decode) => self.discover()?,
            _ => Discovery::default(),
        };
        // Not a part of any stage.
        drop(self.session.engine.take_stages());
        for &stage in &self.args.stages {
            let mut now = Measured::new(stage);
            let (ended, latency) =
                self.sampled(stage, hlog.as_deref_mut(), || self.passes(stage, &mut found, &mut now))?;
            now.latency = latency;
            // What never began is told by its error.
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

    /// Does `work`; meanwhile what the workers record goes to `hlog`, interval by interval.
    fn sampled<T>(
        &self,
        stage: BenchStage,
        hlog: Option<&mut Hlog<'_>>,
        work: impl FnOnce() -> T,
    ) -> Result<(T, Stages), Failure> {
        let engine = &self.session.engine;
        let Some(hlog) = hlog else {
            let result = work();
            return Ok((result, engine.take_stages()));
        };
        // Dropped when `work` ends, also by a panic: that is what ends the thread.
        let (working, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let sampler = std::thread::Builder::new().name("sampler".to_owned());
            let sampler = sampler.spawn_scoped(scope, move || {
                let mut total = Stages::default();
                // Ends with `work`: the channel is closed then.
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

    /// Passes over the whole fleet until the time is over, at least one.
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

    fn list(&self, measured: &mut Measured) -> Result<Discovery, Failure> {
        let found = measured.time(&self.counters, |_| self.discover())?;
        measured.databases += found.found.len() as u64;
        Ok(found)
    }

    fn rehearse(&self, depth: DiscardStage, found: &Discovery, measured: &mut Measured) -> Result<(), Failure> {
        let found = found.clone();
        measured.time(&self.counters, |measured| {
            // Nothing is written: names count as they would anywhere.
            self.work(Work::Rehearse(depth), Feed::of(found), Path::new("/"), |_| false, measured)
        })
    }

    /// Everything that `restore-pattern` does, into a directory that is removed afterwards.
    fn restore(&self, measured: &mut Measured) -> Result<(), Failure> {
        let Some(scratch) = self.scratch else {
            return Err(Failure::internal("stage all was let through without -output-dir"));
        };
        let dir = scratch.fresh()?;
        measured.time(&self.counters, |measured| {
            let search = DiscoverySearch {
                options: Options::default(),
                early: self.source.is_handed_over() && !folds_case(&dir),
                // A pause would be measured as work.
                max_retries: 0,
                retry_delay: Duration::ZERO,
            };
            let feed = Feed::start(&self.session.engine, Arc::clone(&self.source), search, Arc::default());
            self.work(Work::Restore, feed, &dir, folds_case, measured)
        })?;
        if self.cancel.is_cancelled() {
            // Workers may be writing still.
            return Ok(());
        }
        scratch.remove(&dir)
    }

    fn discover(&self) -> Result<Discovery, Failure> {
        let (source, progress) = (Arc::clone(&self.source), Arc::default());
        let found = self.session.engine.run(move |worker| {
            Box::pin(async move { discover(&worker, &source, Options::default(), &progress).await })
        });
        match found {
            None => Err(self.session.cancelled("a listing ended without a result")),
            Some(Err(e)) => Err(from_discovery(&e)),
            Some(Ok(found)) if found.matched == 0 => Err(no_match(&self.args.source_shown)),
            Some(Ok(found)) => Ok(found),
        }
    }

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
            // A pause would be measured as work.
            max_retries: 0,
            retry_delay: Duration::ZERO,
        };
        let places = Places { output_dir: Arc::from(dir), reserved: Vec::new(), folds };
        let fleet = Fleet {
            engine: &self.session.engine,
            settings: &settings,
            progress: &Progress::default(),
            counters: &self.counters,
            cancel: self.cancel,
        };
        let window =
            DatabaseWindow::new(self.args.parallel.map(usize::from), self.session.tasks, self.session.requests());
        let mut matched = 0;
        let ran = fleet.run(feed, Admission::new(places, &self.first), window, &mut |heard| match heard {
            RunEvent::Ended(ended) => self.ended(&ended, measured),
            RunEvent::AllFound { discovered, .. } => matched = discovered.matched,
            RunEvent::ListingAgain(_) | RunEvent::PossiblyIncomplete(_) | RunEvent::PutRight(_) => {}
        });
        match ran.map_err(|e| Failure::failed(e.class(), e.to_string()))?.discovered {
            None => Err(self.session.cancelled("a listing ended without a result")),
            Some(Err(e)) => Err(from_discovery(&e)),
            Some(Ok(())) if matched == 0 => Err(no_match(&self.args.source_shown)),
            Some(Ok(())) => Ok(()),
        }
    }

    fn ended(&self, ended: &Ended, measured: &mut Measured) {
        measured.add(ended);
        if let Ending::Failed { class, reason } = &ended.ending
            && measured.failed <= FAILURES_TOLD
        {
            self.log.warn(&format!("{}: {}", escaped(ended.name()), with_class(*class, reason)));
            if measured.failed == FAILURES_TOLD {
                self.log.warn("further failures are not shown");
            }
        }
    }
}
