//! Tests of outputs that exist already or cannot be created. Existing files must keep their content in every
//! failure.

use super::support::*;
use crate::common::disk::SmallDisk;
use hydrant::sim::server::{Failure, Faults, RequestKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

fn source() -> (String, String) {
    let (folder, manifest) = fixture("block-4096");
    (format!("file://{}", folder.display()), latest(&manifest))
}

#[test]
fn in_the_way() {
    let (url, hash) = source();
    type Arrange = fn(&Place);
    let refused: &[(&str, Arrange, &str)] = &[
        (
            "a file",
            |p| drop(p.write("out.db", "old")),
            "cannot restore, output path already exists and is not empty: OUT. Use -force to overwrite",
        ),
        (
            "a -wal",
            |p| drop(p.write("out.db-wal", "")),
            "cannot restore, SQLite sidecar path already exists: OUT-wal. Use -force to overwrite",
        ),
        (
            "a -shm beside an empty file",
            |p| drop((p.write("out.db", ""), p.write("out.db-shm", "s"))),
            "cannot restore, SQLite sidecar path already exists: OUT-shm. Use -force to overwrite",
        ),
        (
            "a -journal",
            |p| drop(p.write("out.db-journal", "j")),
            "cannot restore, SQLite sidecar path already exists: OUT-journal. Use -force to overwrite",
        ),
        ("a directory", |p| std::fs::create_dir(p.out()).unwrap(), "cannot restore, output path is a directory: OUT"),
        (
            "a link",
            |p| symlink(p.write("canary", "canary"), p.out()).unwrap(),
            "cannot restore, output path is a symbolic link: OUT",
        ),
        (
            "a dangling link",
            |p| symlink(p.path("nowhere"), p.out()).unwrap(),
            "cannot restore, output path is a symbolic link: OUT",
        ),
    ];
    for (what, arrange, text) in refused {
        let place = Place::new();
        arrange(&place);
        let before = place.contents();
        let ran = run(&mut hydrant(&["restore", "-o", &place.out(), &url]));
        let ran = ran.failed(&text.replace("OUT", &place.out()));
        assert_eq!(place.contents(), before, "{what}: {ran:?}");
    }
    let place = Place::new();
    place.write("out.db", "");
    run(&mut hydrant(&["restore", "-o", &place.out(), &url])).succeeded();
    place.holds_only(&hash);
}

#[test]
fn if_db_not_exists_wins_before_any_request() {
    // No server listens on this port, so a command that sent a request would fail.
    let url = url("http://127.0.0.1:1", "db");
    type Arrange = fn(&Place);
    let skipped: &[Arrange] = &[
        |p| drop(p.write("out.db", "old")),
        |p| drop(p.write("out.db", "")),
        |p| std::fs::create_dir(p.out()).unwrap(),
        |p| symlink(p.write("canary", "canary"), p.out()).unwrap(),
    ];
    for arrange in skipped {
        let place = Place::new();
        arrange(&place);
        let before = place.contents();
        let ran = run(&mut hydrant(&[
            "restore",
            "-if-db-not-exists",
            "-force",
            "-dry-run",
            "-json",
            "-o",
            &place.out(),
            &url,
        ]));
        assert_eq!((ran.code, &*ran.stdout), (Some(0), ""));
        assert_eq!(ran.stderr, "database already exists, skipping\n");
        assert_eq!(place.contents(), before);
    }
    let place = Place::new();
    symlink(place.path("nowhere"), place.out()).unwrap();
    let ran = run(&mut hydrant(&["restore", "-if-db-not-exists", "-o", &place.out(), &source().0]));
    ran.failed("is a symbolic link");
}

#[test]
fn force_replaces_files_and_sidecars_and_keeps_the_mode() {
    let (url, hash) = source();
    let place = Place::new();
    for sidecar in ["", "-wal", "-shm", "-journal"] {
        place.write(&format!("out.db{sidecar}"), "old");
    }
    place.write("out.db-other", "stays");
    std::fs::set_permissions(place.out(), std::fs::Permissions::from_mode(0o640)).unwrap();
    run(&mut hydrant(&["restore", "-force", "-o", &place.out(), &url])).succeeded();
    assert_eq!(sha256(Path::new(&place.out())), hash);
    assert_eq!(place.contents().into_keys().collect::<Vec<_>>(), ["out.db", "out.db-other"]);
    assert_eq!(Path::new(&place.out()).metadata().unwrap().mode() & 0o777, 0o640);

    // Sidecars exist, but no database.
    let place = Place::new();
    place.write("out.db-wal", "stale");
    run(&mut hydrant(&["restore", "-force", "-o", &place.out(), &url])).succeeded();
    place.holds_only(&hash);

    for arrange in [
        (|p| std::fs::create_dir(p.out()).unwrap()) as fn(&Place),
        |p| symlink(p.write("canary", "canary"), p.out()).unwrap(),
        |p| std::fs::create_dir(p.path("out.db-wal")).unwrap(),
    ] {
        let place = Place::new();
        arrange(&place);
        let before = place.contents();
        run(&mut hydrant(&["restore", "-force", "-o", &place.out(), &url])).failed("cannot restore");
        assert_eq!(place.contents(), before);
    }
}

/// The old database and its sidecars must be unchanged if any single request fails for good.
#[test]
fn force_loses_nothing_at_any_failing_request() {
    // The snapshot is large, so it is fetched in parts.
    let served = serve(large(20 << 20, 3), Faults::default());
    let place = Place::new();
    place.write("out.db", "old");
    place.write("out.db-wal", "old wal");
    let before = place.contents();
    let root = &served.database.root;
    let mut failing = vec![(RequestKind::List, format!("{root}/"), 0)];
    for object in &served.database.objects {
        let requests = if object.bytes.len() > 8 << 20 { 4 } else { 1 };
        failing.extend((0..requests).map(|passing| (RequestKind::Get, object.key.clone(), passing)));
    }
    for (kind, key, passing) in failing {
        let script = std::iter::repeat_n(None, passing).chain([Some(Failure::AccessDenied)]);
        served.server.script(kind, &key, script);
        let ran = run(&mut hydrant_s3(&["restore", "-force", "-o", &place.out(), &served.url]));
        ran.failed("AccessDenied");
        assert_eq!(place.contents(), before, "{key} after {passing}");
        // Uses up scripted failures that this run did not reach, so that the next run does not meet them.
        while run_until_clean(&served, &place, &before) {}
    }
    run(&mut hydrant_s3(&["restore", "-force", "-o", &place.out(), &served.url])).succeeded();
    place.holds_only(&served.sha256);
}

/// Uses up the rest of a script by restoring elsewhere. Returns whether more may be left.
fn run_until_clean(served: &Served, place: &Place, before: &Contents) -> bool {
    let refused = served.server.stats().with_outcome(hydrant::sim::server::Outcome::Refused);
    let elsewhere = Place::new();
    run(&mut hydrant_s3(&["restore", "-o", &elsewhere.out(), &served.url]));
    assert_eq!(&place.contents(), before);
    served.server.stats().with_outcome(hydrant::sim::server::Outcome::Refused) > refused
}

#[test]
fn a_directory_that_cannot_be_written_is_found_before_anything_is_fetched() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: another user cannot be tried");
        return;
    }
    let served = serve(large(1 << 20, 2), Faults::default());
    let place = Place::new();
    std::fs::set_permissions(place.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = hydrant_s3(&["restore", "-o", &place.out(), &served.url]);
    let ran = run(command.uid(65534).gid(65534));
    ran.failed("permission denied");
    place.is_empty();
    assert_eq!(served.server.stats().body_bytes, 0);
    assert_eq!(served.server.stats().total(), 0);
    // A dry run says so too, of one database and of many.
    let missing = place.path("a/b/out.db");
    for output in [place.out(), missing] {
        let mut command = hydrant_s3(&["restore", "-dry-run", "-o", &output, &served.url]);
        let text = format!("cannot create files in {}: permission denied", place.dir().display());
        run(command.uid(65534).gid(65534)).failed(&text);
    }
    let pattern = served.url.replace("large.db", "**");
    for output in [place.path("."), place.path("a/b")] {
        let mut command = hydrant_s3(&["restore-pattern", "-dry-run", "-output-dir", &output, &pattern]);
        let ran = run(command.uid(65534).gid(65534));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains("cannot create files in") && !ran.stderr.contains("can restore 1"), "{ran:?}");
    }
    place.is_empty();

    // -force replaces a file of another user, in a directory of the restoring user.
    let place = Place::new();
    std::fs::set_permissions(place.dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
    place.write("out.db", "root's");
    let mut command = hydrant_s3(&["restore", "-force", "-o", &place.out(), &served.url]);
    run(command.uid(65534).gid(65534)).succeeded();
    place.holds_only(&served.sha256);
}

