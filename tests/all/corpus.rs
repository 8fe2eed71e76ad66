//! Restores every replica of the corpus, which Litestream wrote. Every target must give the hash in the replica's
//! manifest, from files and from an independent S3 server, with both writers. Targets that the manifest marks as
//! errors must fail. Damaged databases must fail with the class that the manifest names, and leave no file behind.
//!
//! The whole corpus is used if it lies beside the project or at $HYDRANT_CORPUS. The replicas in
//! tests/fixtures/corpus are always used.

use crate::common::{S3sServer, damaged_key};
use hydrant::cancel::CancellationToken;
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::error::Class;
use hydrant::io::IoBackend;
use hydrant::ltx::Txid;
use hydrant::plan::Target;
use hydrant::restore::{Request, RestoreError, RestoreOutcome, SEGMENT_BYTES, Workers, WorkersOptions, restore};
use hydrant::store::Store;
use hydrant::telemetry::Counters;
use hydrant::timestamp::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The database size in bytes up to which all combinations are tested. A larger database is restored to every
/// target with one writer from files. With the other combinations only its newest state is restored.
const EVERYTHING_BYTES: u64 = 64 << 20;

fn corpus() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = std::env::var_os("HYDRANT_CORPUS").map(PathBuf::from).unwrap_or(manifest.join("../shared/corpus"));
    if beside.join("single").is_dir() {
        beside
    } else {
        println!("the whole corpus is not here: running the copies in tests/fixtures/corpus");
        manifest.join("tests/fixtures/corpus")
    }
}

fn kinds() -> Vec<IoBackend> {
    let uring = hydrant::io::probe(hydrant::io::BackendChoice::Auto).unwrap();
    if let Some(note) = &uring.note {
        println!("{note}");
    }
    let mut kinds = vec![IoBackend::Pwrite];
    if uring.kind == IoBackend::Uring {
        kinds.push(IoBackend::Uring);
    }
    kinds
}

fn engine(kind: IoBackend) -> Workers {
    let options = WorkersOptions {
        workers: 2,
        kind,
        memory_bytes: 64 << 20,
        tasks: 8,
        segment_bytes: SEGMENT_BYTES,
        checks: false,
        catalogue: Default::default(),
    };
    Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
}

/// Restores one database and waits for the result. The directory of the output must be empty except for the output.
fn run(
    engine: &Workers,
    store: &Store,
    path: &str,
    target: Target,
    output: &Path,
) -> Result<RestoreOutcome, RestoreError> {
    let destination = Arc::new(Destination::prepare(&CommitContext::default(), output, Replace::Never).unwrap());
    let (store, path) = (store.clone(), path.to_owned());
    let request = move || Request {
        store,
        path,
        replica: None,
        target,
        generation: None,
        newest_intact: false,
        destination,
        check: None,
        parallelism: None,
    };
    let request = request();
    let restored = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap()?;
    restored.published.sync_dir()?;
    Ok(restored.outcome)
}

fn sha256(path: &Path) -> (String, u64) {
    let mut file = std::fs::File::open(path).unwrap();
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
    (hydrant::hex::Hex(&hash.finalize()).to_string(), size)
}

fn target_of(t: &Value) -> Target {
    match t["target"].as_str().unwrap() {
        "latest" => Target::Latest,
        "txid" => Target::Txid(Txid::parse_name(t["txid"].as_str().unwrap().as_bytes()).unwrap()),
        "timestamp" => Target::Timestamp(Timestamp::parse_rfc3339(t["timestamp"].as_str().unwrap()).unwrap()),
        other => panic!("unknown target {other}"),
    }
}

/// Compares the result of a restore with the target in the manifest. Err describes the difference.
fn judge(t: &Value, result: Result<RestoreOutcome, RestoreError>, output: &Path) -> Result<(), String> {
    match (t["error"].as_str(), result) {
        (None, Ok(_)) => {
            let found = sha256(output);
            let expected = (t["sha256"].as_str().unwrap().to_owned(), t["bytes"].as_u64().unwrap());
            if found == expected { Ok(()) } else { Err(format!("restored {found:?}, expected {expected:?}")) }
        }
        (None, Err(e)) => Err(format!("failed: {e}")),
        (Some(error), Ok(r)) => Err(format!("restored TXID {}, expected error {error:?}", r.txid)),
        (Some(error), Err(e)) => {
            let text = e.to_string();
            let expected = match error {
                "txid not reachable" => "no matching backup files available",
                "nothing that old" => "timestamp does not exist",
                other => other,
            };
            match e.class() == Class::TargetNotReachable && text.contains(expected) && !output.exists() {
                true => Ok(()),
                false => Err(format!("expected {error:?}, got {}: {text}", e.class())),
            }
        }
    }
}

