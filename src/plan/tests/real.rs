//! Plans for the replicas of the corpus, which Litestream wrote.

use super::*;
use crate::catalogue::{Catalogue, Layout};
use crate::error::Class;
use crate::plan::corpus;
use crate::store::{Etag, ObjectMeta};
use serde_json::Value;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The creation time of an LTX file, from the bytes 32 to 39 of its header (docs/FORMAT.md, "LTX header").
fn header_time(path: &std::path::Path) -> Timestamp {
    let bytes = std::fs::read(path).unwrap();
    Timestamp::from_millis(i64::from_be_bytes(bytes[32..40].try_into().unwrap()))
}

fn listed(object: &Value, etag: &str) -> ObjectMeta {
    ObjectMeta {
        key: text(object, "key").into(),
        size: object["size"].as_u64().unwrap(),
        last_modified: Timestamp::parse_rfc3339(text(object, "last_modified"))
            .or_else(|| object["mtime_ns"].as_i64().map(Timestamp::from_nanos))
            .unwrap_or(Timestamp::now()),
        etag: Etag::parse(etag),
        archived: false,
    }
}

/// The TXID that docs/FORMAT.md, "Choosing the files", gives for a timestamp target. All times are known, and the
/// rule is implemented in the simplest way.
fn expected_txid(replica: &Replica, times: &[Timestamp], at: Timestamp) -> u64 {
    let mut end = 0;
    loop {
        let next = replica.files.iter().zip(times).filter(|(f, time)| **time < at && f.min_txid.0 <= end + 1);
        match next.map(|(f, _)| f.max_txid.0).max() {
            Some(max) if max > end => end = max,
            _ => return end,
        }
    }
}

#[test]
fn every_target_of_every_single_replica() {
    let Some(dir) = corpus::path("single") else { return };
    let mut checked = 0;
    let mut manifests: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    manifests.sort();
    for manifest in manifests.iter().filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        checked += check_single(&dir.join(text(&manifest, "name")), &manifest);
    }
    println!("{checked} targets");
    assert!(checked > 400, "{checked}");
}

