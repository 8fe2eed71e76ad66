//! Random histories: puts, deletions, overwrites, periods in which versioning is suspended, and times in whole
//! seconds. The catalogue of a time must be the bucket that a model had at that time.

use super::support::{BUCKET, history, past};
use crate::common::client::run;
use hydrant::catalogue::CatalogueMemory;
use hydrant::restore::{HistoryExtent, list_replica};
use hydrant::sim::random::Random;
use hydrant::sim::server::{Object, SimOptions, SimServer};
use hydrant::store::{Http, StoreErrorKind};
use hydrant::timestamp::Timestamp;
use std::collections::BTreeMap;

/// The state of a model bucket: the ETag by key.
type Model = BTreeMap<String, String>;

struct Scene {
    server: SimServer,
    /// The state at the end of each time.
    states: Vec<(Timestamp, Model)>,
    /// The time of the last operation while versioning was suspended.
    last_suspended: Option<Timestamp>,
}

fn scene(seed: u64) -> Scene {
    let mut random = Random::new(seed);
    let max_keys = [1, 2, 7, 1000][random.below(4) as usize];
    let server = SimServer::start(SimOptions { max_keys, ..SimOptions::default() }).unwrap();
    let is_coarse = random.below(2) == 0;
    let may_suspend = random.below(3) == 0;
    let (mut model, mut states) = (Model::new(), Vec::<(Timestamp, Model)>::new());
    let (mut is_suspended, mut last_suspended) = (false, None);
    let mut ms = 1_790_000_000_000_i64;
    for step in 0..120 {
        ms += random.below(1_500) as i64;
        let shown = if is_coarse { ms - ms.rem_euclid(1_000) } else { ms };
        let at = Timestamp::from_millis(shown);
        if may_suspend && random.below(20) == 0 {
            is_suspended = !is_suspended;
        }
        let id = if is_suspended { "null".to_owned() } else { format!("v{step}") };
        let level = random.below(3);
        let txid = 1 + random.below(6);
        let key = format!("p/app.db/{level:04x}/{txid:016x}-{txid:016x}.ltx");
        // Litestream deletes only what is there. A marker without data before it is a sign of lost history.
        if random.below(3) == 0 && model.contains_key(&key) {
            server.versions().put_marker(BUCKET, &key, &id, at);
            model.remove(&key);
        } else {
            let object = Object::new(format!("content {step}")).last_modified(at);
            model.insert(key.clone(), object.etag.clone());
            server.versions().put_version(BUCKET, &key, &id, object);
        }
        if is_suspended {
            last_suspended = Some(at);
        }
        match states.last_mut() {
            Some((time, state)) if *time == at => *state = model.clone(),
            _ => states.push((at, model.clone())),
        }
    }
    Scene { server, states, last_suspended }
}

#[test]
fn the_catalogue_of_a_time_is_the_bucket_of_that_time() {
    let (mut complete, mut refused) = (0, 0);
    for seed in 0..60 {
        let Scene { server, states, last_suspended } = scene(seed);
        let whole = run(history(&server, "p/app.db", HistoryExtent::Whole)).unwrap();
        let since = whole.complete_since();
        for (at, model) in &states {
            if !since.covers(*at) {
                assert!(last_suspended.is_some(), "seed {seed}: {since:?} without a suspended period");
                refused += 1;
                continue;
            }
            complete += 1;
            let found: Model = whole
                .objects_at(*at)
                .map(|(object, _)| (object.key.clone(), object.etag.unwrap().to_string()))
                .collect();
            assert_eq!(&found, model, "seed {seed} at {at}");
        }
        // From the end of the suspended periods on nothing is refused.
        let after = states.iter().filter(|(at, _)| Some(*at) > last_suspended);
        assert!(after.clone().skip(1).all(|(at, _)| since.covers(*at)), "seed {seed}: {since:?}");
        // The listing of the past gives the same, and knows what is complete without knowing all times in order.
        for (at, model) in states.iter().step_by(17) {
            let memory = CatalogueMemory::default();
            let store = past(&server, *at, false);
            match run(list_replica(&Http::default(), &store, "p/app.db", &memory)) {
                Ok(listed) => {
                    assert!(since.covers(*at), "seed {seed} at {at}");
                    let found: Model = listed
                        .replica
                        .files
                        .iter()
                        .map(|file| (listed.replica.key(file), file.etag.clone().unwrap().to_string()))
                        .collect();
                    assert_eq!(&found, model, "seed {seed} at {at}");
                }
                Err(error) => {
                    assert_eq!(error.kind, StoreErrorKind::IncompleteHistory, "seed {seed} at {at}: {error}");
                    assert!(!since.covers(*at), "seed {seed} at {at}");
                }
            }
        }
    }
    assert!(complete > 3_000 && refused > 100, "{complete} times, {refused} refused");
}
