//! Tests of what is concluded from a listing: that there are no backups only where there is nothing, that one bad name
//! fails alone, and how much memory a list may take. The program runs against the simulator, against files, and against
//! a server whose answers no correct server gives.

use crate::common::binary::hydrant;
use crate::common::raw::RawServer;
use hydrant::sim::server::{Object, SimOptions, SimServer};
use std::path::Path;
use std::process::Output;

const FILE: &str = "0000000000000001-0000000000000001.ltx";

/// A simulator with these keys in the bucket `b`, and the query of its URLs.
fn bucket(keys: &[&str]) -> (SimServer, String) {
    let server = SimServer::start(SimOptions::default()).unwrap();
    server.objects().create_bucket("b");
    keys.iter().for_each(|key| server.objects().put("b", key, Object::new("x")));
    let query = query(&server.endpoint());
    (server, query)
}

fn query(endpoint: &str) -> String {
    format!("endpoint={endpoint}&forcePathStyle=true&region=us-east-1")
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(dir: &Path, args: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = hydrant(dir, args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

impl Ran {
    #[track_caller]
    fn says(self, code: i32, text: &str) -> Self {
        assert!(self.code == Some(code) && self.stderr.contains(text), "{:?}: {}", self.code, self.stderr);
        self
    }
}

/// `restore -if-replica-exists` of a URL.
fn permitted(dir: &Path, url: &str) -> Ran {
    run(dir, &["restore", "-if-replica-exists", "-o", "out.db", url])
}

#[test]
fn a_url_that_is_no_databases_is_never_no_backup() {
    let keys = ["p/a.db/0000/", "p/a.db/0009/", "p/b.db/0009/", "q/ltx/0/"].map(|dir| format!("{dir}{FILE}"));
    let (_server, query) = bucket(&keys.each_ref().map(String::as_str));
    let dir = tempfile::tempdir().unwrap();
    let inside_a = "lies inside the replica s3://b/p/a.db: give";
    let file = format!("p/a.db/0000/{FILE}");
    for (path, text) in [
        ("p", "s3://b/p is the path of no database, but 2 databases lie below it, for example p/a.db: give"),
        (
            "p/",
            "2 databases lie below it, for example p/a.db: give the path of one of them, or restore all with restore-pattern",
        ),
        ("", "s3://b/ is the path of no database, but 3 databases lie below it, for example p/a.db"),
        ("p/a.db/0000", inside_a),
        ("p/a.db/0009/", inside_a),
        ("p/a.db/0003", inside_a),
        ("p/a.db/ltx", inside_a),
        (&file, inside_a),
        ("q/ltx", "lies inside the replica s3://b/q: give"),
        ("q/ltx/0", "lies inside the replica s3://b/q: give"),
    ] {
        let url = format!("s3://b/{path}?{query}");
        permitted(dir.path(), &url).says(1, "Error: no matching backup files available: ").says(1, text);
        run(dir.path(), &["ltx", &url]).says(1, text);
    }
    permitted(dir.path(), &format!("s3://b/none?{query}")).says(0, "no matching backups found\n");
    let ran = run(dir.path(), &["restore", "-o", "out.db", &format!("s3://b/none?{query}")]);
    ran.says(1, "Error: no matching backup files available: nothing lies at s3://b/none\n");
    assert!(!dir.path().join("out.db").exists());
}

#[test]
fn databases_that_the_same_file_configures_do_not_count() {
    let (_server, query) = bucket(&[&format!("p/a.db/0009/{FILE}"), &format!("p/t/x.db/0009/{FILE}")]);
    let dir = tempfile::tempdir().unwrap();
    let entry = |name: &str, key: &str| {
        let path = dir.path().join(name);
        format!("- path: {}\n  replica: {{ url: \"s3://b/{key}?{query}\" }}\n", path.display())
    };
    let restore = |yaml: String| {
        std::fs::write(dir.path().join("litestream.yml"), format!("dbs:\n{yaml}")).unwrap();
        run(dir.path(), &["restore", "-config", "litestream.yml", "-if-replica-exists", "new.db"])
    };
    let new = entry("new.db", "p");
    restore(new.clone()).says(1, "2 databases lie below it, for example p/a.db");
    let a = entry("a.db", "p/a.db");
    restore(format!("{new}{a}")).says(1, "1 database lies below it, for example p/t/x.db");
    let t = format!(
        "- dir: {}\n  pattern: \"*.db\"\n  replica: {{ url: \"s3://b/p/t?{query}\" }}\n",
        dir.path().join("t").display()
    );
    restore(format!("{new}{a}{t}")).says(0, "no matching backups found");
}

#[test]
fn a_file_in_place_of_a_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("app.db"), "").unwrap();
    for path in ["app.db", "app.db/", "app.db/below"] {
        let url = format!("file://{}/{path}", dir.path().display());
        permitted(dir.path(), &url).says(1, "ot a directory");
    }
}

#[test]
fn a_directory_that_does_not_exist_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display().to_string();
    let nearest = format!("/volume/replicas/a.db does not exist, the nearest directory above it is {root} (is the");
    let url = format!("file://{root}/volume/replicas/a.db");
    let ran = permitted(dir.path(), &url).says(0, "no matching backups found\n").says(0, "Warning: ");
    ran.says(0, &nearest);
    run(dir.path(), &["restore", "-o", "out.db", &url])
        .says(1, "Error: no matching backup files available: ")
        .says(1, &nearest);
    let pattern = format!("file://{root}/volume/replicas/**");
    let ran = run(dir.path(), &["restore-pattern", "--max-retries", "0", &pattern]);
    ran.says(1, "/volume/replicas/ does not exist, the nearest directory above it is");
    let yaml = format!("dbs:\n- path: {root}/a.db\n  replica: {{ path: {root}/volume/replicas/a.db }}\n");
    std::fs::write(dir.path().join("litestream.yml"), yaml).unwrap();
    let args = ["restore-pattern", "-config", "litestream.yml", "-if-replica-exists", &format!("{root}/*.db")];
    run(dir.path(), &args).says(0, &nearest);
}

