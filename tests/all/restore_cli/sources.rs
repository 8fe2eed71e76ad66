//! Tests of the places where replicas lie and the ways to name them: by URL and by litestream.yml, on disk and in a
//! bucket, in both key layouts. Also tests of plans, JSON and lists of files.

use super::support::*;
use crate::common::S3sServer;
use hydrant::sim::server::Faults;
use std::path::Path;

/// The files of the fixture in a bucket of an independent S3 server.
fn in_bucket(name: &str) -> (tempfile::TempDir, S3sServer, serde_json::Value) {
    let (folder, manifest) = fixture(name);
    let root = tempfile::tempdir().unwrap();
    let server = S3sServer::start(root.path());
    for object in manifest["objects"].as_array().unwrap() {
        let key = object["key"].as_str().unwrap();
        let time = object["metadata"]["litestream-timestamp"].as_str();
        server.put("bucket", &format!("a/{name}/{key}"), &std::fs::read(folder.join(key)).unwrap(), time);
    }
    (root, server, manifest)
}

fn keys(command: &mut std::process::Command, server: &S3sServer) -> Ran {
    run(command.env("AWS_ACCESS_KEY_ID", server.access_key).env("AWS_SECRET_ACCESS_KEY", server.secret_key))
}

#[test]
fn folders_of_both_layouts_by_url_and_by_config() {
    for name in ["block-4096", "one-page", "page-512-frame"] {
        let (folder, manifest) = fixture(name);
        let place = Place::new();
        let ran = run(&mut hydrant(&["restore", "-o", &place.out(), &format!("file://{}", folder.display()), "-json"]));
        let ran = ran.succeeded();
        place.holds_only(&latest(&manifest));
        let result = ran.json();
        assert_eq!((&result["replica"], &result["integrity_check"]), (&"file".into(), &"none".into()), "{result}");
        assert_eq!(result["db_path"], place.out());
        assert_eq!(result["txid"].as_str().unwrap().len(), 16);
        assert!(result["duration_ms"].is_u64());
        assert!(ran.stdout.starts_with("{\n  \"db_path\""), "{}", ran.stdout);
        assert!(ran.stderr.starts_with("restored "), "{}", ran.stderr);

        let (configured, config) = (Place::new(), Place::new());
        let yaml = format!("dbs:\n- path: {}\n  replica:\n    path: {}\n", configured.out(), folder.display());
        let path = config.write("litestream.yml", &yaml);
        run(&mut hydrant(&["restore", "-config", &path, &configured.out()])).succeeded();
        configured.holds_only(&latest(&manifest));
    }
}

#[test]
fn a_bucket_by_url_and_by_config() {
    let (_root, server, manifest) = in_bucket("frame-4096");
    let hash = latest(&manifest);
    let url = url(&server.endpoint, "a/frame-4096");
    let place = Place::new();
    let ran = keys(&mut hydrant(&["restore", &url, "-o", &place.out(), "-json"]), &server).succeeded();
    place.holds_only(&hash);
    assert_eq!(ran.json()["replica"], "s3");
    assert_eq!(ran.json()["txid"], "0000000000000018");

    // The credentials are given by Litestream's own variables.
    let place = Place::new();
    let mut command = hydrant(&["restore", &url, "-o", &place.out()]);
    command.env("LITESTREAM_ACCESS_KEY_ID", server.access_key);
    run(command.env("LITESTREAM_SECRET_ACCESS_KEY", server.secret_key)).succeeded();
    place.holds_only(&hash);

    // Keys in the configuration are used alone, although the environment holds a session token.
    let (place, config) = (Place::new(), Place::new());
    let yaml = format!(
        "access-key-id: {}\nsecret-access-key: {}\ndbs:\n- path: {}\n  replica:\n    type: s3\n    bucket: bucket\n    \
         path: a/frame-4096\n    endpoint: {}\n    force-path-style: true\n",
        server.access_key,
        server.secret_key,
        place.out(),
        server.endpoint
    );
    let config = config.write("litestream.yml", &yaml);
    let mut command = hydrant(&["restore", "-json", &place.out()]);
    let ran =
        run(command.env("LITESTREAM_CONFIG", &config).env("AWS_SESSION_TOKEN", "canary-session-token")).succeeded();
    place.holds_only(&hash);
    assert_eq!(ran.json()["db_path"], place.out());
    let ran = run(&mut hydrant(&["ltx", "-config", &config, "-level", "all", "-json", &place.out()])).succeeded();
    assert_eq!(ran.json().as_array().unwrap().len(), manifest["objects"].as_array().unwrap().len());
}

