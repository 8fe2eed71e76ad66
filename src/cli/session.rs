//! The composition root of a command: starts the worker threads, opens the stores (buckets or local
//! directories), and connects them with limits, counters and log. It also implements `hydrant restore`, the
//! restore of one database, with them.

use crate::cancel::CancellationToken;
use crate::catalogue::{Replica, root_of};
use crate::cli::advice;
use crate::cli::args::resolved::{AsOf, CommonArgs, PastArgs, Source, StoreArgs};
use crate::cli::past::{self, FilesWanted, Survey};
use crate::cli::restore::{RestoreRequest, Restorer};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::Log;
use crate::cli::ui::planned::{PlanReport, PlannedFiles, V3FileLine};
use crate::cli::ui::progress::{Phase, ProgressSnapshot};
use crate::cli::ui::screen::{self, FileLine, RestoreReport, TimeSource};
use crate::cli::warnings;
use crate::commit::{CommitContext, Destination, Permissions, Replace, check_way};
use crate::config::StoreConfig;
use crate::error::Class;
use crate::fleet::{Descriptors, LittleSpace, stale_state};
use crate::io::{self, IoBackend};
use crate::ltx::Txid;
use crate::plan::{Target, V3State};
use crate::process::locks;
use crate::restore::{
    self, PastState, PlannedRestore, Request, RestoreError, RestoreOutcome, Restored, SEGMENT_BYTES, Worker, Workers,
    WorkersOptions,
};
use crate::store::file::FileStore;
use crate::store::s3::{Announcer, DEFAULT_REGION, ProcessLimiter as RequestLimits, S3, S3Config, S3Options, Timeouts};
use crate::store::{ByteRate, Past, Store};
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

/// With `-limit-rate`, this many bytes per second are left for each request in flight.
const LEAST_RATE: u64 = 64 << 10;

/// The resources of a running command: its worker threads, its stores, and its limits.
pub(super) struct Session {
    pub workers: Workers,
    /// At most this many databases may be restored at a time.
    pub max_databases: usize,
    /// The I/O backend that writes files: io_uring or pwrite.
    pub backend: IoBackend,
    stores: Stores,
    cancel: CancellationToken,
}