/// Sent as a byte that is not UTF-8.
const ODD: u8 = b'#';

/// A server that answers each LIST with these keys, as they stand in XML.
fn lists(keys: Vec<String>, encoding: &'static str) -> RawServer {
    RawServer::start(move |_, wire| {
        let object = |key: &String| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>200</Size></Contents>"
            )
        };
        let objects: String = keys.iter().map(object).collect();
        let body = format!("<ListBucketResult>{encoding}<IsTruncated>false</IsTruncated>{objects}</ListBucketResult>");
        let body: Vec<u8> = body.bytes().map(|byte| if byte == ODD { 0xe9 } else { byte }).collect();
        write!(wire, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        wire.write_all(&body)
    })
}

#[test]
fn keys_that_do_not_begin_with_the_prefix_show_nothing() {
    let server = lists(vec![format!("/p/a.db/0009/{FILE}")], "");
    let dir = tempfile::tempdir().unwrap();
    let query = query(&server.endpoint());
    let text = "no key in the answer begins with this prefix, for example \"/p/a.db/0009/";
    permitted(dir.path(), &format!("s3://b/p/a.db?{query}")).says(1, text);
    run(dir.path(), &["ltx", &format!("s3://b/p/a.db?{query}")]).says(1, text);
    run(dir.path(), &["restore-pattern", "--max-retries", "0", &format!("s3://b/p/**?{query}")]).says(1, text);
}

#[test]
fn a_key_that_is_not_utf8_fails_alone() {
    for (odd, encoding) in
        [("%E9", "<EncodingType>url</EncodingType>"), ("#", ""), ("#", "<EncodingType>url</EncodingType>")]
    {
        fails_alone(odd, encoding);
    }
}

