//! Tests of the commands on replicas of Litestream 0.3: what they print, what they refuse, what they leave behind.

use super::support::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Read;

const SNAPSHOT: &str = "generations/82fdcf411c47acbc/snapshots/00000000.snapshot.lz4";

fn served() -> Served {
    serve(fixture("v3-s3"))
}

fn ltx(args: &[&str], url: &str) -> Ran {
    ran_in(tempfile::tempdir().unwrap(), &[&["ltx"], args, &[url]].concat())
}

#[test]
fn the_result_in_json() {
    let served = served();
    let ran = restore_with(&["-json", &served.url()]).gives(served.recorded.latest());
    let result = ran.json();
    let (generation, _, last) = served.recorded.generations().pop().unwrap();
    assert_eq!((&result["txid"], &result["format"]), (&json!(""), &json!("v0.3")));
    assert_eq!((&result["generation"], &result["index"]), (&json!(generation), &json!("00000000")));
    let newest = served.recorded.files.iter().find(|file| file.time == last).unwrap();
    let offset = newest.key.rsplit('_').next().unwrap().trim_end_matches(".wal.lz4");
    assert_eq!(result["offset"], json!(offset), "{result}");
    assert_eq!(result["time"], json!(last.to_string()), "{result}");
    assert_eq!((&result["replica"], &result["integrity_check"]), (&json!("s3"), &json!("none")));
    let t = served.recorded.targets().iter().find(|t| t["target"] == "latest").unwrap();
    assert_eq!(result["bytes"], t["bytes"]);
    assert!(ran.stdout.starts_with("{\n  \"db_path\": \"out.db\""), "{}", ran.stdout);

    // Without -json, one line on stderr says it.
    let ran = restore_with(&[&served.url()]).gives(served.recorded.latest());
    assert!(ran.stdout.is_empty());
    let line = ran.stderr.lines().find(|line| line.starts_with("restored ")).unwrap_or_else(|| panic!("{ran:?}"));
    assert!(line.contains(&generation), "{line}");
}

#[test]
fn sqlites_check_of_the_result() {
    let served = served();
    for mode in ["quick", "full"] {
        let ran = restore_with(&["-json", "-integrity-check", mode, &served.url()]).gives(served.recorded.latest());
        assert_eq!(ran.json()["integrity_check"], mode);
    }
}

#[test]
fn a_dry_run_shows_the_files_in_order_and_fetches_none() {
    let served = served();
    let ran = ran_in(tempfile::tempdir().unwrap(), &["restore", "-dry-run", "-json", "-o", "out.db", &served.url()]);
    let ran = ran.writes_nothing();
    let plan = ran.json();
    assert_eq!((&plan["min_txid"], &plan["max_txid"]), (&json!(""), &json!("")), "{plan}");
    assert_eq!((&plan["replica"], &plan["target_path"]), (&json!("s3"), &json!("out.db")));
    let (generation, ..) = served.recorded.generations().pop().unwrap();
    assert_eq!((&plan["format"], &plan["generation"]), (&json!("v0.3"), &json!(generation)), "{plan}");
    let mut expected: Vec<(&str, u64)> = served
        .recorded
        .files
        .iter()
        .filter(|file| generation_of(&file.key) == Some(&generation))
        .map(|file| (file.key.as_str(), file.bytes.len() as u64))
        .collect();
    expected.sort_by_key(|&(key, _)| (key.contains("/wal/"), key));
    let files = plan["files"].as_array().unwrap();
    assert_eq!(files.len(), expected.len(), "{plan}");
    for (file, (key, size)) in files.iter().zip(&expected) {
        let name = key.split_once(&format!("{generation}/")).unwrap().1;
        assert_eq!((&file["name"], &file["key"]), (&json!(name), &json!(format!("db/{key}"))), "{file}");
        assert_eq!(file["size"], *size, "{file}");
    }
    let time = served.recorded.file(expected.last().unwrap().0).time;
    assert_eq!(files.last().unwrap()["timestamp"], time.to_rfc3339_seconds(), "{plan}");

    let ran = ran_in(tempfile::tempdir().unwrap(), &["restore", "-dry-run", "-o", "out.db", &served.url()]);
    let ran = ran.writes_nothing();
    assert!(ran.stdout.starts_with("Restore plan:\n  source: "), "{}", ran.stdout);
    assert!(ran.stdout.contains(&generation), "{}", ran.stdout);
    let (_, table) = ran.stdout.split_once("Files to fetch:\n").unwrap();
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), expected.len(), "{table}");
    for (row, (key, size)) in rows.iter().zip(&expected) {
        let name = key.rsplit('/').next().unwrap();
        assert!(row.contains(name) && row.contains(&size.to_string()), "{row}: {key}");
    }
    assert_eq!(served.server.stats().of_kind(hydrant::sim::server::RequestKind::Get), 0);
}

