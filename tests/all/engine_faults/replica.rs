//! Tests of replica files on disk that cannot be read or that become shorter. If other files hold the same state,
//! they must be used (docs/ARCHITECTURE.md, "One database"). Otherwise the error must name the file. The restored
//! state must never be another than the one asked for, and the process must never be killed.

use super::{DATABASE, SEGMENT_BYTES, files, hex, restored};
use crate::common::binary::only_test;
use crate::common::damaged_key;
use hydrant::cancel::CancellationToken;
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::error::Class;
use hydrant::io::IoBackend;
use hydrant::io::fault::{Effect, Injected, Step, inject};
use hydrant::plan::Target;
use hydrant::restore::{Request, RestoreError, RestoreOutcome, Workers, WorkersOptions, restore};
use hydrant::sim::generate::{GeneratedDatabase, HistoryParams, LargeSpec, large_database, random_history};
use hydrant::sim::naive::{self, NaiveEntry, NaiveTarget};
use hydrant::store::Store;
use hydrant::telemetry::Counters;
use hydrant::timestamp::Timestamp;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The damage that a test does to one file of a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    /// Reading the metadata of the file fails with this error.
    Stat(Errno),
    /// Opening the file fails with this error.
    Open(Errno),
    /// Reading the opened file fails with this error.
    Read(Errno),
    /// The handle of the file is stale (ESTALE on NFS), also after the file was opened again.
    Stale,
    /// Reads end before the length of the file.
    EndsEarly,
    /// The file is cut in half after it was listed.
    Truncated,
}

const DAMAGES: [Damage; 7] = [
    Damage::Stat(Errno::IO),
    Damage::Open(Errno::IO),
    Damage::Open(Errno::ACCESS),
    Damage::Read(Errno::IO),
    Damage::Stale,
    Damage::EndsEarly,
    Damage::Truncated,
];

impl Damage {
    fn inject(self, path: &Path) -> Vec<Injected> {
        let one = |step, effect| inject(path, Some(step), 1, effect);
        match self {
            Self::Stat(errno) => vec![one(Step::Stat, Effect::Fail(errno)), one(Step::Open, Effect::Fail(errno))],
            Self::Open(errno) => vec![one(Step::Open, Effect::Fail(errno))],
            Self::Read(errno) => vec![one(Step::Read, Effect::Fail(errno))],
            Self::Stale => {
                vec![one(Step::Read, Effect::Fail(Errno::STALE)), one(Step::Read, Effect::Fail(Errno::STALE))]
            }
            Self::EndsEarly => vec![one(Step::Read, Effect::EndOfFile)],
            Self::Truncated => {
                let half = std::fs::metadata(path).unwrap().len() / 2;
                vec![one(Step::Open, Effect::Truncate(path.to_owned(), half))]
            }
        }
    }

    /// The class and a part of the text of the error, if no other files can be used.
    fn words(self) -> (Class, &'static str) {
        match self {
            Self::Open(Errno::ACCESS) => (Class::Io, "permission denied"),
            Self::Stat(_) | Self::Open(_) => (Class::Io, "input/output error"),
            Self::Stale => (Class::Io, "stale file handle at offset "),
            Self::Read(_) => (Class::Io, "input/output error at offset "),
            Self::EndsEarly => (Class::Truncated, "the file ends at byte 0"),
            Self::Truncated => (Class::Truncated, "the file ends at byte "),
        }
    }
}

struct Replica {
    database: GeneratedDatabase,
    dir: tempfile::TempDir,
    entries: Vec<NaiveEntry>,
}

impl Replica {
    fn write(database: GeneratedDatabase) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for object in &database.objects {
            let path = dir.path().join(&object.key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &object.bytes).unwrap();
        }
        let entries = database.objects.iter().map(|o| NaiveEntry {
            level: o.level.get(),
            min_txid: o.min_txid.0,
            max_txid: o.max_txid.0,
            time_ns: o.litestream_timestamp.as_nanos(),
        });
        Self { entries: entries.collect(), database, dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join(&self.database.root)
    }

    fn file(&self, i: usize) -> PathBuf {
        self.dir.path().join(&self.database.objects[i].key)
    }

    fn rewrite(&self, i: usize) {
        std::fs::write(self.file(i), &self.database.objects[i].bytes).unwrap();
    }

    /// Whether all files but number `without` give the newest state.
    fn suffices_without(&self, without: usize) -> bool {
        let mut entries = self.entries.clone();
        entries.remove(without);
        naive::plan(&entries, NaiveTarget::Txid(self.database.expected.txid.0)).is_ok()
    }