/// Keys with a byte that is not UTF-8, which stands as `odd` in the answer.
fn fails_alone(odd: &str, encoding: &'static str) {
    let keys = ["p/a.db/0009/", &format!("p/caf{odd}.db/0009/"), "p/z.db/0009/"].map(|dir| format!("{dir}{FILE}"));
    let keys = keys.into_iter().chain([format!("p/caf{odd}.txt")]).collect();
    let server = lists(keys, encoding);
    let dir = tempfile::tempdir().unwrap();
    let query = query(&server.endpoint());
    let pattern = format!("s3://b/p/**?{query}");
    let ran = run(dir.path(), &["restore-pattern", "-dry-run", "-json", &pattern]).says(3, "the key is not UTF-8");
    let outcomes: Vec<(String, String)> = ran
        .stdout
        .lines()
        .filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            Some((line["name"].as_str()?.to_owned(), line["outcome"].as_str()?.to_owned()))
        })
        .collect();
    let mut expected = [("p/a.db", "planned"), ("p/caf\u{fffd}.db", "failed"), ("p/z.db", "planned")]
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .to_vec();
    let mut outcomes = outcomes;
    outcomes.sort();
    expected.sort();
    assert_eq!(outcomes, expected);
    // A pattern that the database does not match has nothing to do with it.
    run(dir.path(), &["restore-pattern", "-dry-run", &format!("s3://b/p/a*?{query}")]).says(0, "");
    run(dir.path(), &["ltx", "-level", "all", &format!("s3://b/p/a.db?{query}")]).says(0, "");
}

#[test]
fn a_list_that_is_too_long_for_the_budget_is_an_error_that_names_the_flags() {
    let keys: Vec<String> = (1..=40_000).map(|n| format!("p/a.db/0000/{n:016x}-{n:016x}.ltx")).collect();
    let (_server, query) = bucket(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let dir = tempfile::tempdir().unwrap();
    for args in
        [&["restore-pattern", "-dry-run", "--max-retries", "0"][..], &["ltx"], &["restore", "-dry-run", "-o", "x"]]
    {
        let url = format!("s3://b/p/{}?{query}", if args[0] == "restore-pattern" { "**" } else { "a.db" });
        let little = [args, &["-memory", "1MiB", &url]].concat();
        let ran = run(dir.path(), &little).says(1, "of --memory; raise --memory, or");
        ran.says(1, "--shard");
    }
    let url = format!("s3://b/p/**?{query}");
    // Another share does not keep the database.
    let shares = ["0/2", "1/2"].map(|shard| {
        let args = ["restore-pattern", "-dry-run", "--max-retries", "0", "-memory", "1MiB", "--shard", shard, &url];
        run(dir.path(), &args).code
    });
    assert!(shares.contains(&Some(0)) && shares.contains(&Some(1)), "{shares:?}");
}

#[test]
fn what_lies_there_is_said_if_nothing_matches() {
    let keys = ["t/eu/a.db/0009/", "t/us/b.db/0009/"].map(|dir| format!("{dir}{FILE}"));
    let (_server, query) = bucket(&[&keys[0], &keys[1], "u/notes.txt"]);
    let dir = tempfile::tempdir().unwrap();
    for (pattern, text) in [
        ("t", "2 databases lie below s3://b/t/, for example t/eu/a.db, which s3://b/t/ would match"),
        ("t/*.db", "for example t/eu/a.db, which s3://b/t/**/*.db would match"),
        ("t/eu/a.db/0009", "s3://b/t/eu/a.db/0009/ lies inside the replica s3://b/t/eu/a.db"),
        ("u/**", "1 object lies below s3://b/u/, for example u/notes.txt, but no backup file"),
        ("x/**", "nothing lies below s3://b/x/"),
    ] {
        let ran = run(dir.path(), &["restore-pattern", "-dry-run", &format!("s3://b/{pattern}?{query}")]);
        ran.says(1, "Error: no database matches s3://b/").says(1, text);
    }
    let asked = format!("s3://b/t/eu/a?.db&{query}");
    run(dir.path(), &["restore-pattern", "-dry-run", &asked]).says(1, "as a wildcard it is written %3F");
}
