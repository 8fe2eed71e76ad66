//! Commands that run the real program. Its environment is empty except for the keys of the simulator.

use super::wait::grant_time_to_end;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) fn hydrant(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(args).current_dir(dir).env_clear();
    for (name, value) in [
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIDHYDRANTTESTS"),
        ("AWS_SECRET_ACCESS_KEY", "hydrant-tests-secret-key"),
    ] {
        command.env(name, value);
    }
    grant_time_to_end(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command that runs one test of this test program in a process of its own. `module` is the value of
/// `module_path!()` and `name` the test's name in it.
pub(crate) fn only_test(module: &str, name: &str) -> Command {
    let (_program, module) = module.split_once("::").expect("a module of this program");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{name}"), "--nocapture"]);
    command
}

/// A user ID that no other test uses. The kernel counts threads per user, so a test that limits threads needs a
/// user of its own; for root such a limit does not hold. The ID is below 65,536, because containers may have no
/// more users.
pub(crate) fn another_user() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let of_this_process = std::process::id().wrapping_mul(97);
    20_000 + of_this_process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 40_000
}
