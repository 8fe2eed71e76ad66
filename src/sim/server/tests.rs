//! Tests of the server by requests written by hand, and by S3 clients that other projects wrote.

use super::*;
use crate::timestamp::Timestamp;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// An answer: the status, the headers, the body, and whether the connection ended before the announced length.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    cut: bool,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The bound only ends a test that would hang.
const AT_MOST: Duration = Duration::from_secs(120);

fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < AT_MOST, "the condition never held");
        std::thread::yield_now();
    }
}

/// One request on a connection; None where it ends without an answer.
fn ask_on(stream: &mut TcpStream, request: &str) -> Option<Answer> {
    ask_for(AT_MOST, stream, request)
}

/// None also where no answer comes in this time.
fn ask_for(time: Duration, stream: &mut TcpStream, request: &str) -> Option<Answer> {
    stream.set_read_timeout(Some(time)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut answer = Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        body: bytes[head_end..].to_vec(),
        head,
        cut: false,
    };
    let len: usize = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
    let bodiless = request.starts_with("HEAD") || matches!(answer.status, 204 | 304);
    while !bodiless && answer.body.len() < len {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => {
                answer.cut = true;
                break;
            }
            Ok(n) => answer.body.extend_from_slice(&buffer[..n]),
        }
    }
    Some(answer)
}

fn ask(server: &SimServer, method: &str, target: &str, headers: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    ask_on(&mut stream, &format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.address()))
}

fn server(faults: Faults) -> SimServer {
    SimServer::start(SimOptions { faults, ..SimOptions::default() }).unwrap()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn objects_ranges_conditions() {
    let server = server(Faults::default());
    let time = Timestamp::parse_rfc3339("2026-11-22T01:32:36.216Z").unwrap();
    let content = bytes(300_000);
    let object = Object::new(content.clone()).litestream_timestamp(time).last_modified(time);
    let etag = object.etag.clone();
    server.objects().put("b", "dir/key+ ü", object);
    let target = "/b/dir/key%2B%20%C3%BC";

    let whole = ask(&server, "GET", target, "").unwrap();
    assert_eq!((whole.status, whole.body == content), (200, true));
    assert_eq!(whole.header("etag"), Some(format!("\"{etag}\"").as_str()));
    assert_eq!(whole.header("last-modified"), Some("Sun, 22 Nov 2026 01:32:36 GMT"));
    assert_eq!(whole.header("x-amz-meta-litestream-timestamp"), Some("2026-11-22T01:32:36.216Z"));
    assert!(whole.header("x-amz-request-id").is_some() && whole.header("date").is_some());

    let part = ask(&server, "GET", target, "Range: bytes=131000-262200\r\n").unwrap();
    assert_eq!((part.status, part.body == content[131_000..=262_200]), (206, true));
    assert_eq!(part.header("content-range"), Some("bytes 131000-262200/300000"));
    let tail = ask(&server, "GET", target, "Range: bytes=-16\r\n").unwrap();
    assert_eq!((tail.status, tail.body == content[299_984..]), (206, true));
    let beyond = ask(&server, "GET", target, "Range: bytes=300000-\r\n").unwrap();
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */300000")));
    assert!(beyond.text().contains("<Code>InvalidRange</Code>"));

    let head = ask(&server, "HEAD", target, "").unwrap();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("300000"), 0));
    let same = ask(&server, "GET", target, &format!("If-Match: \"{etag}\"\r\n")).unwrap();
    assert_eq!(same.status, 200);
    assert_eq!(ask(&server, "GET", target, "If-Match: \"other\"\r\n").unwrap().status, 412);
    assert_eq!(ask(&server, "GET", target, &format!("If-None-Match: \"{etag}\"\r\n")).unwrap().status, 304);

    assert!(ask(&server, "GET", "/b/none", "").unwrap().text().contains("<Code>NoSuchKey</Code>"));
    assert!(ask(&server, "GET", "/none/key", "").unwrap().text().contains("<Code>NoSuchBucket</Code>"));
    assert!(server.objects().remove("b", "dir/key+ ü"));
    assert_eq!(ask(&server, "GET", target, "").unwrap().status, 404);

    let stats = server.stats();
    assert_eq!(stats.count(RequestKind::Get, Outcome::Ok), 4);
    assert_eq!(stats.count(RequestKind::Get, Outcome::NotFound), 3);
    assert_eq!(stats.count(RequestKind::Get, Outcome::PreconditionFailed), 2);
    assert_eq!(stats.count(RequestKind::Head, Outcome::Ok), 1);
    assert_eq!(stats.in_flight_now, 0);
}

