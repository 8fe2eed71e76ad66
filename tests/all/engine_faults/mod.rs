//! Injects file-system errors into every step of a restore, with both writers. Afterwards the output must be
//! absent, unchanged, or equal to the expected database, and no other file may lie beside it (docs/GUARANTEES.md,
//! 1, 4 and 14). After a run that was killed at any step, the next run must succeed.

mod replica;

use crate::common::binary::only_test;
use hydrant::cancel::CancellationToken;
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::error::Class;
use hydrant::io::fault::{Effect, Step, inject};
use hydrant::io::{BackendChoice, IoBackend, probe};
use hydrant::plan::Target;
use hydrant::restore::{Request, RestoreError, Workers, WorkersOptions, restore};
use hydrant::sim::generate::{GeneratedDatabase, LargeSpec, large_database};
use hydrant::store::Store;
use hydrant::telemetry::Counters;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// The segment size in bytes. It is small, so that one database has many segments.
const SEGMENT_BYTES: u64 = 512 << 10;

/// A database that is larger than the size from which files are written with O_DIRECT.
static DATABASE: LazyLock<GeneratedDatabase> = LazyLock::new(|| {
    let spec = LargeSpec { bytes: 9 << 19, increments: 12, pages_per_increment: 30, ..LargeSpec::default() };
    large_database(&spec).unwrap().to_database()
});

/// Writes the replica below `dir` and returns its folder.
fn replica(dir: &Path) -> PathBuf {
    for object in &DATABASE.objects {
        let path = dir.join(&object.key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.bytes).unwrap();
    }
    dir.join(&DATABASE.root)
}

fn kinds() -> Vec<IoBackend> {
    let auto = probe(BackendChoice::Auto).unwrap();
    if let Some(note) = &auto.note {
        println!("{note}");
    }
    if auto.kind == IoBackend::Uring { vec![IoBackend::Pwrite, IoBackend::Uring] } else { vec![IoBackend::Pwrite] }
}

/// Starts the workers. With `memory_bytes` of 1 MiB there is no memory for the overlay, so the pages of increments
/// are written one by one.
fn engine(kind: IoBackend, memory_bytes: u64) -> Workers {
    let options = WorkersOptions {
        workers: 2,
        kind,
        memory_bytes,
        tasks: 2,
        segment_bytes: SEGMENT_BYTES,
        checks: false,
        catalogue: Default::default(),
    };
    Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
}

fn run(engine: &Workers, replica: &Path, output: &Path, replace: Replace) -> Result<(), RestoreError> {
    run_in(&CommitContext::default(), engine, replica, output, replace)
}

fn run_in(
    context: &CommitContext,
    engine: &Workers,
    replica: &Path,
    output: &Path,
    replace: Replace,
) -> Result<(), RestoreError> {
    let request = Request {
        store: Store::File(Default::default()),
        path: replica.to_str().unwrap().to_owned(),
        replica: None,
        target: Target::Latest,
        generation: None,
        newest_intact: false,
        destination: Arc::new(Destination::prepare(context, output, replace)?),
        check: None,
        parallelism: None,
    };
    let restored = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap()?;
    Ok(restored.published.sync_dir()?)
}

/// The files in `dir`: name → hash of the content.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let hashed = entries.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, hex(&Sha256::digest(std::fs::read(path).unwrap())))
    });
    hashed.collect()
}

fn hex(bytes: &[u8]) -> String {
    hydrant::hex::Hex(bytes).to_string()
}

fn restored() -> BTreeMap<String, String> {
    BTreeMap::from([("out.db".to_owned(), hex(&DATABASE.expected.sha256))])
}

/// The file at the output's path before the restore.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Empty,
    Old,
    Sidecars,
}

const SCENES: [(Before, Replace); 5] = [
    (Before::Nothing, Replace::Never),
    (Before::Empty, Replace::Never),
    (Before::Nothing, Replace::Force),
    (Before::Old, Replace::Force),
    (Before::Sidecars, Replace::Force),
];

const STEPS: [Step; 8] = [
    Step::Create,
    Step::Reserve,
    Step::Truncate,
    Step::Write,
    Step::Sync,
    Step::Publish,
    Step::SyncInode,
    Step::SyncDir,
];

