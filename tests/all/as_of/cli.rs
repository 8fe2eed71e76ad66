//! `-as-of` of `restore` and `ltx` on recorded histories: results, JSON, the dry run, `last`, `-versions`.

use super::support::{BUCKET, Recorded, history, named, only_read, run, sha256, time};
use crate::common::client;
use hydrant::plan::{Excluded, PlanOutcome, Target, Times, plan};
use hydrant::restore::HistoryExtent;
use hydrant::sim::server::{Failure, RequestKind, SimOptions, SimServer};
use serde_json::Value;

fn url(one: &Recorded) -> String {
    format!("s3://{BUCKET}/{}", one.path)
}

/// A target that restores from at least `files` files and is complete.
fn restorable(one: &Recorded, files: usize) -> &Value {
    let fits = |target: &&Value| target["version_ids"].as_array().is_some_and(|ids| ids.len() >= files);
    one.targets.iter().find(fits).unwrap()
}

#[test]
fn a_state_of_the_past_in_every_output() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let target = restorable(&one, 2);
    let (dir, at) = (tempfile::tempdir().unwrap(), target["as_of"].as_str().unwrap());
    let ran = run(dir.path(), &server, &["restore", "-o", "out.db", "-as-of", at, "-json", &url(&one)]);
    let ran = ran.said(0, &["as of 2026-", " versions; TXID ", ", newest file ", " before 2026-"]);
    let ran = ran.said(0, &["nothing in the bucket was changed: before Litestream replicates this database again"]);
    assert_eq!(sha256(&dir.path().join("out.db")), target["sha256"].as_str().unwrap());
    let json = ran.json();
    assert_eq!(json["txid"], target["txid"]);
    assert_eq!(json["version_ids"], target["version_ids"]);
    assert_eq!(json["history_complete"], true);
    assert!(json["as_of"].as_str().unwrap() >= json["state_time"].as_str().unwrap());

    let dry = ["restore", "-o", "x.db", "-as-of", at, "-dry-run", &url(&one)];
    let text = run(dir.path(), &server, &dry).said(0, &["as of 2026-"]).stdout;
    let heading = text.lines().find(|line| line.starts_with("level")).unwrap();
    assert!(heading.ends_with("  version_id"), "{text}");
    let ids = target["version_ids"].as_array().unwrap();
    assert!(ids.iter().all(|id| text.contains(id.as_str().unwrap())), "{text}");
    let json = run(dir.path(), &server, &[&dry[..], &["-json"]].concat()).json();
    let of_files: Vec<_> = json["files"].as_array().unwrap().iter().map(|file| file["version_id"].clone()).collect();
    assert_eq!((&Value::Array(of_files), &json["version_ids"]), (&target["version_ids"], &target["version_ids"]));
    assert!(!dir.path().join("x.db").exists());
    only_read(&server);
}

#[test]
fn a_transaction_of_the_past() {
    let one = named("relineage-s-coarse");
    let server = one.serve(7);
    let (first, last) = (restorable(&one, 2), one.targets.iter().rfind(|t| t["txid"].is_string()).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (at, txid) = (first["as_of"].as_str().unwrap(), first["txid"].as_str().unwrap());
    run(dir.path(), &server, &["restore", "-o", "a.db", "-as-of", at, "-txid", txid, &url(&one)]).said(0, &[]);
    assert_eq!(sha256(&dir.path().join("a.db")), first["sha256"].as_str().unwrap());
    // A state before a time, from the files of a later time: none is as old as that.
    let later = last["as_of"].as_str().unwrap();
    let none = ["restore", "-o", "b.db", "-as-of", later, "-timestamp", "2020-01-01T00:00:00Z", &url(&one)];
    run(dir.path(), &server, &none).said(1, &["Error: "]);
    // The newest state before the time of the bucket itself is the one without -timestamp, or one before it.
    let both = ["restore", "-o", "c.db", "-json", "-as-of", later, "-timestamp", later, &url(&one)];
    let json = run(dir.path(), &server, &both).said(0, &[]).json();
    assert!(json["txid"].as_str().unwrap() <= last["txid"].as_str().unwrap(), "{json}");
    only_read(&server);
}

/// A state before the newest needs files of level 0 that the newest does not.
#[test]
fn every_file_of_the_time_is_there_for_older_states() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let dir = tempfile::tempdir().unwrap();
    let whole = client::run(history(&server, &one.path, HistoryExtent::Whole)).unwrap();
    let (mut restored, mut only_by_level_0) = (0, 0);
    for target in one.targets.iter().filter(|target| target["txid"].is_string()) {
        let at = target["as_of"].as_str().unwrap();
        let replica = whole.replica_at(&one.path, time(at));
        let reached_above = replica.files.iter().filter(|file| file.level.get() > 0).map(|file| file.max_txid).max();
        for file in
            replica.files.iter().filter(|file| file.level.get() == 0 && Some(file.max_txid) < reached_above).take(1)
        {
            let wanted = Target::Txid(file.max_txid);
            if plan(&replica, &wanted, &Times::new(), &Excluded::new()).is_err() {
                continue;
            }
            let mut above = replica.clone();
            above.files.retain(|file| file.level.get() > 0);
            only_by_level_0 += u32::from(plan(&above, &wanted, &Times::new(), &Excluded::new()).is_err());
            let (out, txid) = (format!("{restored}.db"), file.max_txid.to_string());
            let args = ["restore", "-o", &out, "-json", "-as-of", at, "-txid", &txid, &url(&one)];
            assert_eq!(run(dir.path(), &server, &args).said(0, &[]).json()["txid"], *txid);
            restored += 1;
        }
        let files = replica.files.iter().filter(|file| file.level.get() == 0).count();
        let listed = run(dir.path(), &server, &["ltx", "-json", "-as-of", at, &url(&one)]).said(0, &[]);
        assert_eq!(listed.json().as_array().unwrap().len(), files, "as of {at}");
    }
    assert!(restored > 3 && only_by_level_0 > 0, "{restored}, {only_by_level_0}");
}