    /// The state of the database before a time. None if there is none.
    fn before(&self, time: Timestamp) -> Option<Vec<u8>> {
        let files = naive::plan(&self.entries, NaiveTarget::Before(time.as_nanos())).ok()?;
        Some(naive::restore(files.iter().map(|&i| &self.database.objects[i].bytes[..])).unwrap())
    }
}

/// Random histories. In those with an even seed, Litestream's retention has deleted the small files that a compacted
/// file covers, so that no other chain leads around the compacted file.
fn histories() -> impl Iterator<Item = Replica> {
    (1..5).map(|seed| {
        let retention = seed % 2 == 0;
        let params = HistoryParams { max_pages: 20, max_transactions: 12, retention, ..HistoryParams::default() };
        Replica::write(random_history(seed, &params).unwrap())
    })
}

fn engine(segment_bytes: u64) -> Workers {
    let options = WorkersOptions {
        workers: 2,
        kind: IoBackend::Pwrite,
        memory_bytes: 64 << 20,
        tasks: 2,
        segment_bytes,
        checks: false,
        catalogue: Default::default(),
    };
    Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
}

fn run(engine: &Workers, root: &Path, target: Target, output: &Path) -> Result<RestoreOutcome, RestoreError> {
    let request = Request {
        store: Store::File(Default::default()),
        path: root.to_str().unwrap().to_owned(),
        replica: None,
        target,
        generation: None,
        newest_intact: false,
        destination: Arc::new(Destination::prepare(&CommitContext::default(), output, Replace::Never)?),
        check: None,
        parallelism: None,
    };
    let restored = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap()?;
    restored.published.sync_dir()?;
    Ok(restored.outcome)
}

