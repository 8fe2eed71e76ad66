//! Tests of restores that begin while the listing still runs: when they begin, that the result is the same, and
//! what happens if the listing fails half-way or is unsorted.

use crate::common::fleet::{engine, env, open};
use crate::common::raw::{RawServer, answer, answer_range, refuse};
use crate::common::wait::Gate;
use hydrant::cancel::{CancellationToken, Reason};
use hydrant::catalogue::Replica;
use hydrant::commit::{CommitContext, Replace};
use hydrant::error::Class;
use hydrant::fleet::{
    Admission, DatabaseRef, DatabaseWindow, DiscoverError, Discovered, Discovery, DiscoverySearch, Ended, Ending, Feed,
    First, Fleet, FleetSource, Found, Options, Output, Places, Progress, RunEvent, RunResult, Settings, Shard, Work,
};
use hydrant::io::IoBackend;
use hydrant::plan::Target;
use hydrant::restore::{SEGMENT_BYTES, Workers, WorkersOptions};
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use hydrant::sim::server::{Failure, Faults, Latency, Object, RequestKind, SimOptions, SimServer, Tail};
use hydrant::store::Store;
use hydrant::store::s3::ProcessLimiter;
use hydrant::telemetry::Counters;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

fn source(server: &SimServer, pattern: &str) -> FleetSource {
    source_at(&server.endpoint().to_string(), pattern)
}

fn source_at(endpoint: &str, pattern: &str) -> FleetSource {
    let url = format!("s3://{pattern}?endpoint={endpoint}&forcePathStyle=true&region=us-east-1");
    FleetSource::url(&url, &env, &mut |config| open(config)).unwrap()
}

/// Faults that make LIST requests slow until some databases have ended. All other requests are fast.
fn slow_listing() -> Faults {
    Faults {
        latency: Latency::Fixed(Duration::from_millis(1)),
        tail: Some(Tail { fraction: 1.0, factor: 700.0 }),
        only_kind: Some(RequestKind::List),
        ..Faults::default()
    }
}

fn put(server: &SimServer, count: usize, rename: impl Fn(usize) -> String) {
    for (i, database) in tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).unwrap().iter().enumerate() {
        for object in &database.objects {
            let key = object.key.replacen(&format!("fleet/{i:06}.db"), &rename(i), 1);
            server.objects().put("bucket", &key, Object::new(object.bytes.clone()));
        }
    }
}

/// The number of databases that must end while the listing is slow. After them it becomes fast.
const EARLY: usize = 25;

/// The result of a run, and the order of its events.
struct Came {
    ended: BTreeMap<String, Ended>,
    /// Databases that were counted as restored and later as failed, because the listing showed more of their files.
    incomplete: BTreeMap<String, Ended>,
    /// The number of databases that ended before all were known.
    early: usize,
    /// The number of LIST requests sent when the first database was restored, and at the end of the run.
    lists: (u64, u64),
    found: Option<Discovered>,
    again: usize,
    ran: RunResult,
    files: BTreeMap<String, Vec<u8>>,
    total: u64,
}

fn read(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type().unwrap().is_dir() {
            true => read(&entry.path(), &format!("{name}/"), files),
            false => drop(files.insert(name, std::fs::read(entry.path()).unwrap())),
        }
    }
}

fn search(early: bool) -> DiscoverySearch {
    let retry_delay = Duration::from_millis(20);
    DiscoverySearch { options: Options::default(), early, max_retries: 0, retry_delay }
}

fn run(server: &SimServer, pattern: &str, search: DiscoverySearch) -> Came {
    let source = source(server, pattern);
    let first = First::new(&[], &source, &env).unwrap();
    let engine = engine();
    let progress = Progress::default();
    let feed = Feed::start(&engine, Arc::new(source), search, Arc::clone(&progress.discovery));
    run_feed(Some(server), &engine, feed, &first, &progress, None, &Gate::default())
}

fn settings() -> Settings {
    Settings {
        work: Work::Restore,
        target: Target::Latest,
        check: None,
        replace: Replace::Never,
        if_db_not_exists: false,
        if_replica_exists: false,
        max_retries: 0,
        retry_delay: Duration::ZERO,
    }
}