#[test]
fn a_full_disk_is_found_before_the_pages_are_fetched() {
    let mount = Place::new();
    let Some(_disk) = SmallDisk::on(mount.dir(), "2m") else { return };
    let served = serve(large(24 << 20, 2), Faults::default());
    for check in ["none", "full"] {
        for force in [false, true] {
            let before = if force { mount.write("out.db", "old") } else { String::new() };
            let listed = mount.contents();
            let sent = served.server.stats().body_bytes;
            let mut args = vec!["restore", "-integrity-check", check, "-o"];
            let out = mount.out();
            args.extend([out.as_str(), &served.url]);
            if force {
                args.push("-force");
            }
            run(&mut hydrant_s3(&args)).failed("no space left on device");
            assert_eq!(mount.contents(), listed);
            let fetched = served.server.stats().body_bytes - sent;
            assert!(fetched < 1 << 20, "{fetched} bytes");
            if force {
                std::fs::remove_file(before).unwrap();
            }
        }
    }
    // This smaller database fits on the small file system and must be restored.
    let small = serve(large(1 << 20, 2), Faults::default());
    run(&mut hydrant_s3(&["restore", "-o", &mount.out(), &small.url])).succeeded();
    mount.holds_only(&small.sha256);
}

#[test]
fn of_two_restorers_one_succeeds() {
    let served = serve(large(2 << 20, 4), Faults::default());
    for check in ["none", "quick"] {
        let place = Place::new();
        let runs: Vec<_> = (0..5)
            .map(|_| start(&mut hydrant_s3(&["restore", "-integrity-check", check, "-o", &place.out(), &served.url])))
            .collect();
        let ran: Vec<_> = runs.into_iter().map(Running::wait).collect();
        let succeeded = ran.iter().filter(|r| r.code == Some(0)).count();
        assert_eq!(succeeded, 1, "{ran:?}");
        for other in ran.iter().filter(|r| r.code != Some(0)) {
            assert!(other.code == Some(1) && other.stderr.contains("already exists"), "{other:?}");
        }
        place.holds_only(&served.sha256);
    }
}

/// With `-if-db-not-exists` those who are slower skip, whether they find the database before they begin or when they
/// are done.
#[test]
fn of_two_restorers_that_may_skip_none_fails() {
    let served = serve(large(2 << 20, 4), Faults::default());
    let place = Place::new();
    let args = ["restore", "-if-db-not-exists", "-o", &place.out(), &served.url];
    let runs: Vec<_> = (0..5).map(|_| start(&mut hydrant_s3(&args))).collect();
    let ran: Vec<_> = runs.into_iter().map(|run| run.wait().succeeded()).collect();
    let said = |text: &str| ran.iter().filter(|ran| ran.stderr.contains(text)).count();
    assert_eq!((said("restored "), said("database already exists, skipping\n")), (1, 4), "{ran:?}");
    place.holds_only(&served.sha256);
}
