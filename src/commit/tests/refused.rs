//! Tests of file systems and sandboxes that refuse calls: no links, no renames with flags, no files without a name. A
//! seccomp filter in a child process refuses them.

use super::*;
use crate::commit::devices::{self, Fit};
use crate::io::limits_tests::filter_rules;
use std::os::fd::AsFd;
use std::sync::Barrier;

const SANDBOXES: [&str; 5] = ["none", "no-flags", "no-links", "no-linkat", "no-tmpfile"];
/// The number and the bits of openat's flags for a file without a name.
const TMPFILE: (u32, u32) = (2, libc::O_TMPFILE as u32);

/// Installs the filter of a sandbox for this process.
pub(super) fn enter(sandbox: &str) {
    let fails = |errno: Errno| libc::SECCOMP_RET_ERRNO | u32::try_from(errno.raw_os_error()).unwrap();
    let flags = (libc::SYS_renameat2, None, fails(Errno::INVAL));
    let rules = match sandbox {
        "none" => return,
        "no-flags" => vec![flags],
        "no-links" => vec![flags, (libc::SYS_linkat, None, fails(Errno::PERM))],
        "no-linkat" => vec![(libc::SYS_linkat, None, fails(Errno::ACCESS))],
        "no-tmpfile" => vec![(libc::SYS_openat, Some(TMPFILE), fails(Errno::PERM))],
        "in-order" => vec![(libc::SYS_pwrite64, None, fails(Errno::INVAL))],
        "no-renames" => {
            let busy = fails(Errno::BUSY);
            vec![(libc::SYS_renameat2, None, busy), (libc::SYS_renameat, None, busy), (libc::SYS_rename, None, busy)]
        }
        "no-acl" => vec![(libc::SYS_fsetxattr, None, fails(Errno::PERM))],
        "no-chown" => vec![(libc::SYS_fchown, None, fails(Errno::PERM))],
        "no-removals" => vec![(libc::SYS_unlinkat, None, fails(Errno::BUSY))],
        other => panic!("unknown sandbox {other:?}"),
    };
    filter_rules(&rules);
}

/// Runs a child to its end in a sandbox. It must succeed.
fn run_in(sandbox: &str, what: &str, dir: &Path) {
    let output = ended(child_of(&format!("refused {what}"), dir).env(SANDBOX, sandbox));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{sandbox} {what}: {said}");
}

pub(super) fn child(what: &str) {
    match what {
        "publish" => publish_all(),
        "many" => publication::of_many_exactly_one_wins(),
        "write-between" => write_between(),
        "try-in-order" => try_named(Fit::Unfit("takes bytes in order only", Errno::INVAL)),
        "try-renames" => try_named(Fit::Unfit("does not rename a file that is open", Errno::BUSY)),
        "try-capable" => try_named(Fit::AnyOrder),
        "mounted" => mounted(),
        "leave" => leave_behind(),
        other => panic!("unknown child {other:?}"),
    }
}

#[test]
fn each_way_publishes() {
    for sandbox in SANDBOXES {
        for named in [false, true] {
            run_in(sandbox, "publish", folder(named).path());
        }
    }
}

