//! Tests of databases that fail for a while or for good: which are tried again, how often, and what is reported.

use crate::common::fleet::{engine, env, open, open_with};
use hydrant::cancel::CancellationToken;
use hydrant::commit::{CommitContext, Replace};
use hydrant::config::{Config, StoreConfig};
use hydrant::error::Class;
use hydrant::fleet::{
    Admission, DatabaseWindow, Discovery, Ended, Ending, Feed, First, Fleet, FleetSource, Options, Places, Progress,
    RunEvent, Settings, Work, discover,
};
use hydrant::plan::Target;
use hydrant::restore::Workers;
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use hydrant::sim::server::{Failure, Object, RequestKind, SimOptions, SimServer};
use hydrant::store::Store;
use hydrant::store::s3::{ProcessLimiter, Timeouts};
use hydrant::telemetry::Counters;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const DATABASES: usize = 8;

struct Bench {
    server: SimServer,
    engine: Workers,
    out: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let server = SimServer::start(SimOptions::default()).unwrap();
        for database in tiny_fleet(&TinyFleet { count: DATABASES, ..TinyFleet::default() }).unwrap() {
            server.objects().put_database("bucket", &database);
        }
        Self { server, engine: engine(), out: tempfile::tempdir().unwrap() }
    }

    fn by_url(&self) -> FleetSource {
        self.by_pattern("**", &mut |config| open(config))
    }

    fn by_pattern(&self, pattern: &str, open: &mut dyn FnMut(&StoreConfig) -> Store) -> FleetSource {
        let endpoint = self.server.endpoint();
        let url = format!("s3://bucket/{pattern}?endpoint={endpoint}&forcePathStyle=true&region=us-east-1");
        FleetSource::url(&url, &env, open).unwrap()
    }

    fn by_config(&self) -> FleetSource {
        let entry = |i: usize| {
            let endpoint = self.server.endpoint();
            format!(
                "  - path: /srv/{i}.db\n    replica:\n      url: s3://bucket/fleet/{i:06}.db?endpoint={endpoint}&\
                 forcePathStyle=true&region=us-east-1\n"
            )
        };
        let text = format!("dbs:\n{}", (0..2).map(entry).collect::<String>());
        let config = Config::parse(Path::new("/etc/litestream.yml"), &text, false, &env).unwrap();
        FleetSource::config("/srv/**", &config, &env, &mut |config| open(config)).unwrap()
    }

    fn find(&self, source: FleetSource) -> Discovery {
        let options = Options { relative_outputs: true, ..Options::default() };
        let found = self
            .engine
            .run(move |worker| Box::pin(async move { discover(&worker, &source, options, &Default::default()).await }));
        found.unwrap().unwrap()
    }

    fn restore(&self, discovery: Discovery, max_retries: u32) -> BTreeMap<String, Ended> {
        let settings = Settings {
            work: Work::Restore,
            target: Target::Latest,
            check: None,
            replace: Replace::Never,
            if_db_not_exists: false,
            if_replica_exists: false,
            newest_intact: false,
            max_retries,
            retry_delay: Duration::from_millis(20),
            fail_fast: false,
            verify: None,
        };
        let places = Places { output_dir: self.out.path().into(), reserved: Vec::new(), folds: |_| false };
        let first = First::new(&[], &self.by_url(), &env).unwrap();
        let fleet = Fleet {
            engine: &self.engine,
            settings: &settings,
            progress: &Progress::default(),
            counters: &Counters::default(),
            commit: &CommitContext::default(),
            cancel: &CancellationToken::new(),
        };
        let mut ended: BTreeMap<String, Ended> = BTreeMap::new();
        let mut hear = |heard: RunEvent| {
            if let RunEvent::Ended(e) = heard {
                assert!(ended.insert(e.name().to_owned(), e).is_none(), "ends once");
            }
        };
        let intake = Admission::new(places, &first);
        let ran = fleet
            .run(Feed::of(discovery), intake, DatabaseWindow::new(None, 16, &ProcessLimiter::default()), &mut hear)
            .unwrap();
        assert!(ran.left == 0 && matches!(ran.discovered, Some(Ok(()))));
        ended
    }

    /// The key of a file of database `i` that is in its plan.
    fn key(&self, i: usize) -> String {
        let keys = self.server.objects().keys("bucket", &format!("fleet/{i:06}.db/0009/"));
        keys.into_iter().next().unwrap()
    }
}

fn is_restored(ended: &Ended) -> bool {
    let restored = matches!(ended.ending, Ending::Restored { .. });
    assert_eq!(restored, ended.output.as_ref().unwrap().is_file());
    restored
}

#[test]
fn transient_failures_are_tried_again_with_a_fresh_listing() {
    let bench = Bench::new();
    let discovery = bench.find(bench.by_url());
    // The client sends a request twice. Four failures therefore make the first try and the second try of the
    // database fail.
    bench.server.script(RequestKind::Get, &bench.key(3), vec![Some(Failure::InternalError); 4]);
    bench.server.script(RequestKind::Get, &bench.key(5), vec![Some(Failure::ResetBeforeHeaders); 2]);
    let ended = bench.restore(discovery, 3);
    assert!(ended.values().all(is_restored), "{ended:?}");
    let retries: Vec<u32> = ended.values().map(|e| e.retries).collect();
    assert_eq!(retries, [0, 0, 0, 2, 0, 1, 0, 0]);
    let Ending::Restored { outcome, .. } = &ended["fleet/000005.db"].ending else { panic!() };
    assert_eq!(outcome.requests, 4, "a LIST and three GETs");
}