#[test]
fn virtual_hosts_and_generated_content() {
    let server = server(Faults::default());
    let make: Generator = Arc::new(|range| range.map(|at| (at % 251) as u8).collect::<Vec<u8>>().into());
    server.objects().put("b", "k", Object::with_content(Content::Generated { len: 1 << 20, make }));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request =
        format!("GET /k HTTP/1.1\r\nHost: b.localhost:{}\r\nRange: bytes=500000-\r\n\r\n", server.address().port());
    let answer = ask_on(&mut stream, &request).unwrap();
    assert_eq!(answer.body.len(), (1 << 20) - 500_000);
    assert!((500_000u64..).zip(&answer.body).all(|(at, &byte)| byte == (at % 251) as u8));
}

/// Reads a listing to its last page. Returns the keys, the common prefixes and the number of pages.
fn list_all(server: &SimServer, query: &str) -> (Vec<String>, Vec<String>, usize) {
    let (mut keys, mut prefixes, mut pages) = (Vec::new(), Vec::new(), 0);
    let mut token = String::new();
    loop {
        let text = ask(server, "GET", &format!("/b?list-type=2{query}{token}"), "").unwrap().text();
        pages += 1;
        let between = |text: &str, open: &str, close: &str| -> Vec<String> {
            text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0.to_owned())).collect()
        };
        keys.extend(between(&text, "<Key>", "</Key>"));
        prefixes.extend(between(&text, "<CommonPrefixes><Prefix>", "</Prefix>"));
        match between(&text, "<NextContinuationToken>", "<").first() {
            Some(next) => token = format!("&continuation-token={next}"),
            None => return (keys, prefixes, pages),
        }
    }
}

#[test]
fn listings() {
    let server = server(Faults::default());
    let mut wanted = Vec::new();
    for number in 0..2500 {
        let key = format!("p/{:03}/{number:05}", number / 10);
        server.objects().put("b", &key, Object::new("x"));
        wanted.push(key);
    }
    server.objects().put("b", "q", Object::new(""));
    let (keys, _, pages) = list_all(&server, "&prefix=p/");
    assert_eq!((keys == wanted, pages), (true, 3));
    let (keys, _, _) = list_all(&server, "&prefix=p/&start-after=p/249/02490&max-keys=2");
    assert_eq!(keys, wanted[2491..]);
    let (keys, prefixes, pages) = list_all(&server, "&prefix=p/&delimiter=/&max-keys=7");
    assert_eq!((keys.len(), prefixes.len(), pages), (0, 250, 36));
    assert_eq!(prefixes[249], "p/249/");
    let (keys, prefixes, _) = list_all(&server, "&delimiter=/&max-keys=1");
    assert_eq!((keys, prefixes), (vec!["q".to_owned()], vec!["p/".to_owned()]));
    let none = ask(&server, "GET", "/none?list-type=2", "").unwrap();
    assert_eq!((none.status, none.text().contains("NoSuchBucket")), (404, true));
}

#[test]
fn hostile_keys_are_encoded() {
    let server = server(Faults::default());
    for key in ["a b+c&<d>\"'", "line\nbreak\u{1}", "../up", "//x", "ünï"] {
        server.objects().put("b", key, Object::new("x"));
    }
    let (keys, _, _) = list_all(&server, "&encoding-type=url");
    assert_eq!(keys, ["../up", "//x", "a+b%2Bc%26%3Cd%3E%22%27", "line%0Abreak%01", "%C3%BCn%C3%AF"]);
    let (keys, _, _) = list_all(&server, "");
    assert_eq!(keys, ["../up", "//x", "a b+c&amp;&lt;d&gt;&quot;&apos;", "line&#xa;break&#x1;", "ünï"]);
}