#[test]
fn every_target_of_a_bucket_and_its_errors() {
    let (_root, server, manifest) = in_bucket("mixed-encodings");
    let url = url(&server.endpoint, "a/mixed-encodings");
    for target in manifest["targets"].as_array().unwrap() {
        let kind = target["target"].as_str().unwrap();
        let flag = format!("-{kind}");
        let place = Place::new();
        let out = place.out();
        let mut args = vec!["restore", "-o", &out, &url];
        if kind != "latest" {
            args.extend([flag.as_str(), target[kind].as_str().unwrap()]);
        }
        let ran = keys(&mut hydrant(&args), &server);
        match target["error"].as_str() {
            None => {
                ran.succeeded();
                place.holds_only(target["sha256"].as_str().unwrap());
            }
            Some("nothing that old") => {
                ran.failed("timestamp does not exist");
                place.is_empty();
            }
            Some(_) => {
                ran.failed("no matching backup files available");
                place.is_empty();
            }
        }
    }
}

#[test]
fn what_litestream_cannot_reach_is_never_a_permitted_skip() {
    let (folder, _) = fixture("block-4096");
    let url = format!("file://{}", folder.display());
    for target in [["-timestamp", "2001-01-01T00:00:00Z"], ["-txid", "ff"]] {
        let place = Place::new();
        let mut args = vec!["restore", "-if-replica-exists", "-o"];
        let out = place.out();
        args.extend([out.as_str(), target[0], target[1], &url]);
        let ran = run(&mut hydrant(&args));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        place.is_empty();
    }
}

#[test]
fn a_dry_run_fetches_no_page_and_ignores_the_output() {
    let served = serve(large(1 << 20, 3), Faults::default());
    let place = Place::new();
    place.write("out.db", "in the way");
    let before = place.contents();
    let ran = run(&mut hydrant_s3(&["restore", "-dry-run", "-o", &place.out(), &served.url])).succeeded();
    let expected = format!(
        "Restore plan:\n  source: {}\n  target: {}\n  replica: s3\n  txid range: 0000000000000001 - 0000000000000004\n\n\
         Files to fetch:\nlevel  file ",
        served.url,
        place.out()
    );
    assert!(ran.stdout.starts_with(&expected), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 12);
    let ran = run(&mut hydrant_s3(&["restore", "-dry-run", "-json", "-o", &place.out(), &served.url])).succeeded();
    let plan = ran.json();
    assert_eq!(plan["files"].as_array().unwrap().len(), 4);
    assert_eq!((&plan["files"][0]["level"], &plan["max_txid"]), (&9.into(), &"0000000000000004".into()));
    assert_eq!(plan["target_path"], place.out());
    assert_eq!(place.contents(), before);
    assert_eq!(served.server.stats().of_kind(hydrant::sim::server::RequestKind::Get), 0);
}

#[test]
fn relative_outputs_and_new_parents() {
    let (folder, manifest) = fixture("one-page");
    let url = format!("file://{}", folder.display());
    let place = Place::new();
    let mut command = hydrant(&["restore", "-json", "-o", "new/deep/out.db", &url]);
    let ran = run(command.current_dir(place.dir())).succeeded();
    assert_eq!(ran.json()["db_path"], "new/deep/out.db");
    assert_eq!(sha256(&place.dir().join("new/deep/out.db")), latest(&manifest));
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str| Path::new(&place.path(path)).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("new/deep"), 0o700);

    // The restore fails. The parent directories that it created must be removed.
    let place = Place::new();
    let missing = format!("file://{}", place.path("nowhere"));
    run(&mut hydrant(&["restore", "-o", &place.path("new/deep/out.db"), &missing]))
        .failed("no matching backup files available");
    place.is_empty();
}