/// Runs a fleet. `feed` gives it databases while they are found. `late` is opened when the database [`LATE`] has
/// ended.
fn run_feed(
    server: Option<&SimServer>,
    engine: &Workers,
    feed: Feed,
    first: &First,
    progress: &Progress,
    stop: Option<Reason>,
    late: &Gate,
) -> Came {
    let out = tempfile::tempdir().unwrap();
    let settings = settings();
    let cancel = CancellationToken::new();
    let fleet = Fleet {
        engine,
        settings: &settings,
        progress,
        counters: &Counters::default(),
        commit: &CommitContext::default(),
        cancel: &cancel,
    };
    let places = Places { output_dir: out.path().into(), reserved: Vec::new(), folds: |_| false };
    let lists = || server.map_or(0, |server| server.stats().of_kind(RequestKind::List));
    let (mut ended, mut early, mut first_lists, mut found, mut again) = (BTreeMap::new(), 0, None, None, 0);
    let mut incomplete = BTreeMap::new();
    let mut hear = |heard: RunEvent| match heard {
        RunEvent::Ended(e) => {
            first_lists.get_or_insert_with(lists);
            if e.name() == LATE {
                late.open();
            }
            assert!(ended.insert(e.name().to_owned(), e).is_none(), "ends once");
            if let (EARLY, Some(server)) = (ended.len(), server) {
                server.set_faults(Faults::default());
            }
        }
        RunEvent::AllFound { discovered, .. } => {
            early = ended.len();
            found = Some(discovered);
            stop.into_iter().for_each(|reason| cancel.cancel(reason));
        }
        RunEvent::PossiblyIncomplete(e) => {
            assert!(incomplete.insert(e.name().to_owned(), e).is_none(), "incomplete once");
        }
        RunEvent::ListingAgain(_) => again += 1,
        RunEvent::PutRight(notice) => panic!("{notice}"),
    };
    let ran = fleet
        .run(feed, Admission::new(places, first), DatabaseWindow::new(None, 16, &ProcessLimiter::default()), &mut hear)
        .unwrap();
    let mut files = BTreeMap::new();
    read(out.path(), "", &mut files);
    let lists = (first_lists.unwrap_or_default(), lists());
    let total = progress.total.load(Relaxed);
    Came { ended, incomplete, early, lists, found, again, ran, files, total }
}

fn failures(came: &Came) -> BTreeMap<&str, Class> {
    let class = |ended: &Ended| match ended.ending {
        Ending::Failed { class, .. } => Some(class),
        _ => None,
    };
    came.ended.iter().filter_map(|(name, ended)| Some((name.as_str(), class(ended)?))).collect()
}

fn is_all(came: &Came) -> bool {
    matches!(came.ran.discovered, Some(Ok(()))) && came.ran.left == 0
}

#[test]
fn databases_are_restored_while_the_listing_runs() {
    let options = SimOptions { max_keys: 20, faults: slow_listing(), ..SimOptions::default() };
    let server = SimServer::start(options).unwrap();
    put(&server, 300, |i| format!("tenants/t{i:04}/app.db"));
    let early = run(&server, "bucket/**", search(true));
    assert!(is_all(&early) && failures(&early).is_empty());
    println!("{} early, {:?} LISTs", early.early, early.lists);
    assert!(early.early >= EARLY, "{}", early.early);
    assert!(early.lists.0 * 2 < early.lists.1, "the first was restored after {:?} LISTs", early.lists);
    let found = early.found.unwrap();
    assert_eq!((found.matched, found.databases, found.folders, found.with_backups), (300, 300, 300, 300));
    assert_eq!((early.files.len(), early.total), (300, 300));

    server.set_faults(Faults::default());
    let whole = run(&server, "bucket/**", search(false));
    assert!(is_all(&whole) && whole.early == 0 && whole.lists.0 == whole.lists.1);
    assert_eq!(whole.files, early.files);

    // With a shard, the counts are those of the whole fleet.
    server.set_faults(slow_listing());
    let options = Options { shard: Some(Shard { index: 1, of: 3 }), ..Options::default() };
    let share = run(&server, "bucket/**", DiscoverySearch { options, ..search(true) });
    let found = share.found.unwrap();
    assert_eq!((found.matched, found.databases), (300, share.files.len() as u64));
    assert!(share.early >= EARLY && (60..140).contains(&share.files.len()));
}