/// A dry run fails where the restore would, and plans what the restore does.
#[test]
fn a_dry_run_for_a_target() {
    let served = served();
    let url = served.url();
    let dry_run = |at: &str| {
        let args = ["restore", "-dry-run", "-json", "-timestamp", at, "-o", "out.db", &url];
        ran_in(tempfile::tempdir().unwrap(), &args)
    };
    for t in served.recorded.targets().iter().filter(|t| t["target"] == "timestamp") {
        let at = t["timestamp"].as_str().unwrap();
        let ran = dry_run(at);
        if t["error"].is_string() {
            ran.fails("timestamp does not exist");
            continue;
        }
        let plan = ran.writes_nothing().json();
        let result = restore_with(&["-json", "-timestamp", at, &url]).gives(t["sha256"].as_str().unwrap()).json();
        assert_eq!(plan["generation"], result["generation"]);
        assert_eq!(json!(plan["files"].as_array().unwrap().len()), result["files"], "{plan} {result}");
    }
}

#[test]
fn ltx_lists_nothing_and_says_why() {
    let served = served();
    for args in [&[][..], &["-level", "all"]] {
        let ran = ltx(args, &served.url()).writes_nothing();
        assert_eq!(ran.stdout, "level  min_txid  max_txid  size  created\n");
        assert!(ran.stderr.contains("v0.3") && ran.stderr.lines().count() == 1, "{ran:?}");
    }
    let ran = ltx(&["-json"], &served.url()).writes_nothing();
    assert_eq!(ran.stdout, "[]\n");
    assert!(ran.stderr.contains("v0.3"), "{ran:?}");
}

#[test]
fn a_txid_is_of_ltx_files_only() {
    let served = served();
    for txid in ["5", "1", "ffff"] {
        restore_with(&["-txid", txid, &served.url()]).fails("no matching backup files available");
        restore_with(&["-txid", txid, "-if-replica-exists", &served.url()]).fails("no matching backup files available");
    }
    // Zero means the newest state, of either format.
    restore_with(&["-txid", "0", &served.url()]).gives(served.recorded.latest());
}

/// Any file of 0.3 means that there is a backup.
#[test]
fn only_the_lack_of_all_files_may_be_skipped() {
    let server = simulator();
    let skip = |path: &str| restore_with(&["-if-replica-exists", &url(&server, path)]);
    let ran = skip("nothing").writes_nothing();
    assert!(ran.stderr.contains("no matching backups found"), "{ran:?}");

    let snapshots = |file: &RecordedFile| file.key.contains("/snapshots/");
    let put = |path: &str, kept: &dyn Fn(&RecordedFile) -> bool| {
        let mut recorded = fixture("v3-s3");
        recorded.files.retain(kept);
        recorded.put(&server, "bucket", &format!("{path}/"));
    };
    put("without-snapshots", &|file| !snapshots(file));
    skip("without-snapshots").fails("no snapshot");
    put("a-segment", &|file| file.key.ends_with("82fdcf411c47acbc/wal/00000000_00000000.wal.lz4"));
    skip("a-segment").fails("no snapshot");
    // A snapshot alone is a backup: its content, as it is.
    put("snapshots", &snapshots);
    let mut content = Vec::new();
    let recorded = fixture("v3-s3");
    lz4_flex::frame::FrameDecoder::new(&recorded.file(SNAPSHOT).bytes[..]).read_to_end(&mut content).unwrap();
    skip("snapshots").gives(&hydrant::hex::Hex(&Sha256::digest(&content)).to_string());

    // Temporary files and foreign names are no backup.
    let temporary = fixture("v3-s3").file(SNAPSHOT).object();
    server.objects().put("bucket", &format!("temporary/{SNAPSHOT}.tmp"), temporary);
    skip("temporary").writes_nothing();
}

/// What a 404, a 403 or a time-out is for LTX it is for v0.3: never a permitted skip.
#[test]
fn a_bucket_that_refuses_is_no_empty_one() {
    let served = served();
    let faults = hydrant::sim::server::Faults {
        fail: vec![(hydrant::sim::server::Failure::AccessDenied, 1.0)],
        ..Default::default()
    };
    served.server.set_faults(faults);
    restore_with(&["-if-replica-exists", &served.url()]).fails("");
}

