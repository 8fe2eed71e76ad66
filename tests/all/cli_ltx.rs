//! Tests of `hydrant ltx` as a script sees it, on a replica on disk and on a server that does not answer.

use crate::common::wait::{ended, grant_time_to_end};
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A command for the program with an empty environment.
fn hydrant(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(args).env_clear().env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    grant_time_to_end(&mut command);
    command
}

fn ltx(args: &[&str], source: &str) -> Output {
    hydrant(&[&["ltx"], args, &[source]].concat()).output().unwrap()
}

/// The exit code, stdout and stderr of a run.
fn seen(output: &Output) -> (i32, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Writes a file that has a valid LTX header and nothing else. Its mtime is `modified` seconds after the epoch.
fn write(root: &Path, level: &str, min: u64, max: u64, time_ms: i64, modified: u64) {
    let mut bytes = b"LTX1".to_vec();
    for word in [2u32, 4096, 1] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(min.to_be_bytes());
    bytes.extend(max.to_be_bytes());
    bytes.extend(time_ms.to_be_bytes());
    bytes.resize(200, 0);
    let directory = root.join(level);
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{min:016x}-{max:016x}.ltx"));
    std::fs::write(&path, bytes).unwrap();
    let modified = std::time::UNIX_EPOCH + Duration::from_secs(modified);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

fn replica() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a.db");
    write(&root, "ltx/9", 1, 5, 1_763_775_105_750, 1_800_000_000);
    write(&root, "ltx/0", 6, 6, 1_763_775_106_000, 1_800_000_001);
    write(&root, "ltx/0", 10, 16, 1_763_775_107_999, 1_800_000_002);
    std::fs::write(root.join("ltx/0/notes.txt"), "no LTX file").unwrap();
    let url = format!("file://{}", root.display());
    (dir, url)
}

#[test]
fn tables() {
    let (_dir, url) = replica();
    let level_0 = "\
level  min_txid          max_txid          size  created
0      0000000000000006  0000000000000006  200   2027-01-15T08:00:01Z
0      000000000000000a  0000000000000010  200   2027-01-15T08:00:02Z
";
    assert_eq!(seen(&ltx(&[], &url)), (0, level_0, ""));
    let all = "\
level  min_txid          max_txid          size  created
0      0000000000000006  0000000000000006  200   2025-11-22T01:31:46Z
0      000000000000000a  0000000000000010  200   2025-11-22T01:31:47Z
9      0000000000000001  0000000000000005  200   2025-11-22T01:31:45Z
";
    assert_eq!(seen(&ltx(&["-level", "all", "-times"], &url)), (0, all, ""));
    let header = "level  min_txid  max_txid  size  created\n";
    assert_eq!(seen(&ltx(&["-level=3"], &url)), (0, header, ""));
}

#[test]
fn json() {
    let (_dir, url) = replica();
    let parse = |output: Output| -> Value {
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let listed = parse(ltx(&["-level", "9", "-json"], &url));
    assert_eq!(listed[0]["timestamp"], "2027-01-15T08:00:00Z");
    assert_eq!(listed[0]["time_source"], "last_modified");
    assert_eq!(listed[0]["level"], 9);
    let looked = parse(ltx(&["-level", "9", "-json", "-times"], &url));
    assert_eq!(looked[0]["timestamp"], "2025-11-22T01:31:45Z");
    assert_eq!(looked[0]["time_source"], "header");
}

/// An empty table does not tell whether the path was right.
#[test]
fn an_empty_place_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty.db")).unwrap();
    let root = dir.path().display();
    let header = "level  min_txid  max_txid  size  created\n";
    for (path, text) in [
        ("empty.db", format!("no matching backup files available: nothing lies at {root}/empty.db\n")),
        (
            "mistyped.db",
            format!("no matching backup files available: {root}/mistyped.db does not exist, the nearest directory"),
        ),
    ] {
        for (args, expected) in [(&[][..], header), (&["-json"], "[]\n"), (&["-quiet"], header)] {
            let output = ltx(args, &format!("file://{root}/{path}"));
            let (code, stdout, stderr) = seen(&output);
            assert_eq!((code, stdout, stderr.lines().count()), (0, expected, 1), "{stderr}");
            assert!(stderr.starts_with(&text), "{stderr}");
        }
    }
}

#[test]
fn a_file_that_is_none_keeps_the_listings_time() {
    let (dir, url) = replica();
    let broken = dir.path().join("a.db/ltx/9/0000000000000001-0000000000000005.ltx");
    std::fs::write(&broken, b"short").unwrap();
    let output = ltx(&["-level", "all", "-json", "-times"], &url);
    let (code, stdout, stderr) = seen(&output);
    assert_eq!(code, 0);
    let files: Value = serde_json::from_str(stdout).unwrap();
    assert_eq!(files[2]["time_source"], "last_modified");
    assert_eq!(files[0]["time_source"], "header");
    assert!(stderr.starts_with("Warning: not an LTX file"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn by_configured_path() {
    let (dir, _) = replica();
    let config = dir.path().join("l.yml");
    let root = dir.path().join("a.db");
    std::fs::write(&config, format!("dbs:\n  - path: /data/a.db\n    replica:\n      path: {}\n", root.display()))
        .unwrap();
    let output = ltx(&["-config", config.to_str().unwrap(), "-level", "9"], "/data//x/../a.db");
    let (code, stdout, stderr) = seen(&output);
    assert_eq!((code, stderr), (0, ""));
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
}

#[test]
fn signals_end_a_run_that_waits() {
    // This server accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("s3://bucket/p?endpoint=http://{}", listener.local_addr().unwrap());
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = hydrant(&["ltx", &endpoint])
            .env("AWS_ACCESS_KEY_ID", "AK")
            .env("AWS_SECRET_ACCESS_KEY", "CANARY")
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Waits until the request is under way.
        listener.set_nonblocking(false).unwrap();
        let connection = listener.accept().unwrap();
        listener.set_nonblocking(true).unwrap();
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert_eq!(ended(&mut child).code(), Some(code));
        // It has not waited for the request's time-out, after which it would have sent another.
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.starts_with("Error: "), "{stderr}");
        assert!(!stderr.contains("CANARY"));
        drop(connection);
    }
}
