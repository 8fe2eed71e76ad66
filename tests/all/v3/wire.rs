//! Tests of bits that are flipped on the way from the bucket: such an answer is asked for again, and never gives
//! another database.

use super::support::*;
use hydrant::io::IoBackend;
use hydrant::restore::{RestoreError, SEGMENT_BYTES};
use hydrant::sim::server::{Failure, Faults, Outcome, RequestKind};
use hydrant::store::s3::S3Options;
use hydrant::telemetry::Counters;
use std::sync::Arc;

/// One request at a time: nothing is hedged, and the requests come in the same order in every run.
const STEADY: [&str; 2] = ["--max-requests", "1"];

/// A database of 11 KiB with a snapshot and a few segments of a few hundred bytes to 2 KiB.
fn small() -> Option<Recorded> {
    of_fleet("backups/tenants/acme/app.db")
}

#[test]
fn a_flipped_bit_anywhere_costs_one_request() {
    let Some(recorded) = small() else { return };
    let hash = recorded.manifest["sha256"].as_str().unwrap().to_owned();
    let served = serve(recorded);
    for file in &served.recorded.files {
        let key = format!("db/{}", file.key);
        let end = file.bytes.len() as u64;
        // The LZ4 frame: magic, flags, header checksum; size of a block; the block; end mark; content checksum.
        for at in [0, 3, 4, 5, 6, 7, 10, 11, end / 2, end - 9, end - 8, end - 5, end - 4, end - 1] {
            served.server.script(RequestKind::Get, &key, [Some(Failure::FlippedBitAt(at))]);
            let ran = restore_with(&[&["-json", "-v"], &STEADY[..], &[&served.url()]].concat()).gives(&hash);
            assert_eq!(ran.json()["retries"], 1, "{key} {at} {ran:?}");
            let said: Vec<&str> =
                ran.stderr.lines().filter(|line| line.starts_with("hydrant::s3: what arrived is damaged")).collect();
            assert!(said.len() == 1 && said[0].contains(&key), "{at} {said:?}");
            assert!(ran.json()["warnings"].is_null(), "{ran:?}");
        }
    }
}

/// A file whose answers are wrong again and again is damaged, after its second answer.
#[test]
fn a_file_is_asked_for_again_once() {
    let Some(recorded) = small() else { return };
    let segment = recorded.files.iter().find(|file| file.key.contains("/wal/")).unwrap();
    let key = format!("db/{}", segment.key);
    let served = serve(recorded);
    served.server.script(RequestKind::Get, &key, vec![Some(Failure::FlippedBitAt(20)); 100]);
    restore_with(&[&STEADY[..], &[&served.url()]].concat()).fails(&key);
    assert_eq!(served.server.stats().count(RequestKind::Get, Outcome::Cut), 2);
}

/// A file that is damaged in the bucket is asked for again once, too, and then named. One on a disk is not.
#[test]
fn damage_in_the_store_is_no_damage_on_the_way() {
    let Some(recorded) = of_fleet("damaged/bit-in-frame/app.db") else { return };
    let dir = tempfile::tempdir().unwrap();
    recorded.write(&dir.path().join("db"));
    let ran = restore_with(&["-v", &format!("file://{}", dir.path().join("db").display())]).fails("checksum mismatch");
    assert!(!ran.stderr.contains("asked for once more"), "{ran:?}");
    let served = serve(recorded);
    let ran = restore_with(&[&STEADY[..], &[&served.url()]].concat()).fails("checksum mismatch");
    assert!(ran.stderr.contains("/wal/"), "{ran:?}");
}

/// Many answers of a run are wrong: the result is the right database, or an error and no file.
#[test]
fn flipped_bits_never_give_another_database() {
    let (mut right, mut after_flips, mut failed) = (0, 0, 0);
    let kinds = kinds();
    for (n, recorded) in all().into_iter().enumerate() {
        let latest = recorded.targets().iter().find(|t| t["target"] == "latest").unwrap().clone();
        let Some(hash) = latest["sha256"].as_str() else { continue };
        let served = serve(recorded);
        for (m, rate) in [0.02, 0.1, 0.4].into_iter().enumerate() {
            let fail = vec![(Failure::FlippedBit, rate)];
            let faults = Faults { fail, only_kind: Some(RequestKind::Get), ..Faults::default() };
            served.server.set_faults(faults);
            let kind: IoBackend = kinds[(n + m) % kinds.len()];
            for (segment_bytes, memory_bytes) in [(SEGMENT_BYTES, 64 << 20), (2_000, 64 << 20), (2_000, 1 << 20)] {
                let counters = Arc::<Counters>::default();
                let engine = engine(kind, segment_bytes, memory_bytes, &counters);
                let store = store(&served.server, &S3Options::default(), &counters);
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                match Wanted::newest(&store, "db").restore(&engine, &output) {
                    Ok(_) => {
                        let name = &served.recorded.name;
                        assert_eq!(sha256(&output), hash, "{name} {rate} {kind:?} {segment_bytes} {memory_bytes}");
                        right += 1;
                        after_flips += u32::from(counters.retries.get() > 0);
                    }
                    Err(error) => {
                        let is_damage = matches!(
                            error,
                            RestoreError::File { .. }
                                | RestoreError::Chain { .. }
                                | RestoreError::Wal { .. }
                                | RestoreError::Plan(_)
                        );
                        assert!(is_damage, "{error:?}");
                        assert!(names_in(dir.path()).is_empty());
                        failed += 1;
                    }
                }
            }
        }
    }
    println!("right {right}, of them after flips {after_flips}; failed {failed}");
    assert!(after_flips > 3, "{right} {after_flips} {failed}");
}