#[test]
fn scripted_failures() {
    let server = server(Faults::default());
    let content = bytes(400_000);
    server.objects().put("b", "k", Object::new(content.clone()));
    server.script(
        RequestKind::Get,
        "k",
        [
            Some(Failure::InternalError),
            Some(Failure::SlowDown),
            Some(Failure::NoSuchKey),
            Some(Failure::ResetBeforeHeaders),
            Some(Failure::ResetAfterHeaders),
            Some(Failure::HalfBody),
            Some(Failure::FlippedBit),
            None,
            Some(Failure::BlackHole),
        ],
    );
    let get = || ask(&server, "GET", "/b/k", "");
    assert_eq!(get().unwrap().status, 500);
    let slow = get().unwrap();
    assert_eq!((slow.status, slow.text().contains("<Code>SlowDown</Code>")), (503, true));
    assert_eq!(get().unwrap().status, 404);
    assert!(get().is_none());
    let reset = get().unwrap();
    assert_eq!((reset.status, reset.cut, reset.body.len()), (200, true, 0));
    let half = get().unwrap();
    assert_eq!((half.cut, half.body == content[..200_000]), (true, true));
    let flipped = get().unwrap().body;
    let differing: u32 = flipped.iter().zip(&content).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((flipped.len(), differing), (400_000, 1));
    assert_eq!(get().unwrap().body, content);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = "GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(ask_for(Duration::from_millis(200), &mut stream, request).is_none());
    until(|| server.stats().count(RequestKind::Get, Outcome::BlackHole) == 1);
    assert_eq!(get().unwrap().body, content);
    let stats = server.stats();
    assert_eq!(stats.count(RequestKind::Get, Outcome::Cut), 3);
    assert_eq!(stats.count(RequestKind::Get, Outcome::Reset), 1);
    assert_eq!(stats.count(RequestKind::Get, Outcome::BlackHole), 1);
}

#[test]
fn random_failures_do_not_depend_on_order() {
    let faults = Faults {
        fail: vec![(Failure::InternalError, 0.2), (Failure::SlowDown, 0.1)],
        changed_etag: 0.05,
        ..Faults::default()
    };
    let run = |backwards: bool| {
        let server = server(faults.clone());
        let mut keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
        for key in &keys {
            server.objects().put("b", key, Object::new("x"));
        }
        if backwards {
            keys.reverse();
        }
        let mut statuses: Vec<(String, u16)> = keys
            .iter()
            .map(|key| (key.clone(), ask(&server, "GET", &format!("/b/{key}"), "If-Match: *\r\n").unwrap().status))
            .collect();
        statuses.sort();
        statuses
    };
    let forwards = run(false);
    assert_eq!(forwards, run(true));
    let failed = |status: u16| forwards.iter().filter(|(_, found)| *found == status).count();
    assert!((40..80).contains(&failed(500)), "{}", failed(500));
    assert!((15..50).contains(&failed(503)), "{}", failed(503));
}

#[test]
fn answers_take_the_time_that_latency_and_bandwidth_need() {
    let server = server(Faults { latency: Latency::Fixed(Duration::from_millis(20)), ..Faults::default() });
    server.objects().put("b", "k", Object::new(bytes(1_000_000)));
    let started = Instant::now();
    ask(&server, "GET", "/b/k", "Range: bytes=0-9\r\n").unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20), "{:?}", started.elapsed());

    server.set_faults(Faults { bandwidth_per_connection: Some(5_000_000), ..Faults::default() });
    let started = Instant::now();
    ask(&server, "GET", "/b/k", "").unwrap();
    assert!(started.elapsed() >= Duration::from_millis(180), "{:?}", started.elapsed());
}