/// Publishes to an absent file, an empty one, an old one with sidecars, and to sidecars alone.
fn publish_all() {
    let sandbox = std::env::var(SANDBOX).unwrap();
    for named in [false, true] {
        for (before, replace) in [
            (&[][..], Replace::Never),
            (&[("app.db", &b""[..])], Replace::Never),
            (&[], Replace::Force),
            (&[("app.db", b"old"), ("app.db-wal", b"old wal")], Replace::Force),
            (&[("app.db-wal", b"old wal"), ("app.db-shm", b"old shm")], Replace::Force),
        ] {
            let path = std::path::absolute("app.db").unwrap();
            before.iter().for_each(|(name, content)| std::fs::write(name, content).unwrap());
            let new = unpublished(&path, replace, named, b"new").unwrap();
            // The way is chosen before anything is fetched.
            let must_have_a_name = named || matches!(&*sandbox, "no-links" | "no-linkat" | "no-tmpfile");
            assert!(new.path().is_some() || !must_have_a_name, "{before:?}");
            new.publish().unwrap().sync_dir().unwrap();
            assert_eq!(tree(Path::new(".")), files([("app.db", b"new")]), "{before:?}");
            let error = commit(&path, Replace::Never, named, b"newer").unwrap_err();
            assert!(matches!(error, CommitError::Exists { .. }), "{error:?}");
            assert_eq!(tree(Path::new(".")), files([("app.db", b"new")]), "{before:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn of_many_exactly_one_wins_without_links() {
    run_in("no-links", "many", tempfile::tempdir().unwrap().path());
}

#[test]
fn what_is_written_into_a_placeholder_is_kept() {
    run_in("no-links", "write-between", tempfile::tempdir().unwrap().path());
}

/// Stops before each step of a publication and writes into the placeholder if it is there.
fn write_between() {
    let path = std::path::absolute("app.db").unwrap();
    let mut written = 0;
    for nth in 1..20 {
        let barrier = Arc::new(Barrier::new(2));
        let fault = inject(&path, Some(Step::Publish), nth, Effect::Held(Arc::clone(&barrier)));
        let new = unpublished(&path, Replace::Never, true, b"ours").unwrap();
        let (is_placeholder, (published, was_held)) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let published = new.publish().and_then(PublishedFile::sync_dir);
                let was_held = fault.struck();
                if !was_held {
                    barrier.wait();
                    barrier.wait();
                }
                (published, was_held)
            });
            barrier.wait();
            let is_placeholder = path.metadata().is_ok_and(|there| there.len() == 0);
            if is_placeholder {
                // Nobody takes it for a database, and no sweep removes it: its restore lives.
                assert!(!stands_at(&path));
                sweep(Path::new("."));
                assert!(path.exists());
                std::fs::write(&path, b"theirs").unwrap();
            }
            barrier.wait();
            (is_placeholder, thread.join().unwrap())
        });
        if is_placeholder {
            written += 1;
            assert!(matches!(published, Err(CommitError::Exists { .. })), "step {nth}: {published:?}");
            assert_eq!(tree(Path::new(".")), files([("app.db", b"theirs")]));
        } else {
            published.unwrap();
            assert_eq!(tree(Path::new(".")), files([("app.db", b"ours")]));
        }
        std::fs::remove_file(&path).unwrap();
        if !was_held {
            return assert_eq!(written, 1, "{nth} steps");
        }
    }
    panic!("the publication has no end");
}

#[test]
fn file_systems_that_nothing_can_be_restored_to() {
    run_in("in-order", "try-in-order", tempfile::tempdir().unwrap().path());
    run_in("no-renames", "try-renames", tempfile::tempdir().unwrap().path());
    run_in("none", "try-capable", tempfile::tempdir().unwrap().path());
}

fn try_named(expected: Fit) {
    let dir = std::fs::File::open(".").unwrap();
    assert_eq!(devices::try_named(dir.as_fd(), "app.db".as_ref()), Ok(expected));
    assert_eq!(tree(Path::new(".")).len(), 0);
}

#[test]
fn what_cannot_be_removed_is_said_and_swept_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    run_in("no-removals", "leave", dir.path());
    assert_eq!(tree(dir.path()).len(), 1);
    assert_eq!(sweep(dir.path()), []);
    assert_eq!(tree(dir.path()).len(), 0);
}

fn leave_behind() {
    let (run, path) = (CommitContext::default(), Path::new("app.db"));
    drop(unpublished_by(&run, path, Replace::Never, true, b"new").unwrap());
    let notices = run.take_notices();
    let [notice @ Notice::LeftBehind { path, errno: Errno::BUSY }] = &*notices else { panic!("{notices:?}") };
    assert!(path.exists() && notice.to_string().contains("could not be removed: "), "{notice}");
    assert_eq!(run.take_notices(), []);
}

#[test]
fn a_directory_sync_that_the_file_system_does_not_know_is_no_failure() {
    for errno in [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS, Errno::BADF] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let fault = inject(&path, Some(Step::SyncDir), 1, Effect::Fail(errno));
        commit(&path, Replace::Never, false, b"new").unwrap();
        assert!(fault.struck());
        assert_eq!(tree(dir.path()), files([("app.db", b"new")]));
    }
}

/// A container's bind mount of a single file.
#[test]
fn a_mount_point_is_found_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("app.db"), b"").unwrap();
    std::fs::write(dir.path().join("theirs"), b"").unwrap();
    let inner = child_of("refused mounted", dir.path());
    let script = "mount --bind theirs app.db || exit 77; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.env(CHILD, "refused mounted").current_dir(dir.path());
    let output = ended(&mut command);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        return println!("skipped: no mounts can be made here: {said}");
    }
    assert!(output.status.success(), "{said}");
    assert_eq!(tree(dir.path()), files([("app.db", b""), ("theirs", b"theirs")]));
}

fn mounted() {
    let path = Path::new("app.db");
    let error = CommitError::MountPoint { path: path.to_owned() };
    for replace in [Replace::Never, Replace::Force] {
        assert_eq!(prepare(path, replace).unwrap_err(), error);
    }
    std::fs::write(path, b"theirs").unwrap();
    assert!(matches!(prepare(path, Replace::Never), Err(CommitError::Exists { .. })));
    assert_eq!(prepare(path, Replace::Force).unwrap_err(), error);
}
