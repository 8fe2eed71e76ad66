//! What `-as-of` says where it cannot restore (docs/VERSIONS.md, "Messages").

use super::support::{BUCKET, named, only_read, run};
use hydrant::sim::server::{Failure, Object, RequestKind, SimOptions, SimServer, VersionListings};
use hydrant::timestamp::Timestamp;

const URL: &str = "s3://bucket/backups/app.db";

fn refused(server: &SimServer, flags: &[&str], code: i32, texts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["restore", "-o", "out.db"], flags, &[URL]].concat();
    run(dir.path(), server, &args).said(code, texts);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    only_read(server);
}

const AT: &[&str] = &["-as-of", "2026-11-28T00:26:20Z"];

#[test]
fn a_service_that_lists_no_versions() {
    for (version_listings, texts) in [
        (VersionListings::Refused, ["the service does not list object versions (HTTP 501 NotImplemented)"]),
        (VersionListings::Ignored, ["the service does not list object versions (it ignores the parameter"]),
    ] {
        let server = SimServer::start(SimOptions { version_listings, ..SimOptions::default() }).unwrap();
        server.objects().put(BUCKET, "backups/app.db/0000/0000000000000001-0000000000000001.ltx", Object::new("x"));
        refused(&server, AT, 1, &texts);
        refused(&server, &["-as-of", "last"], 1, &texts);
        let dir = tempfile::tempdir().unwrap();
        let fleet = ["restore-pattern", "--as-of", "2026-11-28T00:26:20Z", "s3://bucket/**"];
        run(dir.path(), &server, &fleet).said(1, &texts);
        run(dir.path(), &server, &["ltx", "-versions", URL]).said(1, &texts);
        // An ordinary restore that finds nothing is silent about it.
        let nothing = run(dir.path(), &server, &["restore", "-o", "x.db", "s3://bucket/none"]).said(1, &[]);
        assert!(!nothing.stderr.contains("versions"), "{}", nothing.stderr);
    }
}

#[test]
fn permissions_that_are_missing() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    server.script(RequestKind::ListVersions, "backups/app.db/", vec![Some(Failure::AccessDenied); 9]);
    refused(&server, AT, 1, &["access denied: listing versions needs s3:ListBucketVersions"]);
    let server = one.serve(1000);
    server.set_faults(hydrant::sim::server::Faults {
        fail: vec![(Failure::AccessDenied, 1.0)],
        only_kind: Some(RequestKind::Get),
        ..Default::default()
    });
    refused(&server, AT, 1, &["access denied: reading a version needs s3:GetObjectVersion"]);
}

#[test]
fn a_bucket_that_was_never_versioned() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    let old = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
    let key = "backups/app.db/0000/0000000000000001-0000000000000001.ltx";
    server.objects().put(BUCKET, key, Object::new("x").last_modified(old));
    refused(&server, AT, 1, &["bucket is not versioned: its past is gone: bucket", "--allow-incomplete-history"]);
}

#[test]
fn nothing_was_there_at_the_time() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let before = ["-as-of", "2026-11-27T00:00:00Z"];
    refused(&server, &before, 1, &["no backup as of 2026-11-27T00:00:00Z: the first file is of 2026-11-28T00:2"]);
    for key in server.objects().keys(BUCKET, "") {
        let at = Timestamp::parse_rfc3339("2026-11-28T01:00:00Z").unwrap();
        server.versions().put_marker(BUCKET, &key, "deleted", at);
    }
    let after = ["-as-of", "2026-11-28T02:00:00Z", "-if-replica-exists"];
    refused(
        &server,
        &after,
        1,
        &[
            "no backup as of 2026-11-28T02:00:00Z: everything had been deleted by 2026-11-28T01:00:00Z",
            "Try: hydrant restore -o out.db -if-replica-exists -as-of 2026-11-28T0",
        ],
    );
    // Where no version of anything lies, there is no backup, which may be allowed.
    let dir = tempfile::tempdir().unwrap();
    let none = ["restore", "-o", "out.db", "-as-of", "2026-11-28T02:00:00Z", "-if-replica-exists", "s3://bucket/none"];
    run(dir.path(), &server, &none).said(0, &["no matching backups found"]);
}