#[test]
fn requests_beyond_a_number_wait() {
    let server = server(Faults::default());
    server.objects().put("b", "k", Object::new(bytes(10)));
    let get = || ask(&server, "GET", "/b/k", "").unwrap().status;
    server.answer_only(RequestKind::Get, Some(1));
    assert_eq!(get(), 200);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(get);
        until(|| server.stats().in_flight_now == 1);
        // Other kinds are answered, and so is the one that waits, once it may be.
        assert_eq!(ask(&server, "HEAD", "/b/k", "").unwrap().status, 200);
        assert_eq!(server.stats().count(RequestKind::Get, Outcome::Ok), 1);
        server.answer_only(RequestKind::Get, Some(1));
        assert_eq!(waiting.join().unwrap(), 200);
        server.answer_only(RequestKind::Get, None);
        assert_eq!(get(), 200);
    });
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().unwrap();
    let fleet =
        crate::sim::generate::tiny_fleet(&crate::sim::generate::TinyFleet { count: 3, ..Default::default() }).unwrap();
    let written = write_folder(folder.path(), &fleet).unwrap();
    assert_eq!(written, 15);
    let from_folder = Objects::default();
    assert_eq!(from_folder.load_folder("b", "", folder.path(), None).unwrap(), 15);
    let direct = Objects::default();
    for database in &fleet {
        direct.put_database("b", database);
    }
    assert_eq!(from_folder.keys("b", ""), direct.keys("b", ""));
    for key in direct.keys("b", "") {
        let (one, other) = (from_folder.get("b", &key).unwrap(), direct.get("b", &key).unwrap());
        assert_eq!((&one.metadata, one.last_modified), (&other.metadata, other.last_modified));
    }
}

const ACCESS_KEY: &str = "SIMACCESSKEY";
const SECRET_KEY: &str = "sim/secret+key";

fn signed_server() -> SimServer {
    let credentials =
        SimCredentials { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into(), session_token: None };
    let server =
        SimServer::start(SimOptions { credentials: Some(credentials), threads: 2, ..SimOptions::default() }).unwrap();
    for number in 0..1234 {
        server.objects().put("data", &format!("many/{number:04}"), Object::new("x"));
    }
    for key in ["odd/a b+c&<d>\"'%41", "odd/line\nbreak", "odd//double", "odd/ünï", "odd/..", "odd/~tilde*"] {
        server.objects().put("data", key, Object::new(key.as_bytes().to_vec()).metadata("note", "of a key"));
    }
    server
}

/// A command that runs an S3 client without the credentials and proxies of this environment.
fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_lowercase();
        if text.starts_with("aws_") || text.ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// The program that the environment variable `variable` names, else `program`, which is looked for on PATH.
fn named(variable: &str, program: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| program.to_owned())
}

/// Whether this program can be run on this machine.
fn available(program: &str, args: &[&str]) -> bool {
    let found = client(program).args(args).output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: no {program} {}", args.join(" "));
    }
    found
}

#[test]
fn boto3_accepts_the_server() {
    let python = named("HYDRANT_PYTHON", "python3");
    if !available(&python, &["-c", "import boto3"]) {
        return;
    }
    let server = signed_server();
    let script = r#"
import sys, boto3, botocore.exceptions
from botocore.config import Config
def client(style):
    return boto3.client("s3", endpoint_url=sys.argv[1], config=Config(s3={"addressing_style": style}, retries={"max_attempts": 0}))
s3 = client("path")
pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="data", Prefix="many/"))
assert [len(p["Contents"]) for p in pages] == [1000, 234], [len(p["Contents"]) for p in pages]
assert [o["Key"] for p in pages for o in p["Contents"]] == ["many/%04d" % n for n in range(1234)]
pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="data", Delimiter="/", PaginationConfig={"PageSize": 1}))
assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == ["many/", "odd/"]
odd = s3.list_objects_v2(Bucket="data", Prefix="odd/")["Contents"]
assert [o["Key"] for o in odd] == sorted(["odd/a b+c&<d>\"'%41", "odd/line\nbreak", "odd//double", "odd/\u00fcn\u00ef", "odd/..", "odd/~tilde*"]), odd
for o in odd:
    got = s3.get_object(Bucket="data", Key=o["Key"], Range="bytes=0-")
    assert got["Body"].read().decode() == o["Key"] and got["Metadata"] == {"note": "of a key"} and got["ETag"] == o["ETag"], o
    assert s3.get_object(Bucket="data", Key=o["Key"], Range="bytes=-2")["Body"].read().decode(errors="replace")[-1] == o["Key"][-1]
    s3.get_object(Bucket="data", Key=o["Key"], IfMatch=o["ETag"])
    assert s3.head_object(Bucket="data", Key=o["Key"])["ContentLength"] == len(o["Key"].encode())
