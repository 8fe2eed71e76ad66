//! Tests of requests and file operations that fail while a 0.3 replica is restored.

use super::support::*;
use crate::common::client;
use hydrant::io::IoBackend;
use hydrant::io::fault::{Effect, Step, inject};
use hydrant::restore::SEGMENT_BYTES;
use hydrant::sim::server::{Failure, Faults};
use hydrant::store::Store;
use hydrant::store::s3::S3Options;
use hydrant::telemetry::Counters;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Throttling, resets and bodies that end half-way fail no restore.
#[test]
fn failing_requests_are_made_again() {
    let served = serve(fixture("v3-s3"));
    let mut retries = 0;
    for (n, (segment_bytes, kind)) in [SEGMENT_BYTES, 2_000].into_iter().zip(kinds().into_iter().cycle()).enumerate() {
        let each = 0.05;
        let fail = [
            Failure::InternalError,
            Failure::SlowDown,
            Failure::Unavailable,
            Failure::RequestTimeout,
            Failure::ResetBeforeHeaders,
            Failure::ResetAfterHeaders,
            Failure::HalfBody,
        ];
        let fail = fail.map(|failure| (failure, each)).to_vec();
        served.server.set_faults(Faults { fail, ..Faults::default() });
        for _ in 0..6 {
            let counters = Arc::<Counters>::default();
            let options = S3Options { retries: client::options().retries, ..S3Options::default() };
            let (engine, store) =
                (engine(kind, segment_bytes, 64 << 20, &counters), store(&served.server, &options, &counters));
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("out.db");
            Wanted::newest(&store, "db").restore(&engine, &output).unwrap_or_else(|e| panic!("{n} {kind:?}: {e}"));
            assert_eq!(sha256(&output), served.recorded.latest());
            retries += counters.retries.get();
        }
    }
    assert!(retries > 10, "{retries}");
}

/// Every kind of failure, scripted for every file of the plan.
#[test]
fn each_failure_of_each_file_is_overcome() {
    let served = serve(fixture("v3-s3"));
    let failures =
        [Failure::SlowDown, Failure::ResetAfterHeaders, Failure::HalfBody, Failure::StalledBody, Failure::BlackHole];
    for failure in failures {
        for file in &served.recorded.files {
            let key = format!("db/{}", file.key);
            served.server.script(hydrant::sim::server::RequestKind::Get, &key, [Some(failure)]);
        }
        restore_with(&[&served.url()]).gives(served.recorded.latest());
    }
}

/// A disk that refuses any one operation leaves nothing behind, and the next restore succeeds.
#[test]
fn a_refusal_at_every_step_leaves_nothing_behind() {
    let source = tempfile::tempdir().unwrap();
    let recorded = fixture("v3-s3");
    recorded.write(&source.path().join("db"));
    let path = source.path().join("db").to_str().unwrap().to_owned();
    let store = Store::File(Default::default());
    let mut struck = BTreeMap::new();
    for kind in kinds() {
        let engine = engine(kind, 20_000, 64 << 20, &Arc::default());
        for step in [Step::Create, Step::Reserve, Step::Truncate, Step::Write, Step::Sync, Step::Publish] {
            for nth in (1..12).chain((12..).step_by(17)) {
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                let errno = [Errno::IO, Errno::NOSPC][nth as usize % 2];
                let fault = inject(&output, Some(step), nth, Effect::Fail(errno));
                let result = Wanted::newest(&store, &path).restore(&engine, &output);
                let scene = format!("{kind:?} {step:?} {nth} {result:?}");
                let left = names_in(dir.path());
                if !fault.struck() {
                    assert!(result.is_ok() && sha256(&output) == recorded.latest(), "{scene}: {left:?}");
                    break;
                }
                *struck.entry(format!("{kind:?} {step:?}")).or_insert(0) += 1;
                match result {
                    Ok(_) => assert_eq!(sha256(&output), recorded.latest(), "{scene}"),
                    Err(_) => assert!(left.is_empty(), "{scene}: {left:?}"),
                }
            }
        }
    }
    println!("{struck:?}");
    for step in ["Create", "Write", "Sync", "Publish"] {
        assert!(struck.contains_key(&format!("Pwrite {step}")), "{step} never failed: {struck:?}");
    }
}

#[test]
fn short_writes_and_reads_are_completed() {
    let source = tempfile::tempdir().unwrap();
    let recorded = fixture("v3-s3");
    recorded.write(&source.path().join("db"));
    let path = source.path().join("db").to_str().unwrap().to_owned();
    let snapshot =
        source.path().join("db").join(&recorded.file("82fdcf411c47acbc/snapshots/00000000.snapshot.lz4").key);
    let store = Store::File(Default::default());
    for kind in kinds() {
        for segment_bytes in [SEGMENT_BYTES, 2_000] {
            let engine = engine(kind, segment_bytes, 64 << 20, &Arc::default());
            for bytes in [1, 1000, 4096] {
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                let write = inject(&output, Some(Step::Write), 1, Effect::Short(bytes));
                let read = inject(&snapshot, Some(Step::Read), 1, Effect::Short(bytes));
                Wanted::newest(&store, &path).restore(&engine, &output).unwrap();
                assert!(write.struck() && read.struck(), "{kind:?} {segment_bytes} {bytes}");
                assert_eq!(sha256(&output), recorded.latest());
            }
        }
    }
}

/// Every file of the plan, one at a time, cannot be opened, read, or ends early. The error names it, or an older
/// snapshot with all WAL since is used.
#[test]
fn files_that_cannot_be_read_are_named_or_restored_around() {
    let (mut around, mut failed) = (0, 0);
    let noise = of_fleet("damaged/noise/app.db");
    for (recorded, hash) in [Some(fixture("v3-s3")), noise].into_iter().flatten().map(|recorded| {
        let hash = recorded.manifest["sha256"].as_str().map_or_else(|| recorded.latest().to_owned(), str::to_owned);
        (recorded, hash)
    }) {
        let source = tempfile::tempdir().unwrap();
        recorded.write(&source.path().join("db"));
        let path = source.path().join("db").to_str().unwrap().to_owned();
        let store = Store::File(Default::default());
        let engine = engine(IoBackend::Pwrite, SEGMENT_BYTES, 64 << 20, &Arc::default());
        for file in recorded.files.iter().filter(|file| kind_of(&file.key).is_some()) {
            let on_disk = source.path().join("db").join(&file.key);
            let half = file.bytes.len() as u64 / 2;
            for (step, effect) in [
                (Step::Open, Effect::Fail(Errno::IO)),
                (Step::Read, Effect::Fail(Errno::IO)),
                (Step::Read, Effect::EndOfFile),
                (Step::Open, Effect::Truncate(on_disk.clone(), half)),
            ] {
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                let scene = format!("{} {step:?} {effect:?}", file.key);
                let fault = inject(&on_disk, Some(step), 1, effect);
                let result = Wanted::newest(&store, &path).restore(&engine, &output);
                let struck = fault.struck();
                drop(fault);
                recorded.write(&source.path().join("db"));
                match result {
                    Ok(outcome) => {
                        assert_eq!(sha256(&output), hash, "{scene}");
                        assert!(!struck || !outcome.all_warnings().is_empty(), "{scene}: {outcome:?}");
                        around += u32::from(struck);
                    }
                    Err(error) => {
                        let text = error.to_string();
                        assert!(struck && text.contains(file.key.as_str()), "{scene}: {text}");
                        assert!(names_in(dir.path()).is_empty(), "{scene}");
                        failed += 1;
                    }
                }
            }
        }
    }
    println!("around {around}, failed {failed}");
    assert!(failed > 0);
}
