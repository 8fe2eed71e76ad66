//! Tests of restores that must fail: wrong keys, wrong buckets, empty prefixes, networks, damaged chains. None of
//! them may be reported as "no backups".

use super::support::*;
use crate::common::S3sServer;
use hydrant::sim::server::{Failure, Faults, Outcome, RequestKind};

/// Runs with and without `-if-replica-exists`. Both must fail in the same way and write nothing.
#[track_caller]
fn fails(url: &str, text: &str, prepare: impl Fn(&mut std::process::Command)) {
    for skip in ["-if-replica-exists", "-if-replica-exists=false"] {
        let place = Place::new();
        let mut command = hydrant_s3(&["restore", skip, "-json", "-o", &place.out(), url]);
        prepare(&mut command);
        run(&mut command).failed(text);
        place.is_empty();
    }
}

#[test]
fn wrong_keys() {
    let served = serve(large(64 << 10, 0), Faults::default());
    fails(&served.url, "SignatureDoesNotMatch", |c| {
        c.env("AWS_SECRET_ACCESS_KEY", "another");
    });
    fails(&served.url, "InvalidAccessKeyId", |c| {
        c.env("AWS_ACCESS_KEY_ID", "another");
    });
    fails(&served.url, "token", |c| {
        c.env_remove("AWS_SESSION_TOKEN");
    });
    fails(&served.url, "AWS_ACCESS_KEY_ID", |c| {
        c.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env_remove("AWS_SESSION_TOKEN");
    });
    // An independent S3 server must lead to the same error.
    let root = tempfile::tempdir().unwrap();
    let server = S3sServer::start(root.path());
    server.put("bucket", "db/0000/0000000000000001-0000000000000001.ltx", b"x", None);
    fails(&url(&server.endpoint, "db"), "LIST s3://bucket/", |c| {
        c.env_remove("AWS_SESSION_TOKEN");
    });
}

#[test]
fn access_denied_to_the_listing_or_to_one_object() {
    let served = serve(large(64 << 10, 2), Faults::default());
    let denied = Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() };
    served.server.set_faults(denied.clone());
    fails(&served.url, "AccessDenied", |_| {});
    served.server.set_faults(Faults { only_kind: Some(RequestKind::Get), ..denied });
    fails(&served.url, "s3:GetObject", |_| {});
}

#[test]
fn wrong_bucket() {
    let server = simulator(Faults::default());
    fails(&url(&server.endpoint(), "large.db"), "NoSuchBucket", |_| {});
    let ran = run(&mut hydrant_s3(&["ltx", &url(&server.endpoint(), "large.db")]));
    ran.failed("NoSuchBucket");
}

#[test]
fn an_empty_prefix_is_no_backup_and_may_be_skipped() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let folder = tempfile::tempdir().unwrap();
    let sources = [url(&served.server.endpoint(), "other.db"), format!("file://{}", folder.path().display())];
    for source in sources {
        let place = Place::new();
        let ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &source]));
        let stderr = ran.failed("").stderr;
        assert!(stderr.starts_with("Error: no matching backup files available: nothing lies at "), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        let ran = run(&mut hydrant_s3(&["restore", "-if-replica-exists", "-json", "-o", &place.out(), &source]));
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "", "no matching backups found\n"));
        run(&mut hydrant_s3(&["restore", "-if-replica-exists", "-dry-run", "-o", &place.out(), &source]))
            .failed("no matching backup files available");
        place.is_empty();
        let ran = run(&mut hydrant_s3(&["ltx", &source])).succeeded();
        assert_eq!(ran.stdout, "level  min_txid  max_txid  size  created\n");
    }
}

#[test]
fn no_network() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at_once = |c: &mut std::process::Command| {
        c.args(["-connect-timeout", "0"]);
    };
    fails(&url(&format!("http://127.0.0.1:{port}"), "db"), "nothing listens there", at_once);
    fails(&url("http://no-such-host.invalid", "db"), "s3://bucket/path?endpoint=HOST", at_once);
    fails(&url("https://127.0.0.1:1", "db"), "LIST s3://bucket/db/", at_once);
}

#[test]
fn time_outs_are_failures() {
    let served = serve(large(64 << 10, 0), Faults::default());
    served.server.set_faults(Faults { fail: vec![(Failure::RequestTimeout, 1.0)], ..Faults::default() });
    let place = Place::new();
    let ran = run(&mut hydrant_s3(&["restore", "-if-replica-exists", "-o", &place.out(), &served.url]));
    ran.failed("RequestTimeout");
    place.is_empty();
}

#[test]
fn damaged_chains_fail_with_their_class_and_leave_nothing() {
    for (name, text) in [
        ("hole", "non-contiguous ltx files"),
        ("no-first", "does not begin at TXID 1"),
        ("truncated", "truncated"),
        ("empty-file", "truncated"),
        ("bit-in-only-snapshot", ""),
        ("bit-in-index", ""),
        ("bit-in-trailer", "checksum mismatch"),
        ("magic", "malformed"),
        ("renamed", "name and header disagree"),
        ("trailing", "malformed"),
    ] {
        let before = contents(std::path::Path::new(damaged(name).trim_start_matches("file://")));
        fails(&damaged(name), text, |_| {});
        assert_eq!(contents(std::path::Path::new(damaged(name).trim_start_matches("file://"))), before);
    }
}

#[test]
fn every_file_deleted_meanwhile_is_no_permitted_skip() {
    let served = serve(large(64 << 10, 2), Faults::default());
    served.server.answer_only(RequestKind::Get, Some(0));
    let place = Place::new();
    let running = start(&mut hydrant_s3(&["restore", "-if-replica-exists", "-o", &place.out(), &served.url]));
    until(|| served.server.stats().count(RequestKind::List, Outcome::Ok) > 0);
    for object in &served.database.objects {
        assert!(served.server.objects().remove("bucket", &object.key));
    }
    served.server.answer_only(RequestKind::Get, None);
    let ran = running.wait();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    place.is_empty();
}

#[test]
fn texts_of_the_config() {
    let place = Place::new();
    let missing = place.path("none.yml");
    run(&mut hydrant(&["restore", "-config", &missing, "/a.db"])).failed(&format!("config file not found: {missing}"));
    let age = "dbs:\n- path: /a.db\n  replica:\n    path: /b\n    age: {recipients: [x]}\n";
    let two = "dbs:\n- path: /a.db\n  replicas: [{path: /b}, {path: /c}]\n";
    for (yaml, path, text) in [
        ("dbs: []\n", "/x/../a.db", "database not found in config: /a.db"),
        ("dbs: [{path: /a.db}]\n", "/a.db", "must specify replica for database"),
        (two, "/a.db", "multiple replicas on a single database are no longer supported"),
        (age, "sqlite:///a.db", "age encryption is not currently supported"),
        ("dbs: [{path: /a.db, replica: {type: gcs, bucket: b}}]\n", "/a.db", "gcs"),
    ] {
        let config = place.write("l.yml", yaml);
        run(&mut hydrant(&["restore", "-o", &place.out(), "-config", &config, path])).failed(text);
        assert!(!std::path::Path::new(&place.out()).exists());
    }
}