impl Session {
    /// Finds out whether io_uring can be used, and starts one worker per core. At most `max_databases`
    /// databases are restored at a time. Workers and databases are fewer if the limit of open files (`ulimit -n`) is low. `checks` says
    /// whether the command will have SQLite check databases.
    ///
    /// # Errors
    /// The I/O backend that `-io-engine` names cannot be used, or no worker can be started.
    pub(super) fn open(
        common: &CommonArgs,
        max_databases: usize,
        checks: bool,
        counters: &Arc<Counters>,
        log: &Log,
        cancel: &CancellationToken,
    ) -> Result<Self, Failure> {
        let chosen = io::probe(common.io_engine).map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        if let Some(note) = &chosen.note {
            log.info(note);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let descriptors = Descriptors::of_process(cores);
        if let Some(note) = descriptors.note() {
            log.info(&note);
        }
        let max_databases = max_databases.min(descriptors.databases);
        let options = WorkersOptions {
            workers: descriptors.workers,
            kind: chosen.kind,
            memory_bytes: common.memory_bytes,
            // One task more than databases, because finding the databases of a fleet is a task as well.
            tasks: max_databases + 1,
            segment_bytes: SEGMENT_BYTES,
            checks,
            catalogue: common.catalogue,
        };
        let workers = Workers::start(&options, Arc::clone(counters), cancel.clone())
            .map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        if let Some((started, reason)) = workers.fewer_workers() {
            log.info(&format!("{started} of {} workers: {reason}", descriptors.workers));
        }
        let mut s3_options = s3_options(common);
        let by_rate = common.limit_rate.map(most_requests_at);
        let most = [common.max_requests.map(usize::from), descriptors.requests, by_rate];
        s3_options.limits = RequestLimits::new(most.into_iter().flatten().min());
        let stores = Stores::new(s3_options, common.store.clone(), Arc::clone(counters), log.clone());
        Ok(Self { workers, max_databases, backend: chosen.kind, stores, cancel: cancel.clone() })
    }

    /// The limiter that bounds the requests of this process to all buckets.
    pub(super) fn requests(&self) -> &RequestLimits {
        &self.stores.options.limits
    }

    pub(super) fn store(&self, config: &StoreConfig) -> Store {
        self.stores.open(config)
    }

    /// Converts the error of a restore to the failure of the command. `error` is None if the workers ended
    /// before the restore had a result.
    pub(super) fn failure(&self, error: Option<RestoreError>) -> Failure {
        match error {
            Some(RestoreError::Nothing(found)) => Failure::no_backups(found),
            Some(e) if e.class() != Class::Cancelled => {
                Failure::failed(e.class(), e.to_string()).advised(advice::of_replica(&e))
            }
            Some(_) => self.cancelled("a restore was cancelled that nothing asked to stop"),
            None => self.cancelled("the workers ended before they had a result"),
        }
    }

    /// The store of a command about one database. With `-as-of` also the database's files of that time.
    ///
    /// # Errors
    /// With `-as-of`, as [`past::survey`].
    fn survey(&self, request: &RestoreRequest<'_>) -> Result<(Store, Option<Replica>, Option<Survey>), Failure> {
        let store = self.store(&request.location.store);
        let past = request.args.common.store.past;
        if past.as_of.is_none() {
            return Ok((store, None, None));
        }
        let args = request.args;
        let wanted = match args.target {
            Target::Latest if !args.newest_intact && args.generation.is_none() => FilesWanted::OfNewestState,
            Target::Latest | Target::Txid(_) | Target::Timestamp(_) | Target::Pinned(_) => FilesWanted::All,
        };
        let path = request.location.path.clone();
        let surveyed = self.workers.run(move |worker| {
            Box::pin(
                async move { past::survey(&worker.http, &store, &path, &past, wanted, &worker.shared.catalogue).await },
            )
        });
        let survey = surveyed.unwrap_or_else(|| Err(self.failure(None)))?;
        survey.warn(request.log);
        Ok((survey.store.clone(), Some(survey.replica.clone()), Some(survey)))
    }

    /// `failure` of a restore, with the time from which more can be had. An ordinary restore asks the bucket for it in
    /// one request, if it found nothing or a broken chain.
    fn explained(
        &self,
        failure: Failure,
        request: &RestoreRequest<'_>,
        store: &Store,
        path: &str,
        survey: Option<&Survey>,
    ) -> Failure {
        if let Some(survey) = survey {
            return survey.advised(failure);
        }
        let is_lost = matches!(
            failure.class(),
            Some(Class::BackupNotFound | Class::Hole | Class::ChainDoesNotBeginAtOne | Class::NoSnapshot)
        );
        let is_accepted = request.args.if_replica_exists && matches!(failure, Failure::NoBackups { .. });
        if !is_lost || is_accepted || store.is_on_disk() {
            return failure;
        }
        let (store, path) = (store.clone(), path.to_owned());
        let found = self
            .workers
            .run(move |worker| Box::pin(async move { past::deleted_states(&worker.http, &store, &path).await }));
        match found.flatten() {
            Some((files, advice)) => {
                let files = human::count(files as u64, "deleted file");
                request.log.info(&format!("the bucket keeps deleted versions: of {files}"));
                failure.advised(Some(advice))
            }
            None => failure,
        }
    }

    /// Refuses `-as-of` for a store that has no versions.
    ///
    /// # Errors
    /// The store is a disk.
    pub(super) fn refuse_on_disk(&self, config: &StoreConfig) -> Result<(), Failure> {
        past::refuse_on_disk(&self.stores.overrides.past, config)
    }

    /// The buckets of the past that the command has opened.
    pub(super) fn pasts(&self) -> Vec<Arc<Past>> {
        locks::lock(&self.stores.pasts).clone()
    }

    /// The line for a list of files that takes more memory than the budget, which only a budget that nobody gave
    /// allows.
    pub(super) fn catalogue_note(&self) -> Option<String> {
        let (most, limit) = self.workers.shared().catalogue.exceeded()?;
        Some(format!(
            "the list of the files takes {}, more than the memory budget; without --memory it may take up to {}, half of \
             what this machine and its cgroup allow",
            human::bytes(most),
            human::bytes(limit)
        ))
    }

    /// The failure of work that ended without a result. If a signal has cancelled the run, that is the failure.
    /// Otherwise it is a bug in Hydrant, which `what` describes.
    pub(super) fn cancelled(&self, what: &str) -> Failure {
        Failure::ended_early(&self.cancel, what)
    }
}

/// The number of requests in flight with which each still gets [`LEAST_RATE`] of a limited rate. With more of them,
/// connections would come to a halt, and servers would close them.
fn most_requests_at(bytes_per_second: u64) -> usize {
    usize::try_from(bytes_per_second / LEAST_RATE).unwrap_or(usize::MAX).max(1)
}

/// The S3 options that all stores of a command share, from its flags and from the environment.
pub(super) fn s3_options(common: &CommonArgs) -> S3Options {
    let mut options = S3Options::from_process();
    options.limits = RequestLimits::new(common.max_requests.map(usize::from));
    options.byte_rate = ByteRate::new(common.limit_rate);
    options.timeouts.start = common.connect_timeout.unwrap_or(Timeouts::DEFAULT_START);
    options.timeouts.stall = match common.stall_timeout {
        Some(Duration::ZERO) => Duration::MAX,
        limit => limit.unwrap_or(Timeouts::DEFAULT_STALL),
    };
    if common.store.profile.is_some() {
        options.environment.use_profile(common.store.profile.clone());
    }
    options
}

/// Opens the stores of a command, which all share the same options and counters.
pub(super) struct Stores {
    options: S3Options,
    overrides: StoreArgs,
    counters: Arc<Counters>,
    log: Log,
    /// The buckets of the past that were opened.
    pasts: Mutex<Vec<Arc<Past>>>,
    /// Makes sure that the warning about `skip-verify` (TLS certificates are not checked) is logged only once.
    warned: Once,
}

impl Stores {
    pub(super) fn new(mut options: S3Options, overrides: StoreArgs, counters: Arc<Counters>, log: Log) -> Self {
        let said = log.clone();
        options.announcer = Announcer::new(move |text| said.info(text));
        Self { options, overrides, counters, log, pasts: Mutex::default(), warned: Once::new() }
    }

