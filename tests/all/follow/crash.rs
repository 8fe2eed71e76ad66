//! SIGKILL at every system call that changes a file: of an apply and the end after it, and of the first start. A reader
//! then sees the old state or the new one, and the next follower reaches the newest. Takes strace.

use super::support::*;
use hydrant::ltx::Txid;
use hydrant::sim::generate::{Change, Primary};
use std::path::Path;
use std::process::{Command, Stdio};

/// The system calls before which the follower is killed. SQLite's are on one thread, the sidecar's on another; each
/// thread counts for itself.
const CALLS: &str = "pwrite64,fdatasync,fsync,ftruncate,fallocate,rename,renameat2,linkat,unlink,unlinkat,openat";
/// More steps than any of the runs has.
const MOST_STEPS: u32 = 2000;

pub(super) fn has_strace() -> bool {
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = strace.is_ok_and(|status| status.success());
    if !is_there {
        println!("skipped: no strace here");
    }
    is_there
}

/// Runs the follower and kills it before its `nth` call. Returns false if it was not killed: it caught up, and ended.
fn killed_at(world: &World, nth: u32) -> bool {
    is_killed(world, world.command(&["-io-engine", "pwrite"]), nth)
}

fn is_killed(world: &World, of: Command, nth: u32) -> bool {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}")]);
    command.args(["-e", &format!("inject={CALLS}:signal=KILL:when={nth}")]);
    command.arg(of.get_program()).args(of.get_args()).current_dir(world.dir.path()).env_clear();
    command.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = Follower::start(&mut command);
    while follower.is_running() && follower.count("caught up") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // strace is not the follower: the lock's file names that.
    let lock = std::fs::read_to_string(world.dir.path().join(".out.db-hydrant-follow")).unwrap_or_default();
    if let Some(pid) = lock.lines().next().and_then(|pid| pid.parse().ok()).filter(|_| follower.is_running()) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM);
    }
    let (status, _, lines) = follower.wait();
    assert!(matches!(status.code(), None | Some(0)), "{status} {lines:#?}");
    status.code().is_none()
}

fn copy(from: &Path, to: &Path) {
    std::fs::read_dir(to).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Kills a follower that has `changes` to apply before each of its steps. Returns their number.
fn kill_at_every_step(changes: &[Change]) -> u32 {
    let mut world = World::new(1024, 0);
    world.transact(Change::Grow(100_000));
    let old = world.primary.txid();
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    let template = tempfile::tempdir().unwrap();
    copy(world.dir.path(), template.path());
    for &change in changes {
        world.transact(change);
    }
    let new = world.primary.txid();
    for nth in 1..MOST_STEPS {
        copy(template.path(), world.dir.path());
        if !killed_at(&world, nth) {
            world.is_state(new);
            return nth - 1;
        }
        let seen = read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap();
        assert!(seen == old.0 || seen == new.0, "killed at {nth}: {seen}");
        let follower = world.follow();
        world.catch_up_and_stop(follower);
    }
    panic!("more than {MOST_STEPS} steps");
}

#[test]
fn a_follower_killed_at_any_step_of_growth_loses_nothing() {
    if has_strace() {
        let steps = kill_at_every_step(&[Change::Grow(30_000), Change::Transfer]);
        assert!(steps >= 15, "only {steps} steps");
    }
}

#[test]
fn a_follower_killed_at_any_step_of_shrinking_loses_nothing() {
    if has_strace() {
        let steps = kill_at_every_step(&[Change::Schema, Change::Vacuum]);
        assert!(steps >= 15, "only {steps} steps");
    }
}

#[test]
fn a_first_start_killed_at_any_step_leaves_nothing_or_a_standby() {
    if !has_strace() {
        return;
    }
    let mut world = World::new(1024, 0);
    world.transact(Change::Grow(100_000));
    let (empty, new, mut standbys) = (tempfile::tempdir().unwrap(), world.primary.txid(), 0);
    for nth in 1..MOST_STEPS {
        copy(empty.path(), world.dir.path());
        if !killed_at(&world, nth) {
            world.is_state(new);
            assert!(nth > 20 && standbys > 5, "only {nth} steps, {standbys} of them with a database");
            return;
        }
        if world.path().exists() {
            standbys += 1;
            assert_eq!(read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap(), new.0, "killed at {nth}");
            assert_eq!(world.sidecar(), format!("{new}\n"), "a database has its sidecar: killed at {nth}");
        }
        let follower = world.follow();
        world.catch_up_and_stop(follower);
        assert_eq!(new, Txid(2));
    }
    panic!("more than {MOST_STEPS} steps");
}

/// The TXID in a sidecar counts for one replica alone. So no step may leave the old one beside the name of the new source.
#[test]
fn a_change_of_the_source_killed_at_any_step_never_mixes_two_databases() {
    if !has_strace() {
        return;
    }
    let mut world = World::new(4096, 0);
    world.transact(Change::Transfer);
    let follower = world.follow();
    world.catch_up_and_stop(follower);
    let (other, url) = world.other_replica(Txid(3));
    let template = tempfile::tempdir().unwrap();
    copy(world.dir.path(), template.path());
    let image = |primary: &Primary, txid| masked(primary.image(txid).unwrap().to_vec());
    let (old, new, mut refused) = (image(&world.primary, Txid(2)), image(&other, Txid(3)), 0);
    for nth in 1..MOST_STEPS {
        copy(template.path(), world.dir.path());
        let is_ended = !is_killed(&world, world.command_of(&url, &["-force", "-io-engine", "pwrite"]), nth);
        // As another follower does at its start.
        read_only(&world.path()).and_then(|reader| seq(&reader)).unwrap();
        let found = masked(std::fs::read(world.path()).unwrap());
        let expected = match &*world.source() {
            "s3://bucket/other.db" => (&new, "0000000000000003\n"),
            source => {
                assert_eq!(source, "s3://bucket/app.db", "killed at {nth}");
                (&old, "0000000000000002\n")
            }
        };
        match std::fs::read_to_string(world.dir.path().join("out.db-txid")) {
            Ok(txid) => assert!(found == *expected.0 && txid == expected.1, "killed at {nth}: {txid}"),
            Err(_) => refused += 1,
        }
        if is_ended {
            assert_eq!(world.source(), "s3://bucket/other.db");
            assert!(nth > 20 && refused > 5, "only {nth} steps, {refused} of them without a sidecar");
            return;
        }
    }
    panic!("more than {MOST_STEPS} steps");
}
