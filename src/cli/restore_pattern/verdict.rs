//! Totals of a run → success, or a failure with its exit code (docs/CLI.md, "Exit codes").

use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::error::Class;
use crate::fleet::Totals;

/// How a run ends that found all databases: it failed if a database did, partially if another did not.
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