/// A damaged file of the past is restored around, by files that the newest state does not need otherwise.
#[test]
fn redundancy_of_the_past_is_used() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let dir = tempfile::tempdir().unwrap();
    let whole = client::run(history(&server, &one.path, HistoryExtent::Whole)).unwrap();
    let mut around = 0;
    for target in one.targets.iter().filter(|target| target["txid"].is_string()) {
        let at = target["as_of"].as_str().unwrap();
        let replica = whole.replica_at(&one.path, time(at));
        let Ok(PlanOutcome::Plan(first)) = plan(&replica, &Target::Latest, &Times::new(), &Excluded::new()) else {
            continue;
        };
        for &planned in first.files.iter().filter(|&&i| replica.files[i].level.get() == 1) {
            let mut excluded = Excluded::new();
            excluded.insert(planned, hydrant::error::Class::Truncated);
            if plan(&replica, &Target::Latest, &Times::new(), &excluded).is_err() {
                continue;
            }
            let key = replica.key(&replica.files[planned]);
            server.script(RequestKind::Get, &key, vec![Some(Failure::FlippedBitAt(0)); 9]);
            let out = format!("{around}.db");
            let ran =
                run(dir.path(), &server, &["restore", "-o", &out, "-as-of", at, &url(&one)]).said(0, &["Warning: "]);
            assert_eq!(sha256(&dir.path().join(&out)), target["sha256"].as_str().unwrap(), "{ran:?}");
            server.script(RequestKind::Get, &key, vec![]);
            around += 1;
            break;
        }
        if around == 2 {
            break;
        }
    }
    assert!(around > 0);
    only_read(&server);
}

#[test]
fn the_last_full_state() {
    let one = named("suspend-s");
    let server = one.serve(1000);
    let dir = tempfile::tempdir().unwrap();
    // Its history is incomplete, so that it must be allowed.
    let args = ["restore", "-o", "out.db", "-json", "-as-of", "last", &url(&one)];
    run(dir.path(), &server, &args).said(1, &["versions from before now are incomplete"]);
    let allowed = [&args[..6], &["-allow-incomplete-history"], &args[6..]].concat();
    let ran = run(dir.path(), &server, &allowed).said(0, &["Warning: versions from before now are incomplete"]);
    let json = ran.json();
    assert_eq!(json["history_complete"], false);
    let best = one.targets.iter().filter_map(|target| target["txid"].as_str()).max().unwrap();
    assert_eq!(json["txid"], best);
    only_read(&server);
}

#[test]
fn files_of_the_past_are_listed() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let target = restorable(&one, 2);
    let (dir, at) = (tempfile::tempdir().unwrap(), target["as_of"].as_str().unwrap());
    let listed =
        run(dir.path(), &server, &["ltx", "-level", "all", "-json", "-as-of", at, &url(&one)]).said(0, &["as of"]);
    let txids: Vec<_> = listed.json().as_array().unwrap().iter().map(|file| file["max_txid"].clone()).collect();
    assert!(txids.contains(&target["txid"]), "{txids:?}");
    only_read(&server);
}