def code(f, *a, **k):
    try:
        f(*a, **k)
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"]
assert code(s3.get_object, Bucket="data", Key="none") == "NoSuchKey"
assert code(s3.list_objects_v2, Bucket="none") == "NoSuchBucket"
assert code(s3.get_object, Bucket="data", Key="many/0000", IfMatch="\"x\"") == "PreconditionFailed"
assert code(s3.get_object, Bucket="data", Key="many/0000", Range="bytes=9-") == "InvalidRange"
s3.create_bucket(Bucket="new")
s3.put_object(Bucket="new", Key="a/b c", Body=b"hello" * 1000, Metadata={"litestream-timestamp": "2026-11-22T01:32:36.216Z"})
got = s3.get_object(Bucket="new", Key="a/b c")
assert got["Body"].read() == b"hello" * 1000 and got["Metadata"]["litestream-timestamp"] == "2026-11-22T01:32:36.216Z"
assert sorted(b["Name"] for b in s3.list_buckets()["Buckets"]) == ["data", "new"]
s3.delete_object(Bucket="new", Key="a/b c")
s3.delete_bucket(Bucket="new")
bad = boto3.client("s3", endpoint_url=sys.argv[1], aws_access_key_id="SIMACCESSKEY", aws_secret_access_key="wrong")
assert code(bad.list_objects_v2, Bucket="data") == "SignatureDoesNotMatch"
bad = boto3.client("s3", endpoint_url=sys.argv[1], aws_access_key_id="NOBODY", aws_secret_access_key="wrong")
assert code(bad.list_objects_v2, Bucket="data") == "InvalidAccessKeyId"
"#;
    let output = client(&python).args(["-c", script, &server.endpoint()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn aws_cli_accepts_the_server() {
    let aws_cli = named("HYDRANT_AWS", "aws");
    if !available(&aws_cli, &["--version"]) {
        return;
    }
    let server = signed_server();
    let folder = tempfile::tempdir().unwrap();
    let aws = |args: &[&str]| {
        let output = client(&aws_cli).args(["--endpoint-url", &server.endpoint(), "s3"]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(aws(&["ls", "s3://data/many/"]).lines().count(), 1234);
    assert!(aws(&["ls"]).contains("data"));
    let here = folder.path().join("file");
    let content = bytes(3_000_000);
    std::fs::write(&here, &content).unwrap();
    aws(&["mb", "s3://up"]);
    aws(&["cp", here.to_str().unwrap(), "s3://up/dir/file"]);
    let back = folder.path().join("back");
    aws(&["cp", "s3://up/dir/file", back.to_str().unwrap()]);
    assert_eq!(std::fs::read(back).unwrap(), content);
    aws(&["rm", "s3://up/dir/file"]);
    aws(&["rb", "s3://up"]);
}

/// A folder with replicas of Litestream 0.3 is both a bucket and a file replica: its files have the objects' times.
#[test]
fn folders_of_litestream_0_3_keep_their_times() {
    use crate::sim::generate::v3::{FleetV3, v3_fleet};
    let folder = tempfile::tempdir().unwrap();
    let fleet = v3_fleet(&FleetV3 { count: 3, templates: 2, ..FleetV3::default() });
    assert_eq!(write_v3_folder(folder.path(), &fleet).unwrap(), 18);
    let (loaded, put) = (Objects::default(), Objects::default());
    assert_eq!(loaded.load_folder("b", "", folder.path(), None).unwrap(), 18);
    loaded.read_into_memory().unwrap();
    for replica in &fleet {
        put.put_v3("b", replica);
        for object in &replica.objects {
            let file = std::fs::metadata(folder.path().join(&object.key)).unwrap();
            assert_eq!(Timestamp::from_system_time(file.modified().unwrap()), object.last_modified, "{}", object.key);
            for objects in [&loaded, &put] {
                let found = objects.get("b", &object.key).unwrap();
                assert_eq!(found.last_modified, object.last_modified);
                assert!(found.metadata.is_empty());
                assert!(matches!(&found.content, Content::Memory(bytes) if *bytes == object.bytes));
            }
        }
    }
}
