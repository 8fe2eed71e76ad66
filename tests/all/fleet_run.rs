//! Tests of restores that begin while the listing still runs: when they begin, that the result is the same, and
//! what happens if the listing fails half-way or is unsorted.

use crate::common::fleet::{engine, env, open};
use crate::common::raw::{RawServer, answer, answer_range, refuse};
use hydrant::cancel::{CancellationToken, Reason};
use hydrant::catalogue::Replica;
use hydrant::commit::{CommitContext, Replace};
use hydrant::error::Class;
use hydrant::fleet::{
    Admission, CatalogueUse, DatabaseRef, DatabaseWindow, DiscoverError, Discovered, Discovery, DiscoverySearch, Ended,
    Ending, Feed, First, Fleet, FleetSource, Found, Options, Output, Places, Progress, RunEvent, RunResult, Settings,
    Shard, Work,
};
use hydrant::io::IoBackend;
use hydrant::ltx::Txid;
use hydrant::plan::Target;
use hydrant::restore::{SEGMENT_BYTES, Workers, WorkersOptions};
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use hydrant::sim::server::{Failure, Object, RequestKind, SimOptions, SimServer};
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

fn put(server: &SimServer, count: usize, rename: impl Fn(usize) -> String) {
    for (i, database) in tiny_fleet(&TinyFleet { count, ..TinyFleet::default() }).unwrap().iter().enumerate() {
        for object in &database.objects {
            let key = object.key.replacen(&format!("fleet/{i:06}.db"), &rename(i), 1);
            server.objects().put("bucket", &key, Object::new(object.bytes.clone()));
        }
    }
}

