//! The command `hydrant promote`: ends the follower of a standby, brings it up to date, checks it, and makes it an ordinary
//! database. What happens before, that the old primary is gone, no program can do.
//!
//! `procedure` promotes one database. `fleet` finds those of a pattern, and promotes each.

mod fleet;
mod procedure;

use crate::cancel::CancellationToken;
use crate::cli::args::resolved::{PromoteArgs, Promotee, Source};
use crate::cli::failures::absolute;
use crate::cli::restore::locate;
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::screen;
use crate::config::Env;
use crate::error::escaped;
use crate::follow;
use crate::telemetry::Counters;
use procedure::{NEXT, Promoted, Promotion};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// The JSON object that `hydrant promote -json` prints for one database.
#[derive(Serialize)]
struct PromoteJson<'a> {
    db_path: &'a str,
    #[serde(flatten)]
    promoted: Promoted,
}

/// Runs the command and returns the text to print on stdout. For a fleet it prints by itself.
///
/// # Errors
/// A database is not promoted. It is then a standby as before.
pub(super) fn run(args: &PromoteArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<String, Failure> {
    follow::check_build().map_err(|error| Failure::failed(error.class(), error.to_string()))?;
    match &args.what {
        Promotee::One { source, output } => one(args, (source, output.as_deref()), env, log, cancel),
        Promotee::Fleet { pattern, output_dir } => {
            fleet::run(args, (pattern, output_dir), env, log, cancel).map(|()| String::new())
        }
    }
}

fn one(
    args: &PromoteArgs,
    (source, output): (&Source, Option<&Path>),
    env: &Env<'_>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<String, Failure> {
    let typed = match (output, source) {
        (Some(output), _) => output,
        (None, Source::Database { path, .. }) => path,
        (None, Source::Url(_)) => return Err(Failure::usage("-o is required when promoting from a replica URL")),
    };
    let (database, shown) = (absolute(typed)?, typed.display().to_string());
    let (location, section) = locate(source, &args.source_shown, env, log)?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let counters = Arc::new(Counters::default());
    // As for a follower, a signal ends the work and not the workers.
    let session = Session::open(&args.common, 1, false, &counters, log, &CancellationToken::new())?;
    let promotion = Promotion {
        args: &args,
        session: &session,
        store: session.store(&location.store),
        replica: location.path.clone(),
        database: &database,
        prefix: String::new(),
        log,
        cancel,
    };
    let promoted = promotion.run()?;
    log.essential(Severity::Info, &format!("promoted {} at txid {}", escaped(&shown), promoted.txid), &[]);
    log.info(NEXT);
    Ok(if args.json { screen::pretty(&PromoteJson { db_path: &shown, promoted }) } else { String::new() })
}