#[test]
fn all_versions_are_listed_with_their_times() {
    for (name, max_keys) in [("relineage-s-coarse", 1000), ("suspend-s", 7)] {
        let one = named(name);
        let server = one.serve(max_keys);
        let recorded: Value = serde_json::from_slice(&std::fs::read(&one.file).unwrap()).unwrap();
        let entries = recorded["versions"].as_array().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let args = ["ltx", "-versions", "-level", "all", &url(&one)];
        let ran = run(dir.path(), &server, &[&args[..4], &["-json"], &args[4..]].concat());
        let ran = ran.said(0, &[&format!("history: {} versions and markers of ", entries.len())]);
        let json = ran.json();
        let data: Vec<_> = entries.iter().filter(|entry| entry["marker"] == false).collect();
        assert_eq!(json.as_array().unwrap().len(), data.len());
        for (i, entry) in entries.iter().enumerate().filter(|(_, entry)| entry["marker"] == false) {
            let txids = entry["key"].as_str().unwrap().rsplit('/').next().unwrap();
            let same = |row: &&Value| {
                row["version_id"] == entry["version_id"]
                    && txids
                        == format!("{}-{}.ltx", row["min_txid"].as_str().unwrap(), row["max_txid"].as_str().unwrap())
                    && entry["key"].as_str().unwrap().starts_with(&format!("{:04x}/", row["level"].as_u64().unwrap()))
            };
            let row = json.as_array().unwrap().iter().find(same).unwrap();
            let newer = i.checked_sub(1).map(|i| &entries[i]).filter(|newer| newer["key"] == entry["key"]);
            let ended = newer.map(|newer| if newer["marker"] == true { "deleted" } else { "replaced" });
            assert_eq!(row["ended"].as_str(), ended, "{entry}");
            assert_eq!(row["until"].is_string(), newer.is_some(), "{entry}");
            assert_eq!(row["is_latest"], entry["is_latest"], "{entry}");
        }
        let text = run(dir.path(), &server, &args).said(0, &["history: "]);
        let heading = "level  min_txid          max_txid          size  created";
        assert!(text.stdout.starts_with(heading), "{}", text.stdout);
        assert_eq!(text.stdout.lines().count(), data.len() + 1);
        only_read(&server);
    }
}

#[test]
fn deletions_and_replaced_files_are_named() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let dir = tempfile::tempdir().unwrap();
    let ran =
        run(dir.path(), &server, &["ltx", "-versions", &url(&one)]).said(0, &["deleted: ", "last full state: -as-of "]);
    let ran = ran.said(0, &["replaced: ", "(two writers or a new lineage)"]);
    // The named time restores the state of the first lineage.
    let line = ran.stderr.lines().find(|line| line.contains("deleted: ")).unwrap();
    let at = line.split("-as-of ").nth(1).unwrap().split(' ').next().unwrap();
    let txid = line.split("TXID ").nth(1).unwrap().trim_end_matches(')');
    let restored =
        run(dir.path(), &server, &["restore", "-o", "out.db", "-json", "-as-of", at, &url(&one)]).said(0, &[]);
    assert_eq!(restored.json()["txid"], txid);
}

#[test]
fn one_request_shows_that_a_deleted_backup_can_be_had() {
    let one = named("relineage-s-coarse");
    let dir = tempfile::tempdir().unwrap();
    let server = one.serve(1000);
    // Everything is deleted at the end.
    for key in server.objects().keys(BUCKET, "") {
        let now = hydrant::timestamp::Timestamp::parse_rfc3339("2026-11-28T01:00:00Z").unwrap();
        server.versions().put_marker(BUCKET, &key, "deleted", now);
    }
    let before = server.stats();
    let ran = run(dir.path(), &server, &["restore", "-o", "out.db", &url(&one)]);
    let ran = ran.said(1, &["the bucket keeps deleted versions: of ", "Try: hydrant restore -o out.db -as-of 2026-"]);
    assert_eq!(server.stats().since(&before).of_kind(RequestKind::ListVersions), 1);
    // The command that is suggested restores the last state.
    let call = ran.stderr.lines().find_map(|line| line.strip_prefix("Try: hydrant ")).unwrap();
    let args: Vec<&str> = call.split(' ').collect();
    run(dir.path(), &server, &args).said(0, &[]);
    let last = one.targets.iter().rfind(|target| target["sha256"].is_string()).unwrap();
    assert_eq!(sha256(&dir.path().join("out.db")), last["sha256"].as_str().unwrap());
    // With smaller pages one page does not show the whole history.
    let small = one.serve(7);
    for key in small.objects().keys(BUCKET, "") {
        let now = hydrant::timestamp::Timestamp::parse_rfc3339("2026-11-28T01:00:00Z").unwrap();
        small.versions().put_marker(BUCKET, &key, "deleted", now);
    }
    run(dir.path(), &small, &["restore", "-o", "y.db", &url(&one)])
        .said(1, &["Try: hydrant restore -o y.db -as-of last"]);
    only_read(&server);
}

#[test]
fn a_bucket_without_versions_gets_no_hint() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    server.objects().create_bucket(BUCKET);
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), &server, &["restore", "-o", "out.db", "s3://bucket/none"]);
    assert!(!ran.said(1, &[]).stderr.contains("deleted versions"));
    let skipped = run(dir.path(), &server, &["restore", "-o", "out.db", "-if-replica-exists", "s3://bucket/none"]);
    skipped.said(0, &["no matching backups found"]);
}
