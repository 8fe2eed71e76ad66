//! Decides from the totals of a `restore-pattern` run whether the command succeeded or failed, and with which
//! exit code (docs/CLI.md, "Exit codes").

use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::failures::from_discovery;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::error::Class;
use crate::fleet::{DiscoverError, Totals};

/// The result of a run that found all databases. It is a success if no database failed, a failure (exit code 1) if
/// none succeeded, and a partial failure (exit code 3) if some did.
pub(super) fn of_totals(args: &RestorePatternArgs, totals: &Totals) -> Result<(), Failure> {
    let Totals { failed, .. } = *totals;
    if failed == 0 {
        return Ok(());
    }
    let all = human::thousands(failed + totals.done());
    let what = if args.dry_run { "cannot be restored" } else { "were not restored" };
    let log = match args.dry_run {
        true => String::new(),
        false => format!("; see {}", args.error_log.display()),
    };
    let classes = totals.classes();
    let message = format!("{} of {all} databases {what}: {classes}{log}", human::thousands(failed));
    let failure = match totals.done() {
        0 => Failure::failed(Class::Io, message),
        _ => Failure::Partial { message, try_call: None },
    };
    match totals.classes.get(&Class::OutputExists) {
        Some(1..) if !args.if_db_not_exists => Err(failure.try_call(
            "hydrant restore-pattern --if-db-not-exists …, which skips outputs that exist; --force replaces them",
        )),
        _ => Err(failure),
    }
}

/// The result of a run whose listing failed with `error`. It is a partial failure (exit code 3) if databases that
/// had been listed before were restored, otherwise a failure. `reason` is the text of `error` after the name of its
/// class.
pub(super) fn of_listing(error: &DiscoverError, reason: &str, totals: &Totals) -> Failure {
    match totals.done() {
        0 => from_discovery(error),
        _ => Failure::Partial {
            message: format!("not all databases are known, only those listed before this were restored: {reason}"),
            try_call: Some("hydrant restore-pattern --if-db-not-exists …, which restores what is missing".to_owned()),
        },
    }
}