/// The names of databases sort before `ltx/`. The listing therefore cannot show in time whether the directory above
/// them is itself a database in that layout. One additional request must find out.
#[test]
fn a_flat_fleet_does_not_wait_for_its_directory() {
    let options = SimOptions { max_keys: 100, faults: slow_listing(), ..SimOptions::default() };
    let server = SimServer::start(options).unwrap();
    put(&server, 600, |i| format!("fleet/d{i:06}.db"));
    let came = run(&server, "bucket/**", search(true));
    assert!(is_all(&came) && failures(&came).is_empty() && came.files.len() == 600);
    assert!(came.early >= EARLY, "{}", came.early);
}

#[test]
fn collisions_are_decided_as_by_the_whole_list() {
    let server = SimServer::start(SimOptions { max_keys: 7, faults: slow_listing(), ..SimOptions::default() }).unwrap();
    // The keys of `a/b.db` come after those of `a/b.db/…`, so a database inside another is complete before it is
    // known where the outer one ends.
    let names = ["a/-x.db", "a/b.db/-c.db", "a/b.db/1.db", "a/b.db", "a/b.db-wal", "b/c.db"];
    put(&server, 60, |i| names.get(i).map_or_else(|| format!("z/{i:06}.db"), |name| (*name).to_owned()));
    // The outer database also exists in the layout whose keys come last.
    for key in server.objects().keys("bucket", "b/c.db/") {
        let object = server.objects().get("bucket", &key).unwrap();
        let (level, name) = key.strip_prefix("b/c.db/000").unwrap().split_once('/').unwrap();
        server.objects().put("bucket", &format!("m/ltx/{level}/{name}"), (*object).clone());
        server.objects().put("bucket", &format!("m/d.db/000{level}/{name}"), (*object).clone());
    }
    let early = run(&server, "bucket/**", search(true));
    let whole = run(&server, "bucket/**", search(false));
    assert!(is_all(&early) && early.early > 0, "{}", early.early);
    let expected = ["a/b.db-wal", "a/b.db/-c.db", "a/b.db/1.db", "m/d.db"].map(|name| (name, Class::PathCollision));
    assert_eq!(failures(&early), BTreeMap::from(expected));
    assert_eq!(failures(&early), failures(&whole));
    assert_eq!(early.files, whole.files);
}

#[test]
fn a_listing_out_of_order_comes_first() {
    let options = SimOptions { max_keys: 20, unsorted_listings: true, ..SimOptions::default() };
    let server = SimServer::start(options).unwrap();
    put(&server, 60, |i| format!("t{i:04}/app.db"));
    let came = run(&server, "bucket/**", search(true));
    assert!(is_all(&came) && failures(&came).is_empty());
    assert_eq!((came.early, came.files.len()), (0, 60));
}

#[test]
fn a_listing_that_fails_half_way_leaves_what_it_had_found() {
    let server = SimServer::start(SimOptions { max_keys: 20, ..SimOptions::default() }).unwrap();
    put(&server, 200, |i| format!("p/{i:04}.db"));
    server.script(RequestKind::List, "p/", [vec![None; 20], vec![Some(Failure::InternalError); 1000]].concat());
    let came = run(&server, "bucket/p/", search(true));
    assert!(matches!(&came.ran.discovered, Some(Err(DiscoverError::Store(e))) if e.class() == Class::S3Error));
    assert!((1..200).contains(&came.files.len()), "{}", came.files.len());
    assert_eq!((came.ended.len(), failures(&came).len(), came.ran.left), (came.files.len(), 0, 0));
    assert!(came.found.is_none());

    // The listing fails for a while. It must begin again, and nothing may be restored twice. The number of failures
    // is larger than the number of requests that all ranges can send, even if each is sent twice, so at least one
    // range fails for certain.
    let server = SimServer::start(SimOptions { max_keys: 20, ..SimOptions::default() }).unwrap();
    put(&server, 200, |i| format!("p/{i:04}.db"));
    server.script(RequestKind::List, "p/", [vec![None; 20], vec![Some(Failure::InternalError); 40]].concat());
    let came = run(&server, "bucket/p/", DiscoverySearch { max_retries: 20, ..search(true) });
    assert!(is_all(&came) && failures(&came).is_empty(), "{:?}", failures(&came));
    assert!(came.again > 0);
    assert_eq!((came.files.len(), came.found.unwrap().matched, came.total), (200, 200, 200));
}

#[test]
fn a_run_that_is_stopped_says_how_many_it_left() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    put(&server, 50, |i| format!("p/{i:04}.db"));
    let (source, engine, progress) = (source(&server, "bucket/p/"), engine(), Progress::default());
    let first = First::new(&[], &source, &env).unwrap();
    let feed = Feed::start(&engine, Arc::new(source), search(false), Arc::clone(&progress.discovery));
    let came = run_feed(Some(&server), &engine, feed, &first, &progress, Some(Reason::Interrupt), &Gate::default());
    assert_eq!((came.ended.len(), came.ran.left, came.files.len()), (0, 50, 0));
}

