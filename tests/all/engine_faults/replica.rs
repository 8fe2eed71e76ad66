//! Replica files on disk that cannot be read, or become shorter: other files take their place
//! where they hold the same (docs/ARCHITECTURE.md, "One database"), else the error names the file.
//! Never another state than the one asked for, and never the end of the process.

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

/// What is wrong with one file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    /// Its metadata cannot be read.
    Stat(Errno),
    /// It cannot be opened.
    Open(Errno),
    /// It can be opened but not read.
    Read(Errno),
    /// Its handle is stale, also after it was opened again.
    Stale,
    /// Reading ends before its length.
    EndsEarly,
    /// It is cut in half after it was listed.
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

    /// What the error says where no other files can be taken.
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

    /// Whether the files but `without` give the newest state.
    fn suffices_without(&self, without: usize) -> bool {
        let mut entries = self.entries.clone();
        entries.remove(without);
        naive::plan(&entries, NaiveTarget::Txid(self.database.expected.txid.0)).is_ok()
    }

    /// The state before a time; None where there is none.
    fn before(&self, time: Timestamp) -> Option<Vec<u8>> {
        let files = naive::plan(&self.entries, NaiveTarget::Before(time.as_nanos())).ok()?;
        Some(naive::restore(files.iter().map(|&i| &self.database.objects[i].bytes[..])).unwrap())
    }
}

/// Histories in which some files can be done without. In every second one others cannot.
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
    };
    Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
}

fn run(engine: &Workers, root: &Path, target: Target, output: &Path) -> Result<RestoreOutcome, RestoreError> {
    let request = Request {
        store: Store::File(Default::default()),
        path: root.to_str().unwrap().to_owned(),
        replica: None,
        target,
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
    // Files in one piece, and in segments.
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

/// A header that cannot be read leaves its file's time unknown. The state is the one before the
/// time, or the error names the file that may belong to it.
#[test]
fn a_time_that_cannot_be_read_fails_no_restore_that_does_not_need_it() {
    let engine = engine(8 << 20);
    let (mut restored, mut failed) = (0, 0);
    for replica in histories() {
        for (i, state) in (0..replica.entries.len()).flat_map(|i| replica.database.states.iter().map(move |s| (i, s))) {
            let time = state.timestamp.saturating_add_nanos(1_000_000);
            let Some(expected) = replica.before(time) else { continue };
            let (file, output) = (replica.file(i), replica.dir.path().join("out.db"));
            // At the look for its time, and at every later one.
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

/// A snapshot, and `increments` of one page.
fn snapshot_and(increments: u32) -> Replica {
    let spec = LargeSpec { bytes: 9 << 19, increments, pages_per_increment: 1, ..LargeSpec::default() };
    Replica::write(large_database(&spec).unwrap().to_database())
}

/// What an unreadable base leaves is too little for the database: the base is to blame, not the
/// increment whose header says how large the database is.
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

/// The child of [`a_file_that_is_truncated_meanwhile_ends_no_process`].
#[test]
fn truncation_child() {
    let Ok(dir) = std::env::var("HYDRANT_TEST_TRUNCATION") else { return };
    let output = Path::new(&dir).join("out.db");
    // Its header is decoded, its pages are read and decoded piece by piece; then in segments, of
    // which some are being decoded and others not yet read.
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

/// A file that is shorter each time it is opened, so that it never matches its listing.
#[test]
fn a_file_that_keeps_shrinking_is_damaged_after_two_listings() {
    let dir = tempfile::tempdir().unwrap();
    let replica = snapshot_and(0);
    let snapshot = replica.file(0);
    let shrink = |nth, bytes| inject(&snapshot, Some(Step::Open), nth, Effect::Truncate(snapshot.clone(), bytes));
    // Each time that it is opened it has lost more.
    let faults = [shrink(1, 2_000_000), shrink(2, 1_500_000), shrink(3, 1_000_000)];
    let error = run(&engine(8 << 20), &replica.root(), Target::Latest, &dir.path().join("out.db")).unwrap_err();
    assert_eq!(error.class(), Class::Truncated, "{error}");
    let text = error.to_string();
    assert!(text.ends_with(": the file ends at byte 1500000, before byte 2000000"), "{text}");
    assert_eq!(faults.map(|fault| fault.struck()), [true, true, false]);
}

/// Reads that bring few bytes at a time change nothing.
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