    pub(super) fn open(&self, config: &StoreConfig) -> Store {
        match config {
            StoreConfig::S3(config) => {
                if config.skip_verify {
                    self.warned.call_once(|| {
                        self.log.warn("skip-verify: the server's certificate is not checked, anyone in between can read and change what is fetched");
                    });
                }
                let config = overridden(config.clone(), &self.overrides);
                let s3 = Arc::new(S3::new(config, &self.options, Arc::clone(&self.counters)));
                let PastArgs { as_of, allow_incomplete, limit_bytes } = self.overrides.past;
                match as_of {
                    Some(AsOf::Time(time)) => {
                        let past = Arc::new(Past::new(s3, time, limit_bytes, allow_incomplete, root_of));
                        locks::lock(&self.pasts).push(Arc::clone(&past));
                        Store::Past(past)
                    }
                    // The time is not known yet: `past::survey` finds it.
                    Some(AsOf::Last) | None => Store::S3(s3),
                }
            }
            StoreConfig::File => Store::File(FileStore::limited(self.options.byte_rate.clone())),
        }
    }
}

/// A bucket's settings with what flags say about the service.
fn overridden(mut config: S3Config, flags: &StoreArgs) -> S3Config {
    if let Some(endpoint) = &flags.endpoint {
        config.endpoint = Some(endpoint.clone());
        config.path_style = true;
        // The region of another service says nothing about this one.
        config.region = config.region.or_else(|| Some(DEFAULT_REGION.to_owned()));
    }
    if let Some(region) = &flags.region {
        config.region = Some(region.clone());
    }
    if flags.profile.is_some() || flags.anonymous {
        config.credentials = None;
    }
    config.anonymous = flags.anonymous;
    config
}

/// `hydrant restore`: one database, by the engine that restores fleets.
pub(super) struct OneDatabase {
    counters: Arc<Counters>,
    commit: CommitContext,
}

impl OneDatabase {
    /// A database that is to get `permissions`, and is staged in the directory `staging` if its file system takes bytes
    /// in order only. None: it is then refused.
    pub(super) fn new(permissions: Permissions, staging: Option<PathBuf>) -> Self {
        Self { counters: Arc::default(), commit: CommitContext::new(permissions, staging) }
    }

