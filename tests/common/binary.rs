//! The real binary, with nothing in its environment but a simulator's keys.

use std::path::Path;
use std::process::{Command, Stdio};

pub fn hydrant(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(args).current_dir(dir).env_clear();
    for (name, value) in [
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIDHYDRANTTESTS"),
        ("AWS_SECRET_ACCESS_KEY", "hydrant-tests-secret-key"),
    ] {
        command.env(name, value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
