//! Restores every target of the recorded histories, at several page sizes and with both writers: from the history as
//! a command surveys it, and from the listing of the past that fleets and later listings use.

use super::support::{BUCKET, Recorded, history, named, only_read, past, recorded, s3_of, sha256, time};
use crate::common::client::run;
use hydrant::cancel::CancellationToken;
use hydrant::catalogue::{CatalogueMemory, Replica, root_of};
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::io::{BackendChoice, IoBackend, probe};
use hydrant::ltx::Txid;
use hydrant::plan::{Reach, Target, last_full};
use hydrant::restore::{
    HistoryExtent, Request, RestoreOutcome, SEGMENT_BYTES, Workers, WorkersOptions, list_replica, restore,
};
use hydrant::sim::server::SimServer;
use hydrant::store::{Http, Past, Store, StoreErrorKind};
use hydrant::telemetry::Counters;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

fn engines() -> Vec<Workers> {
    let mut kinds = vec![IoBackend::Pwrite];
    let uring = probe(BackendChoice::Auto).unwrap().kind;
    if uring != IoBackend::Pwrite {
        kinds.push(uring);
    }
    let start = |kind| {
        let options = WorkersOptions {
            workers: 2,
            kind,
            memory_bytes: 64 << 20,
            tasks: 8,
            segment_bytes: SEGMENT_BYTES,
            checks: false,
            catalogue: Default::default(),
        };
        Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
    };
    kinds.into_iter().map(start).collect()
}

/// Restores one target. `replica` None: the store is listed.
fn restored(
    engine: &Workers,
    store: &Store,
    path: &str,
    replica: Option<Replica>,
    output: &Path,
) -> Result<RestoreOutcome, String> {
    let destination = Arc::new(Destination::prepare(&CommitContext::default(), output, Replace::Never).unwrap());
    let request = Request {
        store: store.clone(),
        path: path.to_owned(),
        replica,
        target: Target::Latest,
        generation: None,
        newest_intact: false,
        destination,
        check: None,
        parallelism: None,
    };
    let ended = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap();
    ended.map(|restored| restored.outcome).map_err(|e| e.to_string())
}

/// Compares a restore with what the history says.
fn judge(one: &Recorded, target: &Value, result: Result<RestoreOutcome, String>, output: &Path) {
    let at = format!("{} as of {}", one.name, target["as_of"]);
    match (target["error"].as_str(), result) {
        (None, Ok(outcome)) => {
            assert_eq!(sha256(output), target["sha256"].as_str().unwrap(), "{at}");
            assert_eq!(outcome.txid.to_string(), target["txid"].as_str().unwrap(), "{at}");
            let state = outcome.past.unwrap();
            assert_eq!(serde_json::json!(state.version_ids), target["version_ids"], "{at}");
            assert_eq!(state.as_of, time(target["as_of"].as_str().unwrap()));
            assert!(state.state_time.unwrap() <= state.as_of);
            std::fs::remove_file(output).unwrap();
        }
        (Some("no backups"), Err(_)) => assert!(!output.exists(), "{at}"),
        (Some(error), Err(found)) => {
            let words = if error.starts_with("chain") { "does not begin at TXID 1" } else { &error["hole: ".len()..] };
            assert!(found.contains(words) && !output.exists(), "{at}: {found}, expected {error}");
        }
        (expected, found) => panic!("{at}: {found:?}, expected {expected:?}"),
    }
}

/// Restores from the history, listed in the extent that a restore needs.
fn from_history(engine: &Workers, server: &SimServer, one: &Recorded, target: &Value, output: &Path) {
    let as_of = time(target["as_of"].as_str().unwrap());
    let history = run(history(server, &one.path, HistoryExtent::AsOf(as_of))).unwrap();
    let is_complete = history.complete_since().covers(as_of);
    assert_eq!(is_complete, target["complete"].as_bool().unwrap(), "{} as of {as_of}", one.name);
    let bucket = Past::new(s3_of(server), as_of, u64::MAX, true, root_of);
    let mut live = 0;
    for (object, id) in history.objects_at(as_of) {
        bucket.set_version_id(&object.key, id).unwrap();
        live += 1;
    }
    if live == 0 {
        assert_eq!(target["error"], "no backups", "{} as of {as_of}", one.name);
        return;
    }
    let replica = history.replica_at(&one.path, as_of);
    judge(one, target, restored(engine, &Store::Past(Arc::new(bucket)), &one.path, Some(replica), output), output);
}

