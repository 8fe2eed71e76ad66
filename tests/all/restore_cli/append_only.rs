//! Tests of outputs on a file system that takes bytes in order only: the databases are staged elsewhere and copied.

use super::support::*;
use crate::common::append_only::{AppendOnly, Quirks};
use crate::common::disk::SmallDisk;
use hydrant::sim::generate::{GeneratedDatabase, LargeSpec, large_database};
use hydrant::sim::server::Faults;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

/// A database of more than one piece of a copy, which is fetched in segments.
fn database() -> Served {
    serve(large(20 << 20, 3), Faults::default())
}

/// A command that stages databases in `staging`.
fn staged(staging: &Place, args: &[&str]) -> Command {
    let mut command = hydrant_s3(args);
    command.env("TMPDIR", staging.dir());
    command
}

/// What was stored: nothing but these files, by name and hash.
#[track_caller]
fn assert_stored(mounted: &AppendOnly, files: &[(&str, &str)]) {
    mounted.settle();
    let files = files.iter().map(|(name, sha256)| ((*name).to_owned(), format!("file {sha256}")));
    assert_eq!(contents(&mounted.store()), files.collect::<Contents>());
}

#[test]
fn a_database_is_staged_and_copied() {
    let Some(mounted) = AppendOnly::mount(Quirks::default()) else { return };
    let served = database();
    let staging = Place::new();
    let out = mounted.path("out.db");
    let said = format!(
        "databases are staged in {} and copied, because the file system of {} takes bytes in order only\n",
        staging.dir().display(),
        Path::new(&out).parent().unwrap().display()
    );
    for engine in ["auto", "pwrite"] {
        for check in ["none", "full"] {
            let args = ["restore", "-io-engine", engine, "-integrity-check", check, "-o", &out, &served.url];
            let ran = run(&mut staged(&staging, &args)).succeeded();
            assert!(ran.stderr.contains(&said) && !ran.stderr.contains("Warning"), "{ran:?}");
            assert_stored(&mounted, &[("out.db", &served.sha256)]);
            staging.is_empty();
            // What stands there is not replaced, and nothing is copied to find out.
            let written = mounted.written.load(Relaxed);
            run(&mut staged(&staging, &args)).failed("output path already exists and is not empty");
            run(&mut staged(&staging, &[&args[..], &["-if-db-not-exists"]].concat())).succeeded();
            assert_eq!(mounted.written.load(Relaxed), written);
            assert_stored(&mounted, &[("out.db", &served.sha256)]);
            std::fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn force_replaces_a_database_and_an_empty_file_is_none() {
    let Some(mounted) = AppendOnly::mount(Quirks::default()) else { return };
    let served = database();
    let staging = Place::new();
    let out = mounted.path("out.db");
    std::fs::write(&out, "old").unwrap();
    let args = ["restore", "-force", "-o", &out, &served.url];
    run(&mut staged(&staging, &args)).succeeded();
    assert_stored(&mounted, &[("out.db", &served.sha256)]);
    // The sidecars belonged to the old one.
    ["-wal", "-shm"].iter().for_each(|suffix| std::fs::write(format!("{out}{suffix}"), "old").unwrap());
    run(&mut staged(&staging, &args)).succeeded();
    assert_stored(&mounted, &[("out.db", &served.sha256)]);
    std::fs::remove_file(&out).unwrap();
    std::fs::write(mounted.store().join("out.db"), "").unwrap();
    run(&mut staged(&staging, &["restore", "-o", &out, &served.url])).succeeded();
    assert_stored(&mounted, &[("out.db", &served.sha256)]);
    staging.is_empty();
}

#[test]
fn a_fleet_is_staged_and_copied() {
    let Some(mounted) = AppendOnly::mount(Quirks::default()) else { return };
    let server = simulator(Faults::default());
    let fleet: Vec<GeneratedDatabase> = (0..12)
        .map(|i| {
            let root = format!("tenants/{i}/app.db");
            let spec = LargeSpec { root, bytes: 200_000 + i * 300_000, seed: i, increments: 3, ..LargeSpec::default() };
            large_database(&spec).unwrap().to_database()
        })
        .collect();
    fleet.iter().for_each(|database| server.objects().put_database("bucket", database));
    let staging = Place::new();
    let (dir, pattern) = (mounted.path("out"), url(&server.endpoint(), "**"));
    for check in ["none", "quick"] {
        let args = ["restore-pattern", "-output-dir", &dir, "-force", "-integrity-check", check, &pattern];
        let ran = run(&mut staged(&staging, &args)).succeeded();
        assert_eq!(ran.stderr.matches("databases are staged in ").count(), 1, "{ran:?}");
        let found = contents(&mounted.store().join("out"));
        let files: Vec<_> = found.iter().filter(|(_, what)| what.starts_with("file ")).collect();
        assert_eq!(files.len(), fleet.len(), "{found:?}");
        for (i, database) in fleet.iter().enumerate() {
            assert_eq!(found[&format!("tenants/{i}/app.db")], format!("file {}", hex(&database.expected.sha256)));
        }
        staging.is_empty();
    }
}

#[test]
fn nothing_is_fetched_where_no_copy_could_get_its_name() {
    let served = database();
    for (quirks, lack, left) in [
        (Quirks { renames: false, ..Quirks::default() }, "rename a file that it has stored", 0),
        // Not more than one object is left that nobody can remove.
        (Quirks { removes: false, ..Quirks::default() }, "remove a file", 1),
    ] {
        let Some(mounted) = AppendOnly::mount(quirks) else { return };
        let place = Place::new();
        let before = served.server.stats();
        let ran = run(&mut staged(&place, &["restore", "-o", &mounted.path("out.db"), &served.url]));
        ran.failed(&format!(
            "(fuse.append) takes bytes in order only, and does not {lack}: operation not permitted. Restore to another \
             directory and copy the database"
        ));
        assert_eq!(served.server.stats().since(&before).body_bytes, 0);
        assert_eq!(contents(&mounted.store()).len(), left);
        place.is_empty();
    }
}

#[test]
fn standbys_checks_and_staging_need_writes_in_any_order() {
    let Some(mounted) = AppendOnly::mount(Quirks::default()) else { return };
    let served = database();
    let (out, before) = (mounted.path("out.db"), served.server.stats());
    let place = Place::new();
    let ran = run(&mut staged(&place, &["restore", "-f", "-o", &out, &served.url]));
    ran.failed("cannot lock ");
    let mut command = hydrant_s3(&["restore", "-o", &out, &served.url]);
    run(command.env("TMPDIR", mounted.path(""))).failed("(fuse.append) takes bytes in order only: invalid argument");
    let mut command = hydrant_s3(&["restore", "-o", &out, &served.url]);
    let none = place.path("none");
    run(command.env("TMPDIR", &none)).failed(&format!("cannot stage databases in {none}: no such file or directory"));
    assert_eq!(served.server.stats().since(&before).body_bytes, 0);
    place.is_empty();
    // SQLite looks at databases where they are.
    let ran = run(hydrant_s3(&["verify", "-json", "-depth", "sqlite", "-scratch", &mounted.path(""), &served.url])
        .current_dir(place.dir()));
    assert!(
        ran.code == Some(1) && ran.stdout.contains("(fuse.append) takes bytes in order only: invalid argument"),
        "{ran:?}"
    );
    assert!(!mounted.store().join("out.db").exists());
}

#[test]
fn killed_in_the_copy_it_leaves_a_part_under_a_temporary_name_that_the_next_run_removes() {
    let Some(mounted) = AppendOnly::mount(Quirks { holds_at: 5 << 20, ..Quirks::default() }) else { return };
    let served = database();
    let small = serve(large(1 << 20, 1), Faults::default());
    let staging = Place::new();
    let out = mounted.path("out.db");
    let running = start(&mut staged(&staging, &["restore", "-integrity-check", "quick", "-o", &out, &served.url]));
    assert!(mounted.held.wait());
    running.signal(Signal::KILL);
    mounted.go_on.open();
    assert_eq!(running.wait().code, None);
    // The kernel closed the file, so its part was stored.
    let left: Vec<String> = contents(&mounted.store()).into_keys().collect();
    let [part] = &*left else { panic!("{left:?}") };
    let is_plain = |name: &str| name.strip_prefix(".out.db.hydrant-").is_some_and(|random| random.len() == 8);
    assert!(is_plain(part), "{part}");
    let bytes = mounted.store().join(part).metadata().unwrap().len();
    assert!((5 << 20..served.database.expected.bytes).contains(&bytes), "{bytes}");
    // SQLite's check takes a name. Nobody else may read what is staged.
    let kept: Vec<String> = staging.contents().into_keys().collect();
    assert!(matches!(&*kept, [name] if is_plain(name)), "{kept:?}");
    assert_eq!(staging.dir().join(&kept[0]).metadata().unwrap().mode() & 0o7777, 0o600);
    run(&mut staged(&staging, &["restore", "-if-db-not-exists", "-o", &out, &small.url])).succeeded();
    assert_stored(&mounted, &[("out.db", &small.sha256)]);
    staging.is_empty();
}

#[test]
fn stopped_in_the_copy_it_leaves_nothing() {
    let Some(mounted) = AppendOnly::mount(Quirks { holds_at: 5 << 20, ..Quirks::default() }) else { return };
    let served = database();
    let staging = Place::new();
    std::fs::write(mounted.path("out.db"), "old").unwrap();
    let before = contents(&mounted.store());
    let args = ["restore", "-force", "-o", &mounted.path("out.db"), &served.url];
    let running = start(&mut staged(&staging, &args));
    assert!(mounted.held.wait());
    running.signal(Signal::TERM);
    mounted.go_on.open();
    // It may have ended before it saw the signal.
    match running.wait().code {
        Some(143) => assert_eq!(contents(&mounted.store()), before),
        _ => assert_stored(&mounted, &[("out.db", &served.sha256)]),
    }
    staging.is_empty();
}

#[test]
fn a_full_mount_and_a_wrong_length_leave_what_was_there() {
    let served = database();
    let staging = Place::new();
    for (quirks, error) in [
        (Quirks { room: 3 << 20, ..Quirks::default() }, "no space left on device at offset 3145728"),
        (Quirks { keeps: 1000, ..Quirks::default() }, "was stored with 1000 bytes, not with "),
    ] {
        let Some(mounted) = AppendOnly::mount(quirks) else { return };
        let out = mounted.path("out.db");
        for old in [false, true] {
            if old {
                std::fs::write(&out, "old").unwrap();
            }
            let before = contents(&mounted.store());
            let ran = run(&mut staged(&staging, &["restore", "-force", "-o", &out, &served.url])).failed(error);
            assert!(ran.stderr.contains(&out), "{ran:?}");
            assert_eq!(contents(&mounted.store()), before);
            staging.is_empty();
        }
    }
}

#[test]
fn a_disk_that_is_too_small_for_staging_is_named() {
    let Some(mounted) = AppendOnly::mount(Quirks::default()) else { return };
    let served = serve(large(1 << 20, 3), Faults::default());
    let staging = Place::new();
    let Some(_disk) = SmallDisk::on(staging.dir(), "64k") else { return };
    let out = mounted.path("out.db");
    let before = served.server.stats();
    run(&mut staged(&staging, &["restore", "-o", &out, &served.url])).failed(&format!(
        "cannot reserve {} bytes in {} for {out}, which is staged there: no space left on device (65536 bytes free). \
         Set TMPDIR to a directory with more space",
        served.database.expected.bytes,
        staging.dir().display()
    ));
    assert!(served.server.stats().since(&before).body_bytes < 16 << 10);
    assert_stored(&mounted, &[]);
    staging.is_empty();
}
