//! Tests of two fleets with one output directory: with `-if-db-not-exists` the slower one skips.

use crate::common::fleet::{engine, env, open};
use hydrant::cancel::CancellationToken;
use hydrant::commit::{CommitContext, Replace};
use hydrant::fleet::{
    Admission, CatalogueUse, DatabaseWindow, DiscoverySearch, Ending, Feed, First, Fleet, FleetSource, Options, Places,
    Progress, RunEvent, Settings, Work,
};
use hydrant::io::fault::{Effect, Step, inject};
use hydrant::plan::Target;
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use hydrant::store::s3::ProcessLimiter;
use hydrant::telemetry::Counters;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Restores the replica below `replicas` to `out`. Returns how its only database ended.
fn ending(replicas: &Path, out: &Path, if_db_not_exists: bool) -> Ending {
    let url = format!("file://{}/**", replicas.display());
    let source = FleetSource::url(&url, &env, &mut |config| open(config)).unwrap();
    let first = First::new(&[], &source, &env).unwrap();
    let (engine, progress) = (engine(), Progress::default());
    let (options, catalogue) = (Options::default(), CatalogueUse::List);
    let search = DiscoverySearch { options, catalogue, max_retries: 0, retry_delay: Duration::ZERO };
    let feed = Feed::start(&engine, Arc::new(source), search, Arc::clone(&progress.discovery));
    let settings = Settings {
        work: Work::Restore,
        target: Target::Latest,
        check: None,
        replace: Replace::Never,
        if_db_not_exists,
        if_replica_exists: false,
        newest_intact: false,
        max_retries: 0,
        retry_delay: Duration::ZERO,
        fail_fast: false,
        verify: None,
    };
    let fleet = Fleet {
        engine: &engine,
        settings: &settings,
        progress: &progress,
        counters: &Counters::default(),
        commit: &CommitContext::default(),
        cancel: &CancellationToken::new(),
    };
    let places = Places { output_dir: out.into(), reserved: Vec::new(), folds: |_| false };
    let window = DatabaseWindow::new(None, 16, &ProcessLimiter::default());
    let mut endings = Vec::new();
    let mut hear = |heard: RunEvent| {
        if let RunEvent::Ended(ended) = heard {
            endings.push(ended.ending);
        }
    };
    fleet.run(feed, Admission::new(places, &first), window, &mut hear).unwrap();
    assert_eq!(endings.len(), 1);
    endings.remove(0)
}

/// The other restore publishes the database while this one has written its pages and is about to sync them.
#[test]
fn the_slower_restore_skips_if_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let replicas = dir.path().join("replicas");
    for object in &tiny_fleet(&TinyFleet { count: 1, ..TinyFleet::default() }).unwrap()[0].objects {
        let path = replicas.join(&object.key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.bytes).unwrap();
    }
    for if_db_not_exists in [true, false] {
        let out = dir.path().join(format!("out-{if_db_not_exists}"));
        let database: PathBuf = out.join("fleet/000000.db");
        let barrier = Arc::new(Barrier::new(2));
        let _held = inject(&database, Some(Step::Sync), 1, Effect::Held(Arc::clone(&barrier)));
        let ending = std::thread::scope(|scope| {
            let slower = scope.spawn(|| ending(&replicas, &out, if_db_not_exists));
            barrier.wait();
            std::fs::write(&database, "the faster one's").unwrap();
            barrier.wait();
            slower.join().unwrap()
        });
        match ending {
            Ending::Skipped(why) => assert!(if_db_not_exists && why == "database already exists", "{why}"),
            Ending::Failed { reason, .. } => {
                assert!(!if_db_not_exists && reason.contains("already exists"), "{reason}")
            }
            ending => panic!("{ending:?}"),
        }
        assert_eq!(std::fs::read(&database).unwrap(), b"the faster one's");
    }
}
