//! A reader that is another user, and may write neither the standby nor its directory.

use super::support::*;
use crate::common::binary::{another_user, only_test};
use hydrant::sim::generate::Change;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The variable with the path of the standby that [`child`] reads.
const STANDBY: &str = "HYDRANT_TEST_STANDBY";

#[test]
fn another_user_sees_the_newest_state_and_may_change_nothing() {
    let user = another_user();
    let mut version = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    if !version.arg("-version").uid(user).gid(user).status().is_ok_and(|status| status.success()) {
        return println!("skipped: another user cannot be tried here");
    }
    let mut world = World::new(4096, 0);
    std::fs::set_permissions(world.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let follower = Follower::start(&mut world.command(&["-mode", "0644"]));
    follower.until_line("caught up");
    for change in [Change::Transfer, Change::Grow(20_000), Change::Vacuum] {
        let txid = world.transact(change);
        follower.until_seq(&world.path(), txid);
        assert_eq!(read_as(user, &world.path()), format!("seq {}", txid.0));
    }
    world.catch_up_and_stop(follower);
}

/// What `user` reads of the standby, in a process of its own.
fn read_as(user: u32, standby: &Path) -> String {
    let mut reader = only_test(module_path!(), "child");
    let output = reader.env(STANDBY, standby).uid(user).gid(user).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.find("seq ").and_then(|at| line.get(at..)));
    line.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[test]
fn child() {
    let Some(standby) = std::env::var_os(STANDBY) else { return };
    let standby = Path::new(&standby);
    assert!(std::fs::File::options().write(true).open(standby).is_err());
    assert!(std::fs::File::create(standby.with_file_name("mine")).is_err());
    println!("\nseq {}", read_only(standby).and_then(|reader| seq(&reader)).unwrap());
}