#[test]
fn unreadable_and_shorter_files_are_restored_around() {
    // The first workers read files in one piece, the second in segments.
    let engines = [engine(8 << 20), engine(2000)];
    let (mut around, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for replica in histories() {
        for (i, engine, damage) in cases(replica.entries.len(), &engines) {
            let (file, output) = (replica.file(i), replica.dir.path().join("out.db"));
            let faults = damage.inject(&file);
            let result = run(engine, &replica.root(), Target::Latest, &output);
            let struck = faults.iter().all(Injected::struck);
            drop(faults);
            replica.rewrite(i);
            let scene = format!("{} {damage:?} struck: {struck}: {result:?}", file.display());
            let name = file.to_str().unwrap();
            match result {
                Ok(outcome) => {
                    assert_eq!(Sha256::digest(std::fs::read(&output).unwrap())[..], replica.database.expected.sha256);
                    let damaged: Vec<&str> = outcome.damaged.iter().map(|(key, _)| key.as_str()).collect();
                    assert_eq!(damaged, if struck { vec![name] } else { vec![] }, "{scene}");
                    std::fs::remove_file(&output).unwrap();
                    if struck {
                        around.insert(format!("{damage:?}"));
                    }
                }
                Err(error) => {
                    assert!(struck && !replica.suffices_without(i) && !output.exists(), "{scene}");
                    let (class, words) = damage.words();
                    let text = error.to_string();
                    assert_eq!(error.class(), class, "{scene}");
                    assert!(text.starts_with(class.as_str()) && text.contains(name) && text.contains(words), "{text}");
                    failed.insert(format!("{damage:?}"));
                }
            }
        }
    }
    assert_eq!((around.len(), failed.len()), (DAMAGES.len(), DAMAGES.len()), "{around:?} {failed:?}");
}

fn cases(files: usize, engines: &[Workers]) -> impl Iterator<Item = (usize, &Workers, Damage)> {
    (0..files).flat_map(move |i| engines.iter().flat_map(move |engine| DAMAGES.map(|damage| (i, engine, damage))))
}

/// If a header cannot be read, the time of its file is unknown. The restore must then give the state before the
/// target time, or an error that names the file which may belong to that state.
#[test]
fn a_time_that_cannot_be_read_fails_no_restore_that_does_not_need_it() {
    let engine = engine(8 << 20);
    let (mut restored, mut failed) = (0, 0);
    for replica in histories() {
        for (i, state) in (0..replica.entries.len()).flat_map(|i| replica.database.states.iter().map(move |s| (i, s))) {
            let time = state.timestamp.saturating_add_nanos(1_000_000);
            let Some(expected) = replica.before(time) else { continue };
            let (file, output) = (replica.file(i), replica.dir.path().join("out.db"));
            // Opening fails when the file's time is looked up, and at three later attempts.
            let faults: Vec<Injected> = (0..4).flat_map(|_| Damage::Open(Errno::IO).inject(&file)).collect();
            let result = run(&engine, &replica.root(), Target::Timestamp(time), &output);
            let struck = faults[0].struck();
            match result {
                Ok(_) => {
                    assert_eq!(std::fs::read(&output).unwrap(), expected, "{} {time}", file.display());
                    std::fs::remove_file(&output).unwrap();
                    restored += u32::from(struck);
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(struck && text.contains(file.to_str().unwrap()), "{} {time}: {text}", file.display());
                    failed += 1;
                }
            }
        }
    }
    assert!(restored > 0 && failed > 0, "{restored} {failed}");
}

/// A replica of a snapshot and `increments` increments of one page each.
fn snapshot_and(increments: u32) -> Replica {
    let spec = LargeSpec { bytes: 9 << 19, increments, pages_per_increment: 1, ..LargeSpec::default() };
    Replica::write(large_database(&spec).unwrap().to_database())
}

/// If the base cannot be read, the remaining files are too small for the database. The error must name the base,
/// and not the increment whose header says how large the database is.
#[test]
fn an_unreadable_base_is_not_mistaken_for_an_increment_that_lies() {
    let replica = snapshot_and(1);
    let base = replica.file(0);
    for damage in [Damage::Stat(Errno::IO), Damage::Open(Errno::IO), Damage::Truncated] {
        let _faults = damage.inject(&base);
        let output = replica.dir.path().join("out.db");
        let error = run(&engine(8 << 20), &replica.root(), Target::Latest, &output).unwrap_err();
        assert_eq!((damaged_key(&error), error.class()), (base.to_str(), damage.words().0), "{damage:?} {error}");
        replica.rewrite(0);
    }
}

/// The code of the child process of [`a_file_that_is_truncated_meanwhile_ends_no_process`]. It restores while its
/// files are truncated.
#[test]
fn truncation_child() {
    let Ok(dir) = std::env::var("HYDRANT_TEST_TRUNCATION") else { return };
    let output = Path::new(&dir).join("out.db");
    // In the first two cases the file is read in one piece; it is truncated after its header was decoded, or while
    // its pages are. In the third case it is read in segments, of which some are being decoded and others are not
    // read yet.
    for (segment_bytes, step) in [(8 << 20, Step::Reserve), (8 << 20, Step::Write), (SEGMENT_BYTES, Step::Write)] {
        let replica = snapshot_and(0);
        let snapshot = replica.file(0);
        let fault = inject(&output, Some(step), 1, Effect::Truncate(snapshot.clone(), 100_000));
        let error = run(&engine(segment_bytes), &replica.root(), Target::Latest, &output).unwrap_err();
        assert!(fault.struck() && !output.exists());
        assert_eq!(error.class(), Class::Truncated, "{error}");
        let text = error.to_string();
        assert!(text.contains(snapshot.to_str().unwrap()) && text.contains("the file ends at byte 100000"), "{text}");
    }
}

#[test]
fn a_file_that_is_truncated_meanwhile_ends_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let child =
        only_test(module_path!(), "truncation_child").env("HYDRANT_TEST_TRUNCATION", dir.path()).output().unwrap();
    assert!(child.status.success() && String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{child:?}");
}

/// The file becomes shorter each time it is opened, so it never has the size in the listing.
#[test]
fn a_file_that_keeps_shrinking_is_damaged_after_two_listings() {
    let dir = tempfile::tempdir().unwrap();
    let replica = snapshot_and(0);
    let snapshot = replica.file(0);
    let shrink = |nth, bytes| inject(&snapshot, Some(Step::Open), nth, Effect::Truncate(snapshot.clone(), bytes));
    // Each time the file is opened, more of it is missing.
    let faults = [shrink(1, 2_000_000), shrink(2, 1_500_000), shrink(3, 1_000_000)];
    let error = run(&engine(8 << 20), &replica.root(), Target::Latest, &dir.path().join("out.db")).unwrap_err();
    assert_eq!(error.class(), Class::Truncated, "{error}");
    let text = error.to_string();
    assert!(text.ends_with(": the file ends at byte 1500000, before byte 2000000"), "{text}");
    assert_eq!(faults.map(|fault| fault.struck()), [true, true, false]);
}

/// Reads that return few bytes at a time must not change the result.
#[test]
fn short_reads_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let root = super::replica(dir.path());
    let out = tempfile::tempdir().unwrap();
    let snapshot = dir.path().join(&DATABASE.objects[0].key);
    let fault = inject(&snapshot, Some(Step::Read), 1, Effect::Short(10_007));
    run(&engine(SEGMENT_BYTES), &root, Target::Latest, &out.path().join("out.db")).unwrap();
    assert!(fault.struck());
    assert_eq!(files(out.path()), restored());
    assert_eq!(restored()["out.db"], hex(&DATABASE.expected.sha256));
}