/// Workers that have stopped for a reason that the run does not know. All their tasks fail at once.
fn stopped_engine() -> Workers {
    let cancel = CancellationToken::new();
    let options = WorkersOptions {
        workers: 1,
        kind: IoBackend::Pwrite,
        memory_bytes: 32 << 20,
        tasks: 4,
        segment_bytes: SEGMENT_BYTES,
        checks: false,
    };
    let engine = Workers::start(&options, Arc::default(), cancel.clone()).unwrap();
    cancel.cancel(Reason::Interrupt);
    while engine.run(|_| Box::pin(std::future::ready(()))).is_some() {}
    engine
}

/// If the worker of the discovery ends without a result, the run must report an error and not an interruption.
#[test]
fn a_discovery_without_a_result_is_an_error() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    let (source, engine, progress) = (source(&server, "bucket/p/"), stopped_engine(), Progress::default());
    let first = First::new(&[], &source, &env).unwrap();
    let feed = Feed::start(&engine, Arc::new(source), search(true), Arc::clone(&progress.discovery));
    let came = run_feed(Some(&server), &engine, feed, &first, &progress, None, &Gate::default());
    let Some(Err(e @ DiscoverError::NoResult)) = came.ran.discovered else { panic!("{:?}", came.ran) };
    assert!(e.to_string().starts_with("this is a bug in Hydrant, please report: "), "{e}");
}

/// Workers that a signal has stopped may return before the run has noticed the signal. The databases that they did
/// not restore count as interrupted and not as failed.
#[test]
fn what_stopped_workers_leave_has_not_failed() {
    let (engine, cancel) = (stopped_engine(), CancellationToken::new());
    let found = |i: usize| Found {
        database: Arc::new(DatabaseRef {
            name: format!("{i}.db"),
            id: format!("/{i}.db"),
            store: Store::File(Default::default()),
            path: format!("/{i}.db"),
        }),
        replica: Some(Replica { root: format!("/{i}.db/"), files: Vec::new(), v3: None, others: Vec::new() }),
        output: Output::Relative(format!("{i}.db")),
    };
    let feed = Feed::of(Discovery { found: vec![found(0), found(1)], matched: 2, ..Discovery::default() });
    let out = tempfile::tempdir().unwrap();
    let settings = settings();
    let (progress, counters) = (Progress::default(), Counters::default());
    let fleet = Fleet {
        engine: &engine,
        settings: &settings,
        progress: &progress,
        counters: &counters,
        commit: &CommitContext::default(),
        cancel: &cancel,
    };
    let places = Places { output_dir: out.path().into(), reserved: Vec::new(), folds: |_| false };
    let source = FleetSource::url("file:///**", &env, &mut |config| open(config)).unwrap();
    let first = First::new(&[], &source, &env).unwrap();
    let mut ended = Vec::new();
    // The first result comes from workers that stopped for an unknown reason. The signal comes with it.
    let mut hear = |heard: RunEvent| {
        if let RunEvent::Ended(one) = heard {
            ended.push(one.ending);
            cancel.cancel(Reason::Interrupt);
        }
    };
    let window = DatabaseWindow::new(None, 16, &ProcessLimiter::default());
    let ran = fleet.run(feed, Admission::new(places, &first), window, &mut hear).unwrap();
    assert!(matches!(&ended[..], [Ending::Failed { class: Class::Io, .. }]), "{ended:?}");
    assert_eq!(ran.left, 1);
}