    /// The counters of requests and bytes, for another session.
    pub(super) const fn counters_shared(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Puts right what interrupted runs left beside the output, and checks the output.
    pub(super) fn prepare(&self, request: &RestoreRequest<'_>) -> Result<Destination, Failure> {
        let replace = if request.args.force { Replace::Force } else { Replace::Never };
        self.put_right(request.output, request.log);
        let destination = Destination::prepare(&self.commit, request.output, replace)
            .map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        let on_disk = (request.location.store == StoreConfig::File).then_some(request.location.path.as_str());
        if let Some(warning) = stale_state(request.output, on_disk) {
            request.log.warn(&warning);
        }
        Ok(destination)
    }

    /// Restores by `run`, which publishes the database at `destination`. `failure` converts its error.
    pub(super) fn restore_to<E: Send + 'static>(
        &self,
        request: &RestoreRequest<'_>,
        destination: Arc<Destination>,
        begun: Instant,
        run: impl AsyncFnOnce(Rc<Worker>, Request) -> Result<RestoreOutcome, E> + Send + 'static,
        failure: impl FnOnce(&Session, E) -> Failure,
    ) -> Result<RestoreReport, Failure> {
        let args = request.args;
        let check = args.integrity_check.mode();
        let session = Session::open(&args.common, 1, check.is_some(), &self.counters, request.log, request.cancel)?;
        let (store, replica, survey) = session.survey(request)?;
        let (shown_store, shown_path) = (store.clone(), request.location.path.clone());
        let order = Request {
            store,
            path: request.location.path.clone(),
            replica,
            target: args.target,
            generation: args.generation,
            newest_intact: args.newest_intact,
            destination,
            check,
            parallelism: args.parallelism.map(usize::from),
        };
        let restored = session.workers.run(|worker| Box::pin(run(worker, order)));
        self.commit.take_notices().iter().for_each(|notice| warnings::of_notice(request.log, notice));
        let restored = match restored {
            Some(Ok(restored)) => restored,
            Some(Err(e)) => {
                let failure = failure(&session, e);
                return Err(session.explained(failure, request, &shown_store, &shown_path, survey.as_ref()));
            }
            None => return Err(session.failure(None)),
        };
        if let Some(survey) = &survey {
            let state = state_text(restored.txid, restored.v3.as_ref());
            survey.report(&state, restored.past.as_deref(), request.log);
        }
        // The database is going to be replicated from here, as litestream.yml says.
        let is_primary =
            !args.follow && matches!(&args.source, Source::Database { path, .. } if path == request.output);
        let not_going_on = (is_primary && !restored.ends.goes_on()).then(|| restored.ends.to_string());
        let report = RestoreReport {
            db_path: request.output_shown.to_owned(),
            replica: request.location.store.kind(),
            txid: restored.txid,
            time: Some(match &restored.v3 {
                Some(v3) => (v3.time, TimeSource::LastModified),
                None => (restored.timestamp, TimeSource::Header),
            }),
            v3: restored.v3,
            reference: reference(&args.target, restored.past.as_deref()),
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            integrity_check: args.integrity_check.as_str(),
            bytes: restored.bytes_out,
            files: restored.files as u64,
            bytes_fetched: restored.bytes_in,
            requests: self.counters.sent(),
            retries: self.counters.retries.get(),
            hedged: self.counters.hedges.get(),
            warnings: restored.all_warnings().into_iter().chain(not_going_on).collect(),
            past: restored.past.map(|past| *past),
            lost: restored.lost,
        };
        if let Some(note) = session.catalogue_note() {
            request.log.info(&note);
        }
        for warning in &report.warnings {
            request.log.warn(warning);
        }
        if survey.is_some() {
            Survey::say_what_follows(request.log);
        }
        crate::cli::ui::latency_table::show(request.log, &session.workers.take_stages());
        Ok(report)
    }
}

impl Restorer for OneDatabase {
    fn put_right(&self, output: &Path, log: &Log) {
        self.commit.sweep_beside(output).iter().for_each(|notice| warnings::of_notice(log, notice));
    }

    fn plan(&self, request: &RestoreRequest<'_>) -> Result<PlanReport, Failure> {
        check_way(request.output).map_err(|e| Failure::failed(e.class(), e.to_string()))?;
        let session = Session::open(&request.args.common, 1, false, &self.counters, request.log, request.cancel)?;
        let (store, replica, survey) = session.survey(request)?;
        let (shown_store, shown_path) = (store.clone(), request.location.path.clone());
        let (path, target, generation) = (request.location.path.clone(), request.args.target, request.args.generation);
        let newest_intact = request.args.newest_intact;
        let planned = session.workers.run(move |worker| {
            Box::pin(async move {
                restore::plan_database(&worker, &store, &path, replica, &target, generation, newest_intact).await
            })
        });
        let planned = match planned {
            Some(Ok(planned)) => planned,
            Some(Err(e)) => {
                let failure = session.failure(Some(e));
                return Err(session.explained(failure, request, &shown_store, &shown_path, survey.as_ref()));
            }
            None => return Err(session.failure(None)),
        };
        let past = PastState::of(&shown_store, &planned.replica, &planned.plan);
        if let Some(survey) = &survey {
            let state = state_text(planned.plan.txid, planned.plan.v3.as_ref().map(|v3| &v3.state));
            survey.report(&state, past.as_ref(), request.log);
        }
        for warning in planned.all_warnings() {
            request.log.warn(&warning);
        }
        if let Some(little) = LittleSpace::for_one(request.output, planned.bytes()) {
            warnings::of_little_space(request.log, &little);
        }
        Ok(PlanReport {
            source: request.args.source_shown.clone(),
            target_path: request.output_shown.to_owned(),
            replica: request.location.store.kind(),
            reference: reference(&request.args.target, past.as_ref()),
            files: planned_files(&planned, &shown_store)?,
            lost: planned.lost.as_ref().map(ToString::to_string),
            past,
        })
    }