#[test]
fn encrypted_files_are_refused_by_name() {
    let mut recorded = fixture("v3-s3");
    for file in &mut recorded.files {
        let packed = std::mem::take(&mut file.bytes);
        file.bytes = [&b"age-encryption.org/v1\n-> X25519 "[..], &packed].concat();
    }
    let served = serve(recorded);
    for skip in ["-json", "-if-replica-exists"] {
        let ran = restore_with(&[skip, &served.url()]).fails("encrypted");
        assert!(ran.stderr.contains("82fdcf411c47acbc") && ran.stderr.contains("age"), "{ran:?}");
    }
}

#[test]
fn files_of_the_prereleases_of_0_4_are_refused_by_name() {
    let packed = fixture("v3-s3").file(SNAPSHOT).object();
    for names in [
        &["snapshots/0000000000000000.snapshot.lz4", "wal/0000000000000000/0000000000000000.wal.lz4"][..],
        &["snapshots/0000000000000000.snapshot.lz4"],
        &["wal/00000000/00000000.wal.lz4"],
        &["wal/0000000000000000/00001038.wal.lz4"],
    ] {
        let server = simulator();
        for name in names {
            server.objects().put("bucket", &format!("db/generations/0123456789abcdef/{name}"), packed.clone());
        }
        for skip in ["-json", "-if-replica-exists"] {
            let ran = restore_with(&[skip, &url(&server, "db")]).fails("0.4");
            assert!(ran.stderr.contains("0123456789abcdef"), "{ran:?}");
        }
    }
}

/// Nobody knows what files of a prerelease hold. So generations of 0.3 beside them are restored only by name.
#[test]
fn generations_beside_files_of_a_prerelease_are_restored_by_name() {
    let mut recorded = fixture("v3-s3");
    let (newer, hash) = recorded.last_states().pop().unwrap();
    let mut file = recorded.file(SNAPSHOT).clone();
    file.key = format!("generations/{newer}/wal/00000000/00000000.wal.lz4");
    recorded.files.push(file);
    let served = serve(recorded);
    let ran = restore_with(&[&served.url()]).fails("0.4");
    assert!(ran.stderr.contains(&format!("-generation {newer}")), "{ran:?}");
    restore_with(&["-generation", &newer, &served.url()]).gives(&hash);
}

/// An output that exists is kept, and replaced only by a complete database.
#[test]
fn an_output_that_is_there() {
    let served = served();
    let into = |content: &str, args: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("out.db"), content).unwrap();
        let url = served.url();
        ran_in(dir, &[&["restore", "-o", "out.db", &url], args].concat())
    };
    into("", &[]).gives(served.recorded.latest());
    into("old", &["-force"]).gives(served.recorded.latest());
    let ran = into("old", &["-if-db-not-exists", "-json"]);
    assert_eq!((ran.code, &*ran.stdout), (0, ""), "{ran:?}");
    let ran = into("old", &[]);
    assert!(ran.code == 1 && ran.stderr.contains("output path already exists"), "{ran:?}");

    let segment = "82fdcf411c47acbc/wal/00000000_00000000.wal.lz4";
    let damaged = serve(fixture("v3-s3").without(segment));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("out.db"), "old").unwrap();
    let output = command_in(&dir, &["restore", "-force", "-o", "out.db", &damaged.url()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names_in(dir.path()), ["out.db"]);
    assert_eq!(std::fs::read(dir.path().join("out.db")).unwrap(), b"old");
}

/// A path as in litestream.yml of 0.3 is cleaned in the keys of 0.3 files, and not in those of LTX files.
#[test]
fn configured_paths_are_cleaned() {
    let server = simulator();
    let recorded = fixture("v3-s3");
    recorded.put(&server, "bucket", "a/b/");
    recorded.put(&server, "bucket", "");
    for (path, at_root) in
        [("a/b", false), ("a/b/", false), ("a//b", false), ("./a/./b", false), ("''", true), (".", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let yaml = format!(
            "dbs:\n- path: {}\n  replicas:\n  - type: s3\n    bucket: bucket\n    path: {path}\n    endpoint: {}\n    \
             force-path-style: true\n    region: us-east-1\n",
            dir.path().join("out.db").display(),
            server.endpoint()
        );
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), yaml).unwrap();
        let output = dir.path().join("out.db").to_str().unwrap().to_owned();
        let ran = ran_in(dir, &["restore", "-json", "-config", config.path().to_str().unwrap(), &output]);
        println!("{path} {at_root}");
        let result: Value = ran.gives(recorded.latest()).json();
        assert_eq!(result["format"], "v0.3");
    }
}