#[test]
fn a_time_in_the_midst_of_a_deletion() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    // Files are deleted in the order of their keys, one a second, as `rm --recursive` does.
    let mut second = 0;
    for key in server.objects().keys(BUCKET, "") {
        let at = Timestamp::from_millis(1_795_827_600_000 + second * 1_000);
        server.versions().put_marker(BUCKET, &key, "deleted", at);
        second += 1;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut warned = 0;
    for after in [second / 2, second - 2] {
        let at = Timestamp::from_millis(1_795_827_600_000 + after * 1_000).to_string();
        let ran = run(dir.path(), &server, &["restore", "-o", &format!("{after}.db"), "-as-of", &at, URL]);
        let text = format!("files were being deleted at {at}: ");
        warned += usize::from(ran.stderr.contains(&text) && ran.stderr.contains(" reached, as of 2026-"));
    }
    assert!(warned > 0);
}

#[test]
fn history_that_is_not_complete() {
    let one = named("suspend-s");
    let server = one.serve(1000);
    let texts = ["versions from before now are incomplete (versioning was off, or expired versions were removed)"];
    refused(&server, AT, 1, &texts);
    let dir = tempfile::tempdir().unwrap();
    let fleet = ["restore-pattern", "--as-of", "2026-11-28T00:26:20Z", "s3://bucket/**"];
    run(dir.path(), &server, &fleet).said(1, &["versions from before ", " are incomplete"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn wrong_usage() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let future = ["-as-of", "2200-01-01T00:00:00Z"];
    refused(&server, &future, 2, &["-as-of 2200-01-01T00:00:00Z lies after the present, "]);
    refused(&server, &["-as-of", "yesterday"], 2, &["invalid -as-of, must specify in ISO 8601 format"]);
    refused(&server, &["-as-of", ""], 2, &["an empty -as-of: give an RFC 3339 time"]);
    refused(&server, &["-as-of", "last", "-f"], 2, &["cannot use follow mode with -as-of"]);
    refused(&server, &["-allow-incomplete-history"], 2, &["-allow-incomplete-history has no use without -as-of"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = format!("file://{}", dir.path().display());
    let pattern = format!("{folder}/**");
    for (args, text) in [
        (&["restore", "-o", "x", "-as-of", "last", &folder][..], "-as-of needs a versioned S3 bucket"),
        (&["ltx", "-as-of", "last", &folder], "-as-of needs a versioned S3 bucket"),
        (&["ltx", "-versions", &folder], "-versions needs a versioned S3 bucket"),
        (&["restore-pattern", "--as-of", "2026-01-01T00:00:00Z", &pattern], "-as-of needs a versioned S3 bucket"),
        (&["verify", "-as-of", "2026-01-01T00:00:00Z", &pattern], "-as-of needs a versioned S3 bucket"),
        (&["bench", "-as-of", "2026-01-01T00:00:00Z", &pattern], "-as-of needs a versioned S3 bucket"),
        (&["verify", "-as-of", "", "s3://bucket/**"], "an empty -as-of"),
        (&["ltx", "-versions", "-as-of", "last", URL], "it cannot go with -as-of"),
        (&["restore-pattern", "--as-of", "last", "s3://bucket/**"], "-as-of last is for one database"),
        (
            &["restore-pattern", "--as-of", "2026-01-01T00:00:00Z", "-catalogue", "c", "s3://bucket/**"],
            "cannot specify -as-of and a catalogue",
        ),
        (&["restore-pattern", "--as-of", "2200-01-01T00:00:00Z", "s3://bucket/**"], "lies after the present"),
    ] {
        run(dir.path(), &server, args).said(2, &[text]);
    }
    only_read(&server);
}

#[test]
fn archived_versions_are_named_before_anything_is_fetched() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let target = one.targets.iter().rfind(|target| target["version_ids"].is_array()).unwrap();
    for key in server.objects().keys(BUCKET, "") {
        let entry = server.versions().entries(BUCKET, &key).remove(0);
        let mut object = (*entry.object.unwrap()).clone();
        object.storage_class = Some("GLACIER".to_owned());
        server.versions().remove_version(BUCKET, &key, &entry.id);
        server.versions().put_version(BUCKET, &key, &entry.id, object);
    }
    let before = server.stats();
    refused(&server, &["-as-of", target["as_of"].as_str().unwrap()], 1, &["archive"]);
    // They were not deleted: no older state takes their place.
    refused(&server, &["-as-of", "last"], 1, &["archive"]);
    let dir = tempfile::tempdir().unwrap();
    let args = ["restore", "-o", "out.db", "-as-of", target["as_of"].as_str().unwrap(), URL];
    let ran = run(dir.path(), &server, &args).said(1, &[]);
    assert!(!ran.stderr.contains("were being deleted"), "{}", ran.stderr);
    assert_eq!(server.stats().since(&before).of_kind(RequestKind::Get), 0);
}