/// What a run came to, and in what order.
struct Came {
    ended: BTreeMap<String, Ended>,
    /// LISTs that had been sent when all databases were known, and at the end.
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

fn search() -> DiscoverySearch {
    let (options, catalogue) = (Options::default(), CatalogueUse::List);
    DiscoverySearch { options, catalogue, max_retries: 0, retry_delay: Duration::from_millis(20) }
}

fn run(server: &SimServer, pattern: &str, search: DiscoverySearch) -> Came {
    let source = source(server, pattern);
    let first = First::new(&[], &source, &env).unwrap();
    let engine = engine();
    let progress = Progress::default();
    let feed = Feed::start(&engine, Arc::new(source), search, Arc::clone(&progress.discovery));
    run_feed(Some(server), &engine, feed, &first, &progress, None)
}

fn settings() -> Settings {
    Settings {
        work: Work::Restore,
        target: Target::Latest,
        check: None,
        replace: Replace::Never,
        if_db_not_exists: false,
        if_replica_exists: false,
        newest_intact: false,
        max_retries: 0,
        retry_delay: Duration::ZERO,
        fail_fast: false,
        verify: None,
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
    let (mut ended, mut lists_before, mut found, mut again) = (BTreeMap::new(), 0, None, 0);
    let mut hear = |heard: RunEvent| match heard {
        RunEvent::Ended(e) => {
            assert!(found.is_some(), "nothing ends before all is known");
            assert!(ended.insert(e.name().to_owned(), e).is_none(), "ends once");
        }
        RunEvent::AllFound { discovered, .. } => {
            lists_before = lists();
            found = Some(discovered);
            stop.into_iter().for_each(|reason| cancel.cancel(reason));
        }
        RunEvent::ListingAgain(_) => again += 1,
        RunEvent::LittleSpace(little) => println!("{little:?}"),
        RunEvent::PutRight(notice) => panic!("{notice}"),
    };
    let ran = fleet
        .run(feed, Admission::new(places, first), DatabaseWindow::new(None, 16, &ProcessLimiter::default()), &mut hear)
        .unwrap();
    let mut files = BTreeMap::new();
    read(out.path(), "", &mut files);
    let lists = (lists_before, lists());
    let total = progress.total.load(Relaxed);
    Came { ended, lists, found, again, ran, files, total }
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
fn restores_begin_once_all_is_listed() {
    let server = SimServer::start(SimOptions { max_keys: 20, ..SimOptions::default() }).unwrap();
    put(&server, 300, |i| format!("tenants/t{i:04}/app.db"));
    let whole = run(&server, "bucket/**", search());
    assert!(is_all(&whole) && failures(&whole).is_empty());
    // No database is listed again: what the listing showed is enough.
    assert!(whole.lists.0 >= 75 && whole.lists.0 == whole.lists.1, "{:?}", whole.lists);
    let found = whole.found.unwrap();
    assert_eq!((found.matched, found.databases, found.folders, found.with_backups), (300, 300, 300, 300));
    assert_eq!((whole.files.len(), whole.total), (300, 300));

    // A shard's, and counts of the whole fleet.
    let options = Options { shard: Some(Shard { index: 1, of: 3 }), ..Options::default() };
    let share = run(&server, "bucket/**", DiscoverySearch { options, ..search() });
    let found = share.found.unwrap();
    assert_eq!((found.matched, found.databases), (300, share.files.len() as u64));
    assert!((60..140).contains(&share.files.len()));
    assert!(share.files.iter().all(|(name, bytes)| whole.files[name] == *bytes));
}

/// The names of databases sort before `ltx/`. The listing therefore cannot show in time whether the directory above
/// them is itself a database in that layout. One additional request must find out.
#[test]
fn collisions_are_decided_by_the_whole_list() {
    let server = SimServer::start(SimOptions { max_keys: 7, ..SimOptions::default() }).unwrap();
    // The keys of the shorter one come last.
    let names = ["a/-x.db", "a/b.db/-c.db", "a/b.db/1.db", "a/b.db", "a/b.db-wal", "b/c.db"];
    put(&server, 60, |i| names.get(i).map_or_else(|| format!("z/{i:06}.db"), |name| (*name).to_owned()));
    // The outer database also exists in the layout whose keys come last.
    for key in server.objects().keys("bucket", "b/c.db/") {
        let object = server.objects().get("bucket", &key).unwrap();
        let (level, name) = key.strip_prefix("b/c.db/000").unwrap().split_once('/').unwrap();
        server.objects().put("bucket", &format!("m/ltx/{level}/{name}"), (*object).clone());
        server.objects().put("bucket", &format!("m/d.db/000{level}/{name}"), (*object).clone());
    }
    let came = run(&server, "bucket/**", search());
    assert!(is_all(&came));
    let expected = ["a/b.db-wal", "a/b.db/-c.db", "a/b.db/1.db", "m/d.db"].map(|name| (name, Class::PathCollision));
    assert_eq!(failures(&came), BTreeMap::from(expected));
    assert_eq!(came.files.len(), 60 + 2 - expected.len());
}

/// The store lists in no order, also across its pages.
#[test]
fn a_store_that_lists_out_of_order_is_restored_whole() {
    let restored = |unsorted_listings| {
        let options = SimOptions { max_keys: 20, unsorted_listings, ..SimOptions::default() };
        let server = SimServer::start(options).unwrap();
        put(&server, 60, |i| format!("t{i:04}/app.db"));
        let came = run(&server, "bucket/**", search());
        assert!(is_all(&came) && failures(&came).is_empty());
        assert_eq!((came.ended.len(), came.files.len(), came.total), (60, 60, 60));
        came.files
    };
    assert_eq!(restored(true), restored(false));
}

#[test]
fn a_listing_that_fails_half_way_restores_nothing() {
    let server = SimServer::start(SimOptions { max_keys: 20, ..SimOptions::default() }).unwrap();
    put(&server, 200, |i| format!("p/{i:04}.db"));
    server.script(RequestKind::List, "p/", [vec![None; 20], vec![Some(Failure::InternalError); 1000]].concat());
    let came = run(&server, "bucket/p/", search());
    assert!(matches!(&came.ran.discovered, Some(Err(DiscoverError::Store(e))) if e.class() == Class::S3Error));
    assert_eq!((came.ended.len(), came.files.len(), came.ran.left), (0, 0, 0));
    assert!(came.found.is_none());

    // The listing fails for a while. It must begin again, and nothing may be restored twice. The number of failures
    // is larger than the number of requests that all ranges can send, even if each is sent twice, so at least one
    // range fails for certain.
    let server = SimServer::start(SimOptions { max_keys: 20, ..SimOptions::default() }).unwrap();
    put(&server, 200, |i| format!("p/{i:04}.db"));
    server.script(RequestKind::List, "p/", [vec![None; 20], vec![Some(Failure::InternalError); 40]].concat());
    let came = run(&server, "bucket/p/", DiscoverySearch { max_retries: 20, ..search() });
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
    let feed = Feed::start(&engine, Arc::new(source), search(), Arc::clone(&progress.discovery));
    let came = run_feed(Some(&server), &engine, feed, &first, &progress, Some(Reason::Interrupt));
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
        catalogue: Default::default(),
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
    let feed = Feed::start(&engine, Arc::new(source), search(), Arc::clone(&progress.discovery));
    let came = run_feed(Some(&server), &engine, feed, &first, &progress, None);
    let Some(Err(e @ DiscoverError::NoResult)) = came.ran.discovered else { panic!("{:?}", came.ran) };
    assert!(e.to_string().starts_with("this is a bug in Hydrant, please report: "), "{e}");
}

/// Workers that a signal has stopped may return before the run has noticed the signal. The databases that they did
/// not restore count as interrupted and not as failed.
#[test]
fn what_stopped_workers_leave_has_not_failed() {
    let (engine, cancel) = (stopped_engine(), CancellationToken::new());
    let found = |i: usize| Found {
        database: Arc::new(DatabaseRef::new(
            &format!("{i}.db"),
            format!("/{i}.db"),
            Store::File(Default::default()),
            &format!("/{i}.db"),
        )),
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

/// `count` databases `p/<number>.db`. The last page of their listing holds the newest file of the first.
fn out_of_order(count: usize) -> RawServer {
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
            None if request.target.contains("continuation-token=") => answer(to, "200 OK", "", second.as_bytes()),
            None => answer(to, "200 OK", "", first.as_bytes()),
        }
    })
}

/// The listing is sorted at first and then is not. Each database must end once and be counted once.
#[test]
fn a_file_that_is_listed_late_is_restored() {
    let server = out_of_order(8);
    let of = |options: Options| {
        let (source, engine, progress) = (source_at(&server.endpoint(), "bucket/p/"), engine(), Progress::default());
        let first = First::new(&[], &source, &env).unwrap();
        let search = DiscoverySearch { options, ..search() };
        let feed = Feed::start(&engine, Arc::new(source), search, Arc::clone(&progress.discovery));
        run_feed(None, &engine, feed, &first, &progress, None)
    };
    let came = of(Options::default());
    assert!(is_all(&came) && failures(&came).is_empty());
    assert_eq!((came.ended.len(), came.files.len(), came.total, came.found.unwrap().matched), (8, 8, 8, 8));
    for ended in came.ended.values() {
        let Ending::Restored { outcome, .. } = &ended.ending else { panic!("{ended:?}") };
        assert_eq!(outcome.txid, Txid(7), "{}", ended.name());
    }
    // Each shard counts the whole fleet, also the one that does not restore the database.
    for index in 0..3 {
        let share = of(Options { shard: Some(Shard { index, of: 3 }), ..Options::default() });
        assert_eq!(share.found.unwrap().matched, 8, "{index}");
    }
}