fn arrange(dir: &Path, before: Before) {
    let write = |name: &str, content: &str| std::fs::write(dir.join(name), content).unwrap();
    match before {
        Before::Nothing => {}
        Before::Empty => write("out.db", ""),
        Before::Old => {
            write("out.db", "old");
            write("out.db-wal", "old wal");
            write("out.db-shm", "old shm");
        }
        Before::Sidecars => write("out.db-wal", "stale wal"),
    }
}

#[test]
fn a_refusal_at_every_step() {
    let source = tempfile::tempdir().unwrap();
    let replica = replica(source.path());
    let mut struck = BTreeMap::new();
    for kind in kinds() {
        for memory_bytes in [64 << 20, 1 << 20] {
            let engine = engine(kind, memory_bytes);
            for (before, replace) in SCENES {
                for step in STEPS {
                    // Writes are many and all alike, so they are tested in one scene only. The other steps do not
                    // depend on the amount of memory.
                    let is_write = step == Step::Write;
                    if is_write && before != Before::Old || !is_write && memory_bytes == 1 << 20 {
                        continue;
                    }
                    // The first eleven steps of a kind are all tested. Of later ones every ninth is.
                    for nth in (1..12).chain((12..).step_by(9)) {
                        let dir = tempfile::tempdir().unwrap();
                        arrange(dir.path(), before);
                        let (old, output) = (files(dir.path()), dir.path().join("out.db"));
                        let errno = [Errno::IO, Errno::NOSPC][nth as usize % 2];
                        let fault = inject(&output, Some(step), nth, Effect::Fail(errno));
                        let result = run(&engine, &replica, &output, replace);
                        let scene = format!("{kind:?} {memory_bytes} {before:?} {replace:?} {step:?} {nth} {result:?}");
                        let found = files(dir.path());
                        if !fault.struck() {
                            assert!(result.is_ok() && found == restored(), "{scene}: {found:?}");
                            break;
                        }
                        *struck.entry(format!("{kind:?} {step:?}")).or_insert(0) += 1;
                        let whole = found.get("out.db") == restored().get("out.db");
                        match &result {
                            // Two things cannot be undone: a name that was given but whose directory could not be
                            // synced, and an old file that was replaced but could not be deleted.
                            Ok(()) => assert!(whole, "{scene}: {found:?}"),
                            Err(_) if step == Step::SyncDir => assert!(whole, "{scene}: {found:?}"),
                            // The second sync (`SyncInode`) fails. If an old file was to be replaced, nothing has
                            // been exchanged yet and the old file must be there. If there was no old file, the new
                            // one has its name already and must be complete.
                            Err(_) if step == Step::SyncInode && before == Before::Nothing => {
                                assert!(whole, "{scene}: {found:?}");
                            }
                            Err(_) => assert_eq!(found, old, "{scene}"),
                        }
                        drop(fault);
                        // Files that a failed run left must not hinder the next run.
                        let again = if whole { Replace::Force } else { replace };
                        run(&engine, &replica, &output, again).unwrap();
                        assert_eq!(files(dir.path()).get("out.db"), restored().get("out.db"), "{scene}");
                    }
                }
            }
        }
    }
    println!("{struck:?}");
    for step in ["Create", "Reserve", "Write", "Sync", "Publish", "SyncDir"] {
        assert!(struck.contains_key(&format!("Pwrite {step}")), "{step} never failed: {struck:?}");
    }
}

#[test]
fn writes_cut_short_are_completed() {
    let source = tempfile::tempdir().unwrap();
    let replica = replica(source.path());
    for kind in kinds() {
        for memory_bytes in [64 << 20, 1 << 20] {
            let engine = engine(kind, memory_bytes);
            for bytes in [1000, 4096, 70_000] {
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                let fault = inject(&output, Some(Step::Write), 1, Effect::Short(bytes));
                run(&engine, &replica, &output, Replace::Never).unwrap();
                assert!(fault.struck());
                assert_eq!(files(dir.path()), restored(), "{kind:?} {memory_bytes} {bytes}");
            }
        }
    }
}