fn check_single(dir: &std::path::Path, manifest: &Value) -> usize {
    let name = text(manifest, "name");
    let objects = manifest["objects"].as_array().unwrap();
    // The replica's path is empty, because the corpus' folder holds its levels at the top.
    let replica =
        Replica::of("", Layout::Hex, objects.iter().map(|o| listed(o, "\"d41d8cd98f00b204e9800998ecf8427e\"")));
    let times: Vec<Timestamp> = replica.files.iter().map(|f| header_time(&dir.join(replica.key(f)))).collect();
    for object in objects {
        let metadata = text(&object["metadata"], "litestream-timestamp");
        if let Some(i) = replica.files.iter().position(|f| replica.key(f) == text(object, "key"))
            && !metadata.is_empty()
        {
            assert_eq!(Timestamp::parse_rfc3339(metadata), Some(times[i]), "{name}");
        }
    }
    let targets = manifest["targets"].as_array().unwrap();
    // Finds the TXID of a state by its hash, if a TXID target of the manifest has the same hash.
    let state_of = |sha256: &str| {
        let same = targets.iter().filter(|t| text(t, "target") == "txid" && text(t, "sha256") == sha256);
        same.filter_map(|t| Txid::parse_name(text(t, "txid").as_bytes())).max()
    };
    for t in targets {
        let target = match text(t, "target") {
            "latest" => Target::Latest,
            "txid" => Target::Txid(Txid::parse_name(text(t, "txid").as_bytes()).unwrap()),
            "timestamp" => Target::Timestamp(Timestamp::parse_rfc3339(text(t, "timestamp")).unwrap()),
            other => panic!("{other}"),
        };
        let got = plan_with(&replica, target, &mut Times::new(), &Excluded::new(), |i| Some(times[i]));
        let n = replica.files.len().max(1) as f64;
        assert!(got.looks as f64 <= 4.0 * n.log2() + 20.0, "{name}: {} looks", got.looks);
        if name.starts_with("v3-") {
            match (&got.result, text(t, "error"), target) {
                (Ok(plan), "", Target::Latest | Target::Timestamp(_)) => assert!(plan.v3.is_some(), "{name} {t}"),
                (Err(PlanError::TxidNotReachable { .. }), "txid not reachable", Target::Txid(_)) => {}
                (Err(PlanError::TimestampDoesNotExist { .. }), "nothing that old", Target::Timestamp(_)) => {}
                (result, ..) => panic!("{name} {t} {result:?}"),
            }
            continue;
        }
        match (&got.result, text(t, "error"), target) {
            (Err(error), "txid not reachable", Target::Txid(_)) => {
                assert!(matches!(error, PlanError::TxidNotReachable { .. }), "{name} {t} {error}");
            }
            (Err(error), "nothing that old", Target::Timestamp(_)) => {
                assert!(matches!(error, PlanError::TimestampDoesNotExist { .. }), "{name} {t} {error}");
            }
            (Ok(plan), "", Target::Latest) => assert_eq!(Some(plan.txid), replica.max_txid(), "{name}"),
            (Ok(plan), "", Target::Txid(txid)) => assert_eq!(plan.txid, txid, "{name}"),
            (Ok(plan), "", Target::Timestamp(at)) => {
                assert_eq!(plan.txid.0, expected_txid(&replica, &times, at), "{name} {t}");
                if let Some(state) = state_of(text(t, "sha256")) {
                    assert_eq!(plan.txid, state, "{name} {t}");
                }
                if let Some(noted) = text(t, "note").strip_prefix("ends at TXID ") {
                    assert_eq!(plan.txid.to_string(), noted.split(':').next().unwrap(), "{name} {t}");
                    assert!(matches!(plan.warnings[..], [Warning::StateBetweenRetired { .. }]), "{name} {t}");
                }
            }
            (result, error, _) => panic!("{name} {t}: {result:?}, expected {error:?}"),
        }
        if let Ok(plan) = &got.result {
            assert_eq!(too_new(plan, target, |i| Some(times[i])), [0; 0]);
        }
    }
    targets.len()
}

#[test]
fn the_fleet_and_its_holes() {
    let Some(fleet) = corpus::json("fleet/fleet.json") else { return };
    let mut catalogue = Catalogue::new(Layout::Hex);
    for object in fleet["objects"].as_array().unwrap() {
        catalogue.insert(listed(object, ""));
    }
    let replicas = catalogue.finish();
    for database in fleet["databases"].as_array().unwrap() {
        let key = text(database, "key");
        let replica = replicas.iter().find(|r| r.name() == key).unwrap();
        let result = plan_now(replica, Target::Latest);
        match text(database, "expect") {
            "hole" => {
                assert_eq!(result, Err(PlanError::Hole { have: Txid(2), next: Txid(4) }), "{key}");
            }
            "chain does not begin at 1" => {
                assert_eq!(result.unwrap_err().class(), Class::ChainDoesNotBeginAtOne, "{key}");
            }
            // The damage is inside a file and cannot be seen in a listing. The file is therefore planned; decoding
            // it finds the damage.
            _ => assert_eq!(Some(result.unwrap().txid), replica.max_txid(), "{key}"),
        }
    }
    // If the damaged snapshot is excluded, the plan uses the lower levels if they go back to TXID 1.
    let without_snapshot = |key: &str| {
        let replica = replicas.iter().find(|r| r.name() == key).unwrap();
        let mut excluded = Excluded::new();
        excluded.insert(replica.level(Level::SNAPSHOT).start, Class::ChecksumMismatch);
        plan_with(replica, Target::Latest, &mut Times::new(), &excluded, |_| None).result
    };
    assert_eq!(without_snapshot("damaged/bit-in-page/app.db").unwrap().files.len(), 4);
    assert_eq!(without_snapshot("damaged/bit-in-only-snapshot/app.db").unwrap_err().class(), Class::ChecksumMismatch);
}
