//! `hydrant ltx`: what lies on the replica.

use super::args::LtxArgs;
use super::failure::Failure;
use super::log::Log;
use crate::cancel::Cancel;
use crate::config::Env;

/// Runs the command; the answer is what stdout is to hold.
pub fn run(args: &LtxArgs, env: &Env<'_>, log: &Log, cancel: &Cancel) -> Result<String, Failure> {
    let _ = (args, env, log, cancel);
    Ok(String::new())
}