    fn restore(&self, request: &RestoreRequest<'_>) -> Result<RestoreReport, Failure> {
        let begun = Instant::now();
        let destination = Arc::new(self.prepare(request)?);
        self.restore_to(request, destination, begun, restore_durably, |session, error| session.failure(Some(error)))
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn snapshot(&self) -> ProgressSnapshot {
        let counters = &self.counters;
        let (bytes_done, bytes_total) = (counters.bytes_out.get(), counters.bytes_out_planned.get());
        ProgressSnapshot {
            phase: if bytes_total == 0 { Phase::Listing } else { Phase::Restoring },
            bytes_done,
            bytes_total,
            databases: None,
            retries: counters.retries.get(),
            throttled: counters.throttled.get(),
            per_second: None,
        }
    }
}

/// The state that was reached, for the line about a bucket's past.
fn state_text(txid: Txid, v3: Option<&V3State>) -> String {
    if v3.is_some() { screen::state(txid, v3) } else { format!("TXID {txid}") }
}

/// The time from which the age of a state is measured back.
fn reference(target: &Target, past: Option<&PastState>) -> Timestamp {
    match (target, past) {
        (Target::Timestamp(at), _) => *at,
        (_, Some(past)) => past.as_of,
        (Target::Latest | Target::Txid(_) | Target::Pinned(_), None) => Timestamp::now(),
    }
}

/// Restores a database and makes its name durable, by an fsync of its directory.
async fn restore_durably(worker: Rc<Worker>, order: Request) -> Result<RestoreOutcome, RestoreError> {
    let restored = restore::restore(&worker, order).await?;
    let Restored { published, outcome } = restored;
    // These fsyncs block the worker thread. That is acceptable, because there is one directory to sync, plus
    // its new parents, and no other database waits.
    published.sync_dir()?;
    Ok(outcome)
}

/// The files of a plan as `-dry-run` shows them. An LTX file's time is the one in its header if planning has read
/// it, else the LastModified of the listing, because reading more headers would take more requests.
fn planned_files(planned: &PlannedRestore, store: &Store) -> Result<PlannedFiles, Failure> {
    let version_id = |key: &str| store.version_id(key).map(String::from);
    let not_listed = || Failure::internal("a plan names a file that was not listed");
    if let Some(plan) = &planned.plan.v3 {
        let v3 = planned.replica.v3.as_deref().ok_or_else(not_listed)?;
        let line = |&i: &usize| {
            let file = v3.files.get(i).ok_or_else(not_listed)?;
            let (key, generation) = (v3.key(file), format!("{}generations/{}/", v3.root, file.generation));
            let name = key.strip_prefix(&generation).unwrap_or(&key).to_owned();
            let version_id = version_id(&key);
            Ok(V3FileLine { key, name, size: file.size, time: file.last_modified, version_id })
        };
        let files = planned.plan.files.iter().map(line).collect::<Result<_, Failure>>()?;
        return Ok(PlannedFiles::V3 { state: plan.state, files });
    }
    let line = |&i: &usize| {
        let file = planned.replica.files.get(i).ok_or_else(not_listed)?;
        let time = planned.times.get(i);
        Ok(FileLine {
            level: file.level,
            min_txid: file.min_txid,
            max_txid: file.max_txid,
            size: file.size,
            time: time.unwrap_or(file.last_modified),
            time_source: if time.is_some() { TimeSource::Header } else { TimeSource::LastModified },
            version_id: version_id(&planned.replica.key(file)),
        })
    };
    planned.plan.files.iter().map(line).collect::<Result<_, Failure>>().map(PlannedFiles::Ltx)
}
