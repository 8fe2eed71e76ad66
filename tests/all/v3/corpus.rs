//! Restores every recorded replica of Litestream 0.3 to every target in its manifest: from disk and from the
//! simulator, with both writers, with files fetched whole and in segments.

use super::support::*;
use hydrant::error::Class;
use hydrant::plan::Target;
use hydrant::restore::{RestoreError, RestoreOutcome, SEGMENT_BYTES};
use hydrant::store::Store;
use hydrant::store::s3::S3Options;
use hydrant::timestamp::Timestamp;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The class that a manifest's error has, and words of its text.
fn class_and_words(error: &str) -> (Class, &'static str) {
    match error {
        "txid not reachable" => (Class::TargetNotReachable, "no matching backup files available"),
        "timestamp does not exist" | "nothing that old" => (Class::TargetNotReachable, "timestamp does not exist"),
        "hole" => (Class::Hole, ""),
        other => panic!("unknown error {other}"),
    }
}

/// Compares the result of a restore with the target in the manifest. Err describes the difference.
fn judge(
    recorded: &Recorded,
    t: &Value,
    result: &Result<RestoreOutcome, RestoreError>,
    output: &Path,
) -> Result<(), String> {
    match (t["error"].as_str(), result) {
        (None, Ok(outcome)) => {
            let bytes = std::fs::metadata(output).map_or(0, |m| m.len());
            let (found, expected) = (sha256(output), t["sha256"].as_str().unwrap());
            if found != expected || bytes != t["bytes"].as_u64().unwrap() || bytes != outcome.bytes_out {
                return Err(format!("restored {found}, {bytes} bytes; {outcome:?}"));
            }
            reached(recorded, target_of(t), outcome)
        }
        (None, Err(e)) => Err(format!("failed: {e}")),
        (Some(_), Ok(outcome)) => Err(format!("restored: {outcome:?}")),
        (Some(error), Err(e)) => {
            let (class, words) = class_and_words(error);
            let (found, text) = (e.class(), e.to_string());
            if found != class || !text.contains(words) {
                return Err(format!("failed otherwise: {found}: {text}"));
            }
            // A hole is named with its generation and a file beside it.
            let names_it = recorded.generations().iter().any(|(name, ..)| text.contains(name));
            if class == Class::Hole && !names_it { Err(format!("names no generation: {text}")) } else { Ok(()) }
        }
    }
}

/// Checks the state that a restore says it reached: it is the place and the time of a file of that generation.
fn reached(recorded: &Recorded, target: Target, outcome: &RestoreOutcome) -> Result<(), String> {
    let Some(state) = &outcome.v3 else {
        // The other format, of which a TXID was reached.
        let has_ltx = recorded.files.iter().any(|file| file.key.ends_with(".ltx"));
        return if has_ltx && outcome.txid.0 > 0 { Ok(()) } else { Err(format!("no state: {outcome:?}")) };
    };
    let generation = state.generation.to_string();
    let of_generation = || recorded.files.iter().filter(|file| generation_of(&file.key) == Some(&generation));
    // The last file, and the time of the newest one: they are the same unless times are those of a copy.
    let last = [format!("/{:08x}_{:08x}.", state.index, state.offset), format!("/{:08x}.", state.index)];
    let is_there = of_generation().any(|file| last.iter().any(|name| file.key.contains(name)));
    let has_time = of_generation().any(|file| file.time == state.time);
    let too_late = matches!(target, Target::Timestamp(at) if state.time > at);
    // Of a snapshot that is ahead, files after T are used.
    if !is_there || !has_time || (too_late && recorded.name != "v3-ahead") {
        return Err(format!("{state:?} is no state of {generation}"));
    }
    Ok(())
}

/// Restores every target of every replica from `store` with each writer, files whole and in segments. Returns the number
/// of restores.
fn every_target(source: &str, store: &Store, replicas: &[Recorded], path_of: impl Fn(&Recorded) -> String) -> usize {
    let mut problems = Vec::new();
    let mut restored = 0;
    let counters = Arc::default();
    let writers = kinds().into_iter().flat_map(|kind| [SEGMENT_BYTES, 2_000].map(|bytes| (kind, bytes)));
    for (kind, segment_bytes) in writers {
        let engine = engine(kind, segment_bytes, 64 << 20, &counters);
        for recorded in replicas {
            let path = path_of(recorded);
            for t in recorded.targets() {
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("restored.db");
                let result = Wanted::at(store, &path, target_of(t)).restore(&engine, &output);
                let (name, note) = (&recorded.name, &t["note"]);
                let scene = format!("{name} {kind:?} {segment_bytes} {} {} {note}", t["target"], t["timestamp"]);
                if let Err(problem) = judge(recorded, t, &result, &output) {
                    problems.push(format!("{scene}: {problem}"));
                }
                let left = names_in(dir.path());
                if left.len() != usize::from(result.is_ok()) {
                    problems.push(format!("{scene}: left behind {left:?}"));
                }
                restored += 1;
            }
        }
    }
    println!("{restored} targets from {source}");
    assert!(problems.is_empty(), "{} of {restored}:\n{}", problems.len(), problems.join("\n"));
    restored
}