/// A database of a catalogue is tried again with the files of the catalogue, although a newer one came meanwhile.
#[test]
fn with_a_catalogue_nothing_is_listed_for_a_retry() {
    let bench = Bench::new();
    let newest: Vec<String> =
        (0..DATABASES).map(|i| format!("fleet/{i:06}.db/0000/0000000000000007-0000000000000007.ltx")).collect();
    let held_back: Vec<_> = newest.iter().map(|key| bench.server.objects().get("bucket", key).unwrap()).collect();
    newest.iter().for_each(|key| assert!(bench.server.objects().remove("bucket", key)));
    let mut discovery = bench.find(bench.by_url());
    discovery.recovery_point = Some(hydrant::timestamp::Timestamp::now());
    for (key, object) in newest.iter().zip(held_back) {
        bench.server.objects().put("bucket", key, Object::clone(&object));
    }
    bench.server.script(RequestKind::Get, &bench.key(3), vec![Some(Failure::InternalError); 4]);
    let lists = bench.server.stats().of_kind(RequestKind::List);
    let ended = bench.restore(discovery, 3);
    assert!(ended.values().all(is_restored), "{ended:?}");
    assert_eq!(ended["fleet/000003.db"].retries, 2);
    assert_eq!(bench.server.stats().of_kind(RequestKind::List), lists);
    for ended in ended.values() {
        let Ending::Restored { outcome, .. } = &ended.ending else { panic!() };
        assert_eq!((outcome.txid.0, outcome.moved_from()), (6, None));
    }
}

#[test]
fn retries_end_and_permanent_failures_have_none() {
    let bench = Bench::new();
    let discovery = bench.find(bench.by_url());
    bench.server.script(RequestKind::Get, &bench.key(1), vec![Some(Failure::InternalError); 100]);
    bench.server.script(RequestKind::Get, &bench.key(2), vec![Some(Failure::AccessDenied); 100]);
    let gone = bench.server.objects().keys("bucket", "fleet/000004.db/");
    gone.iter().for_each(|key| assert!(bench.server.objects().remove("bucket", key)));
    let ended = bench.restore(discovery, 1);
    let failure = |i: usize| match &ended[&format!("fleet/{i:06}.db")] {
        Ended { ending: Ending::Failed { class, .. }, retries, output: Some(output), .. } if !output.exists() => {
            Some((*class, *retries))
        }
        other => {
            assert!(is_restored(other));
            None
        }
    };
    let failures: Vec<_> = (0..DATABASES).map(failure).collect();
    let expected = [
        None,
        Some((Class::S3Error, 1)),
        Some((Class::AccessDenied, 0)),
        None,
        // The database was listed and then deleted.
        Some((Class::BackupNotFound, 0)),
        None,
        None,
        None,
    ];
    assert_eq!(failures, expected);
}

/// It would otherwise take as many times `-stall-timeout` as there are retries.
#[test]
fn a_dead_object_is_tried_again_once() {
    let bench = Bench::new();
    let timeouts = Timeouts { stall: Duration::from_secs(1), ..Timeouts::default() };
    let discovery = bench.find(bench.by_pattern("fleet/000003.db", &mut |config| open_with(config, timeouts.clone())));
    bench.server.script(RequestKind::Get, &bench.key(3), vec![Some(Failure::BlackHole); 100]);
    let ended = bench.restore(discovery, 5);
    let Ending::Failed { class, reason } = &ended["fleet/000003.db"].ending else { panic!("{ended:?}") };
    assert_eq!((*class, ended["fleet/000003.db"].retries), (Class::S3Timeout, 1), "{reason}");
    assert!(reason.contains("(--stall-timeout) while waiting for bytes 0-"), "{reason}");
}

#[test]
fn a_configured_database_whose_listing_failed_is_tried_again() {
    let bench = Bench::new();
    let case = |max_retries| {
        bench.server.script(RequestKind::List, "fleet/", vec![Some(Failure::InternalError); 20]);
        let discovery = bench.find(bench.by_config());
        assert_eq!((discovery.found.len(), discovery.failed.len(), discovery.matched), (0, 2, 2));
        let ended = bench.restore(discovery, max_retries);
        assert_eq!(ended.len(), 2);
        assert!(ended.values().all(|e| e.retries == max_retries), "{ended:?}");
        let restored = ended.values().filter(|e| is_restored(e)).count();
        for i in 0..2 {
            let _ = std::fs::remove_file(bench.out.path().join(format!("{i}.db")));
        }
        restored
    };
    assert_eq!(case(0), 0);
    assert_eq!(case(1), 2);
    for prefix in ["fleet/000000.db/", "fleet/000001.db/"] {
        bench.server.script(RequestKind::List, prefix, vec![Some(Failure::InternalError); 100]);
    }
    assert_eq!(case(1), 0);
}