/// Restores from the listing that the bucket would have given.
fn from_listing(engine: &Workers, server: &SimServer, one: &Recorded, target: &Value, output: &Path) {
    let as_of = time(target["as_of"].as_str().unwrap());
    judge(one, target, restored(engine, &past(server, as_of, true), &one.path, None, output), output);
    // Refused where the history is not complete.
    let strict = past(server, as_of, false);
    let memory = CatalogueMemory::default();
    let listed = run(list_replica(&Http::default(), &strict, &one.path, &memory));
    let kind = listed.err().map(|error| error.kind);
    let expected = (!target["complete"].as_bool().unwrap()).then_some(StoreErrorKind::IncompleteHistory);
    assert_eq!(kind, expected, "{} as of {as_of}", one.name);
}

/// Every `step`-th target, and always the last one. All of them if $HYDRANT_EVERY_TARGET is set.
fn targets(one: &Recorded, step: usize) -> impl Iterator<Item = (usize, &Value)> {
    let last = one.targets.len() - 1;
    let step = if std::env::var_os("HYDRANT_EVERY_TARGET").is_some() { 1 } else { step };
    one.targets.iter().enumerate().filter(move |(i, _)| i % step == 0 || *i == last)
}

#[test]
fn every_target_of_every_history() {
    let engines = engines();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.db");
    for one in recorded() {
        // Small pages mean hundreds of requests for each target.
        for (max_keys, step) in [(1000, 1), (7, 4), (2, 16), (1, 16)] {
            let server = one.serve(max_keys);
            for (i, target) in targets(&one, step) {
                let engine = &engines[i / step % engines.len()];
                from_history(engine, &server, &one, target, &output);
            }
            only_read(&server);
        }
    }
}

#[test]
fn every_target_from_a_listing_of_the_past() {
    let engines = engines();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.db");
    for one in recorded() {
        for (max_keys, step) in [(1000, 3), (7, 16), (1, 64)] {
            let server = one.serve(max_keys);
            for (i, target) in targets(&one, step) {
                let engine = &engines[(i / step + 1) % engines.len()];
                from_listing(engine, &server, &one, target, &output);
            }
            only_read(&server);
        }
    }
}

#[test]
fn the_state_before_a_deletion_is_found() {
    for one in recorded() {
        let server = one.serve(1000);
        let whole = run(history(&server, &one.path, HistoryExtent::Whole)).unwrap();
        let (_, last) = whole.range().unwrap();
        let peak = last_full(&whole, &one.path, last);
        // The greatest TXID of the last lineage that the history can give before its end.
        let best = one
            .targets
            .iter()
            .rev()
            .filter_map(|target| target["txid"].as_str())
            .map(|txid| Txid::parse_name(txid.as_bytes()).unwrap());
        let mut best = best.peekable();
        let mut expected = *best.peek().unwrap();
        for txid in best {
            if txid < expected {
                break;
            }
            expected = txid;
        }
        assert_eq!(peak.reach, Reach::Txid(expected), "{} at {}", one.name, peak.at);
    }
}

#[test]
fn a_version_that_a_lifecycle_rule_removes_leads_to_another_plan() {
    let one = named("suspend-s");
    let server = one.serve(1000);
    let engine = engines().remove(0);
    let target = one
        .targets
        .iter()
        .rev()
        .find(|target| target["version_ids"].as_array().is_some_and(|ids| ids.len() > 1))
        .unwrap();
    let as_of = time(target["as_of"].as_str().unwrap());
    let history = run(history(&server, &one.path, HistoryExtent::AsOf(as_of))).unwrap();
    let bucket = Past::new(s3_of(&server), as_of, u64::MAX, true, root_of);
    history.objects_at(as_of).for_each(|(object, id)| bucket.set_version_id(&object.key, id).unwrap());
    let replica = history.replica_at(&one.path, as_of);
    let removed = target["version_ids"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let key = history.objects_at(as_of).find(|(_, id)| *id == removed).map(|(object, _)| object.key);
    let key = match key {
        Some(key) if removed != "null" => key,
        // Several keys have a version `null`: the newest planned file's is removed.
        _ => {
            let newest =
                replica.files.iter().max_by_key(|file| (file.max_txid, std::cmp::Reverse(file.level))).unwrap();
            replica.key(newest)
        }
    };
    assert!(server.versions().remove_version(BUCKET, &key, &removed));
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.db");
    let before = server.stats();
    let result = restored(&engine, &Store::Past(Arc::new(bucket)), &one.path, Some(replica), &output);
    let made = server.stats().since(&before);
    // The same TXID from other files, or an error that says that it is gone; never an older state.
    match result {
        Ok(outcome) => assert_eq!(outcome.txid.to_string(), target["txid"].as_str().unwrap()),
        Err(error) => assert!(!output.exists(), "{error}"),
    }
    assert!(made.of_kind(hydrant::sim::server::RequestKind::ListVersions) > 0, "{made}");
}