#[test]
fn every_target_from_disk() {
    let (replicas, dir) = (all(), tempfile::tempdir().unwrap());
    replicas.iter().for_each(|recorded| recorded.write(&dir.path().join(&recorded.name)));
    let path_of = |recorded: &Recorded| dir.path().join(&recorded.name).to_str().unwrap().to_owned();
    assert!(every_target("disk", &Store::File(Default::default()), &replicas, path_of) >= 20);
}

#[test]
fn every_target_from_the_simulator() {
    let (replicas, server) = (all(), simulator());
    replicas.iter().for_each(|recorded| recorded.put(&server, "bucket", &format!("a/{}/", recorded.name)));
    let store = store(&server, &S3Options::default(), &Arc::default());
    let path_of = |recorded: &Recorded| format!("a/{}", recorded.name);
    assert!(every_target("the simulator", &store, &replicas, path_of) >= 20);
}

/// The program itself, for the newest state and for each kind of error.
#[test]
fn exit_status_and_first_words_of_the_program() {
    let server = simulator();
    for recorded in all() {
        let place = format!("x/{}/", recorded.name);
        recorded.put(&server, "bucket", &place);
        let url = url(&server, &place);
        let mut seen = Vec::new();
        for t in recorded.targets() {
            let (target, error) = (t["target"].as_str().unwrap(), t["error"].as_str());
            let is_new = error.is_some() && !seen.contains(&error);
            if target != "latest" && !is_new {
                continue;
            }
            seen.push(error);
            let flag = format!("-{target}");
            let mut args = vec![url.as_str(), "-if-replica-exists"];
            if target != "latest" {
                args.extend([flag.as_str(), t[target].as_str().unwrap()]);
            }
            let ran = restore_with(&args);
            match error {
                None => drop(ran.gives(t["sha256"].as_str().unwrap())),
                Some("hole") => drop(ran.fails("hole")),
                Some(error) => drop(ran.fails(class_and_words(error).1)),
            }
        }
    }
}

/// The same files in any order of the listing give the same databases.
#[test]
fn listings_that_are_not_sorted() {
    let options = hydrant::sim::server::SimOptions { unsorted_listings: true, max_keys: 7, ..Default::default() };
    let server = hydrant::sim::server::SimServer::start(options).unwrap();
    let counters = Arc::default();
    let engine = engine(kinds()[0], SEGMENT_BYTES, 64 << 20, &counters);
    for recorded in all() {
        let place = format!("u/{}", recorded.name);
        recorded.put(&server, "bucket", &format!("{place}/"));
        let store = store(&server, &S3Options::default(), &counters);
        let t = recorded.targets().iter().find(|t| t["target"] == "latest").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out.db");
        let result = Wanted::newest(&store, &place).restore(&engine, &output);
        judge(&recorded, t, &result, &output).unwrap_or_else(|problem| panic!("{}: {problem}", recorded.name));
    }
}

/// A replica that was copied without its times: files in order of their keys, a millisecond apart. What is restored is
/// the newest state of the generation that was copied last, whatever else lies there.
#[test]
fn one_generation_survives_a_copy_without_times() {
    let counters = Arc::default();
    let engine = engine(kinds()[0], SEGMENT_BYTES, 64 << 20, &counters);
    let mut copied = 0;
    for mut recorded in all() {
        let latest = recorded.targets().iter().find(|t| t["target"] == "latest").unwrap().clone();
        let has_other = recorded.files.iter().any(|file| kind_of(&file.key).is_none());
        if recorded.generations().len() != 1 || has_other || latest["error"].is_string() {
            continue;
        }
        for (at, file) in recorded.files.iter_mut().enumerate() {
            file.time = Timestamp::from_millis(1_790_000_000_000 + at as i64);
        }
        let dir = tempfile::tempdir().unwrap();
        recorded.write(&dir.path().join("db"));
        let (path, output) = (dir.path().join("db"), dir.path().join("out.db"));
        let store = Store::File(Default::default());
        let result = Wanted::newest(&store, path.to_str().unwrap()).restore(&engine, &output);
        judge(&recorded, &latest, &result, &output).unwrap_or_else(|problem| panic!("{}: {problem}", recorded.name));
        copied += 1;
    }
    assert!(copied > 0);
}