/// On file systems without fallocate, the length of the file is set instead of reserving its space.
#[test]
fn without_fallocate() {
    let source = tempfile::tempdir().unwrap();
    let replica = replica(source.path());
    for kind in kinds() {
        let engine = engine(kind, 64 << 20);
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out.db");
        let fault = inject(&output, Some(Step::Reserve), 1, Effect::Fail(Errno::OPNOTSUPP));
        run(&engine, &replica, &output, Replace::Never).unwrap();
        assert!(fault.struck());
        assert_eq!(files(dir.path()), restored());
    }
}

/// The child process of [`killed_at_every_step`]. It restores and is killed at step number `nth`; if `nth` is 0 it
/// is not killed.
#[test]
fn child() {
    let Ok(words) = std::env::var("HYDRANT_TEST_KILL") else { return };
    let words: Vec<&str> = words.split('\n').collect();
    let [replica, output, kind, force, nth] = words[..] else { panic!("{words:?}") };
    let kind = if kind == "Uring" { IoBackend::Uring } else { IoBackend::Pwrite };
    let replace = if force == "Force" { Replace::Force } else { Replace::Never };
    let nth: u32 = nth.parse().unwrap();
    let _fault = (nth > 0).then(|| inject(Path::new(output), None, nth, Effect::Kill));
    run(&engine(kind, 64 << 20), Path::new(replica), Path::new(output), replace).unwrap();
}

/// Where space cannot be reserved, several databases may have been begun that fit each by itself.
#[test]
fn a_write_to_a_full_disk_is_remembered() {
    let (source, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (replica, output, context) = (replica(source.path()), dir.path().join("out.db"), CommitContext::default());
    let is_size_read_first = || {
        let other = Destination::prepare(&context, &dir.path().join("other.db"), Replace::Never).unwrap();
        Arc::new(other).create(false).unwrap().is_space_scarce(0)
    };
    assert!(!is_size_read_first());
    let fault = inject(&output, Some(Step::Write), 1, Effect::Fail(Errno::NOSPC));
    let engine = engine(IoBackend::Pwrite, 64 << 20);
    let error = run_in(&context, &engine, &replica, &output, Replace::Never).unwrap_err();
    assert!(fault.struck());
    assert_eq!(error.class(), Class::DiskFull, "{error}");
    assert!(is_size_read_first());
    run_in(&context, &engine, &replica, &output, Replace::Never).unwrap();
    assert_eq!(files(dir.path()), restored());
}

#[test]
fn killed_at_every_step() {
    let source = tempfile::tempdir().unwrap();
    let replica = replica(source.path());
    for kind in kinds() {
        for (before, replace) in SCENES {
            // The steps that change names are the same for both writers.
            if kind == IoBackend::Uring && matches!(before, Before::Empty | Before::Sidecars) {
                continue;
            }
            let mut kills = 0;
            for nth in 1u32.. {
                let dir = tempfile::tempdir().unwrap();
                arrange(dir.path(), before);
                let (old, output) = (files(dir.path()), dir.path().join("out.db"));
                let restore_in_child = |replace: Replace, nth: u32| {
                    let (replica, output) = (replica.to_str().unwrap(), output.to_str().unwrap());
                    only_test(module_path!(), "child")
                        .env("HYDRANT_TEST_KILL", format!("{replica}\n{output}\n{kind:?}\n{replace:?}\n{nth}"))
                        .output()
                        .unwrap()
                };
                let child = restore_in_child(replace, nth);
                let scene = format!("{kind:?} {before:?} {replace:?} {nth}: {child:?}");
                let found = files(dir.path());
                if child.status.success() {
                    assert_eq!(found, restored(), "{scene}");
                    break;
                }
                assert_eq!(child.status.signal(), Some(9), "{scene}");
                kills += 1;
                // The output must be the old or the new database. No sidecar of the old database may lie beside the
                // new one.
                let out = found.get("out.db");
                let is_new = out == restored().get("out.db");
                assert!(is_new || out == old.get("out.db"), "{scene}: {found:?}");
                if is_new {
                    assert!(!found.contains_key("out.db-wal"), "{scene}: {found:?}");
                }
                assert!(restore_in_child(Replace::Force, 0).status.success(), "{scene}");
                assert_eq!(files(dir.path()), restored(), "{scene}");
            }
            println!("{kind:?} {before:?} {replace:?}: {kills} kills");
            assert!(kills > 5);
        }
    }
}