/// A database is restored, then the listing turns out to be unsorted, and the complete listing shows other files
/// for that database. The report must name it.
#[test]
fn a_possibly_incomplete_database_is_named() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    put(&server, 2, |i| format!("p/{i}.db"));
    let url = format!("s3://bucket/p/?endpoint={}&forcePathStyle=true&region=us-east-1", server.endpoint());
    let mut store = None;
    let source = FleetSource::url(&url, &env, &mut |config| store.insert(open(config)).clone()).unwrap();
    let first = First::new(&[], &source, &env).unwrap();
    let found = |i: usize| Found {
        database: Arc::new(DatabaseRef {
            name: format!("p/{i}.db"),
            id: format!("bucket/p/{i}.db"),
            store: store.clone().unwrap(),
            path: format!("p/{i}.db"),
        }),
        replica: Some(Replica { root: format!("p/{i}.db/"), files: Vec::new(), v3: None, others: Vec::new() }),
        output: Output::Relative(format!("{i}.db")),
    };
    let discovery = Discovery {
        found: Vec::new(),
        possibly_incomplete: vec![found(0)],
        matched: 1,
        unordered: true,
        ..Discovery::default()
    };
    let came =
        run_feed(Some(&server), &engine(), Feed::of(discovery), &first, &Progress::default(), None, &Gate::default());
    let Ending::Failed { class: Class::S3Error, reason } = &came.ended["p/0.db"].ending else { panic!() };
    assert!(reason.contains("does not list in order") && reason.contains("--force"), "{reason}");
}

/// A file of this database comes on the last page of the listing of [`out_of_order`].
const LATE: &str = "p/000000.db";

/// A server with `count` databases `p/<number>.db`. The last page of its listing holds a file of the first
/// database. That page is sent when `late` is open.
fn out_of_order(count: usize, late: Arc<Gate>) -> RawServer {
    let fleet = tiny_fleet(&TinyFleet { count, prefix: "p".into(), ..TinyFleet::default() }).unwrap();
    let objects: BTreeMap<String, Vec<u8>> =
        fleet.iter().flat_map(|d| &d.objects).map(|o| (o.key.clone(), o.bytes.to_vec())).collect();
    let mut keys: Vec<&String> = objects.keys().collect();
    // The newest file of the first database. Without it an older state is restored.
    let newest = keys.iter().rposition(|key| key.starts_with("p/000000.db/0000/")).unwrap();
    let newest = keys.remove(newest);
    let page = |keys: &[&String], more: bool| {
        let contents = keys.iter().map(|key| {
            let size = objects[*key].len();
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <Size>{size}</Size></Contents>"
            )
        });
        let more = match more {
            true => "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            false => "<IsTruncated>false</IsTruncated>",
        };
        format!("<ListBucketResult>{more}{}</ListBucketResult>", contents.collect::<String>())
    };
    let (last, before) = keys.split_last().unwrap();
    let (first, second, nothing) = (page(before, true), page(&[last, newest], false), page(&[], false));
    RawServer::start(move |request, to| {
        let target = request.target.split('?').next().unwrap_or("");
        match target.strip_prefix("/bucket/").filter(|key| !key.is_empty()) {
            Some(key) => match objects.get(key) {
                Some(bytes) => answer_range(to, request, bytes, "e"),
                None => refuse(to, "404 Not Found", "", "NoSuchKey"),
            },
            None if request.target.contains("delimiter=") || request.target.contains("start-after=") => {
                answer(to, "200 OK", "", nothing.as_bytes())
            }
            None if request.target.contains("continuation-token=") => {
                assert!(late.wait());
                answer(to, "200 OK", "", second.as_bytes())
            }
            None => answer(to, "200 OK", "", first.as_bytes()),
        }
    })
}

/// The listing is sorted at first and then is not. Each database must end once and be counted once.
#[test]
fn what_a_listing_out_of_order_shows_again_counts_once() {
    let late = Arc::new(Gate::default());
    let server = out_of_order(8, Arc::clone(&late));
    let of = |options: Options| {
        let (source, engine, progress) = (source_at(&server.endpoint(), "bucket/p/"), engine(), Progress::default());
        let first = First::new(&[], &source, &env).unwrap();
        let search = DiscoverySearch { options, ..search(true) };
        let feed = Feed::start(&engine, Arc::new(source), search, Arc::clone(&progress.discovery));
        run_feed(None, &engine, feed, &first, &progress, None, &late)
    };
    let came = of(Options::default());
    assert!(is_all(&came) && failures(&came).is_empty());
    assert_eq!((came.ended.len(), came.files.len(), came.total, came.found.unwrap().matched), (8, 8, 8, 8));
    let incomplete: Vec<&str> = came.incomplete.keys().map(String::as_str).collect();
    assert_eq!(incomplete, ["p/000000.db"], "{} early", came.early);
    // The counts of each shard are those of the whole fleet, also in the shards that do not restore the database.
    for index in 0..3 {
        let share = of(Options { shard: Some(Shard { index, of: 3 }), ..Options::default() });
        assert_eq!(share.found.unwrap().matched, 8, "{index}");
    }
}