fn manifests() -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = std::fs::read_dir(corpus().join("single"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!all.is_empty());
    all
}

/// Restores every target of every replica from `store`, with every writer.
fn every_target(source: &str, store: &Store, path_of: impl Fn(&str) -> String) {
    let mut restored = 0;
    let mut problems = Vec::new();
    for kind in kinds() {
        let engine = engine(kind);
        for (name, manifest) in manifests().iter().filter(|(name, _)| !name.starts_with("v3-")) {
            let targets = manifest["targets"].as_array().unwrap();
            let is_huge = targets.iter().any(|t| t["bytes"].as_u64() > Some(EVERYTHING_BYTES));
            for t in targets {
                let selected = !is_huge || t["target"] == "latest" || (source == "file" && kind == IoBackend::Uring);
                if !selected {
                    continue;
                }
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("restored.db");
                let result = run(&engine, store, &path_of(name), target_of(t), &output);
                if let Err(problem) = judge(t, result, &output) {
                    problems.push(format!("{name} {kind:?} {t}: {problem}"));
                }
                let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
                if left.iter().any(|n| n != "restored.db") {
                    problems.push(format!("{name} {kind:?} {t}: left behind {left:?}"));
                }
                restored += 1;
            }
        }
    }
    println!("{restored} targets from {source}");
    assert!(problems.is_empty(), "{} of {restored}:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn every_target_from_files() {
    let root = corpus().join("single").canonicalize().unwrap();
    every_target("file", &Store::File(Default::default()), |name| root.join(name).to_str().unwrap().to_owned());
}

#[test]
fn every_target_through_an_independent_s3_server() {
    let server = S3sServer::serving_copy_of(&corpus().join("single"), "corpus");
    every_target("s3", &server.store("corpus"), str::to_owned);
}

/// Restores the databases of the fleet. Healthy ones must give their hash. Damaged ones must fail with the class in
/// the manifest and leave no file behind.
fn fleet(store: &Store, path_of: impl Fn(&str) -> String) {
    let manifest: Value = serde_json::from_slice(&std::fs::read(corpus().join("fleet/fleet.json")).unwrap()).unwrap();
    let mut problems = Vec::new();
    for kind in kinds() {
        let engine = engine(kind);
        for database in manifest["databases"].as_array().unwrap() {
            let key = database["key"].as_str().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("restored.db");
            let result = run(&engine, store, &path_of(key), Target::Latest, &output);
            let expect = database["expect"].as_str();
            let problem = match (&result, database["sha256"].as_str()) {
                (Ok(restored), Some(hash)) => {
                    let reported = restored.damaged.is_empty() != expect.is_some_and(|e| e.contains("reported"));
                    (sha256(&output).0 != hash || !reported).then(|| format!("{restored:?}"))
                }
                (Err(e), None) => {
                    let class_ok = match expect.unwrap() {
                        "checksum or malformed page" | "checksum or malformed index" => {
                            matches!(e.class(), Class::ChecksumMismatch | Class::Malformed)
                        }
                        "checksum" => e.class() == Class::ChecksumMismatch,
                        "malformed header" => e.class() == Class::Malformed && e.to_string().contains("header"),
                        other => e.class().as_str() == other,
                    };
                    let names_it = damaged_key(e).is_none_or(|k| k.contains(key));
                    (!class_ok || !names_it).then(|| format!("{}: {e}, expected {expect:?}", e.class()))
                }
                (Ok(r), None) => Some(format!("restored TXID {}, expected {expect:?}", r.txid)),
                (Err(e), Some(_)) => Some(e.to_string()),
            };
            problems.extend(problem.map(|p| format!("{key} {kind:?}: {p}")));
            let left = std::fs::read_dir(dir.path()).unwrap().count();
            if left != usize::from(result.is_ok()) {
                problems.push(format!("{key}: {left} files in the directory afterwards"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_fleet_from_files() {
    let root = corpus().join("fleet/bucket").canonicalize().unwrap();
    fleet(&Store::File(Default::default()), |key| root.join(key).to_str().unwrap().to_owned());
}

#[test]
fn the_fleet_through_an_independent_s3_server() {
    let server = S3sServer::serving_copy_of(&corpus().join("fleet/bucket"), "fleet");
    fleet(&server.store("fleet"), str::to_owned);
}
