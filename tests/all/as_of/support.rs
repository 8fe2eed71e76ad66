//! Recorded histories, simulators that serve them, and the program.

use crate::common::binary;
use crate::common::client::{Client, config, options};
use hydrant::catalogue::{CatalogueMemory, History, root_of};
use hydrant::restore::{HistoryExtent, list_history};
use hydrant::sim::server::{RequestKind, SimOptions, SimServer};
use hydrant::store::s3::S3;
use hydrant::store::{Http, Past, Store, StoreError};
use hydrant::timestamp::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bucket of every test.
pub(super) const BUCKET: &str = "bucket";

/// A recorded history and what restores of it must give.
pub(super) struct Recorded {
    pub name: String,
    pub file: PathBuf,
    /// The path of the replica, without a slash at its end.
    pub path: String,
    pub targets: Vec<Value>,
}

/// The recorded histories: all that lie beside the project or at $HYDRANT_CORPUS_ASOF, else the copies in
/// tests/fixtures/corpus-asof.
pub(super) fn recorded() -> Vec<Recorded> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside =
        std::env::var_os("HYDRANT_CORPUS_ASOF").map_or_else(|| project.join("../shared/corpus-asof"), PathBuf::from);
    let folder = if beside.is_dir() { beside } else { project.join("tests/fixtures/corpus-asof") };
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|file| {
            let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            Recorded {
                name: json["name"].as_str().unwrap().to_owned(),
                path: json["prefix"].as_str().unwrap().trim_end_matches('/').to_owned(),
                targets: json["targets"].as_array().unwrap().clone(),
                file,
            }
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() >= 2, "the fixtures are part of the project");
    found
}

pub(super) fn named(name: &str) -> Recorded {
    recorded().into_iter().find(|one| one.name == name).unwrap()
}

impl Recorded {
    /// A simulator with this history, whose pages have `max_keys` entries.
    pub(super) fn serve(&self, max_keys: usize) -> SimServer {
        let server = SimServer::start(SimOptions { max_keys, ..SimOptions::default() }).unwrap();
        server.versions().load_history(BUCKET, &self.file).unwrap();
        server
    }
}

pub(super) fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

pub(super) fn s3_of(server: &SimServer) -> Arc<S3> {
    let client = Client::new(config(&server.endpoint()), &options());
    Arc::clone(client.store.bucket().unwrap())
}

pub(super) async fn history(server: &SimServer, path: &str, extent: HistoryExtent) -> Result<History, StoreError> {
    let memory = CatalogueMemory::default();
    list_history(&Http::default(), &s3_of(server), path, extent, &memory).await.map(|listed| listed.history)
}

/// The bucket as it was at `as_of`.
pub(super) fn past(server: &SimServer, as_of: Timestamp, allows_incomplete: bool) -> Store {
    Store::Past(Arc::new(Past::new(s3_of(server), as_of, u64::MAX, allows_incomplete, root_of)))
}

/// Checks that the server saw no request but GET and HEAD.
#[track_caller]
pub(super) fn only_read(server: &SimServer) {
    let stats = server.stats();
    let reads = [RequestKind::List, RequestKind::ListVersions, RequestKind::Get, RequestKind::Head];
    assert_eq!(reads.iter().map(|kind| stats.of_kind(*kind)).sum::<u64>(), stats.total(), "{stats}");
}

pub(super) fn sha256(path: &Path) -> String {
    hydrant::hex::Hex(&Sha256::digest(std::fs::read(path).unwrap())).to_string()
}

/// The result of one run of the program.
#[derive(Debug)]
pub(super) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Checks the exit code and that stderr holds these texts.
    #[track_caller]
    pub(super) fn said(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in {}", self.stderr);
        }
        self
    }
}

/// Runs the program in `dir` on the simulator's service.
pub(super) fn run(dir: &Path, server: &SimServer, args: &[&str]) -> Ran {
    let mut command = binary::hydrant(dir, args);
    let output =
        command.env("HYDRANT_ENDPOINT", server.endpoint()).env("HYDRANT_REGION", "us-east-1").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// As [`run`]. Also the largest resident memory in bytes that was seen, and the time.
pub(super) fn peak_run(dir: &Path, server: &SimServer, args: &[&str]) -> (Ran, u64, Duration) {
    let mut command = binary::hydrant(dir, args);
    let begun = Instant::now();
    let mut child =
        command.env("HYDRANT_ENDPOINT", server.endpoint()).env("HYDRANT_REGION", "us-east-1").spawn().unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let read = |stream: &mut dyn Read| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (out, err) = (std::thread::spawn(move || read(&mut out)), std::thread::spawn(move || read(&mut err)));
    let mut peak_bytes = 0;
    let code = loop {
        let kib = std::fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        peak_bytes = peak_bytes.max(kib.unwrap_or(0) << 10);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended.code().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    (Ran { code, stdout: out.join().unwrap(), stderr: err.join().unwrap() }, peak_bytes, begun.elapsed())
}
