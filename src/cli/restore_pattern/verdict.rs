//! Decides from the totals of a `restore-pattern` run whether the command succeeded or failed, and with which
//! exit code (docs/CLI.md, "Exit codes").

use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::human;
use crate::error::Class;
use crate::fleet::{RunSummary, Totals};

/// The result of a run without failures. It is a partial failure if of some databases only an older state could be had.
fn not_newest(args: &RestorePatternArgs, totals: &Totals) -> Result<(), Failure> {
    if totals.not_newest == 0 {
        return Ok(());
    }
    let (some, all) = (human::thousands(totals.not_newest), human::thousands(totals.done()));
    let what = if args.dry_run { "can be restored" } else { "were restored" };
    let message = format!("{some} of {all} databases {what} to an older state than the newest, which cannot be had");
    Err(Failure::Partial { message, try_call: None })
}

/// The result of a run that found all databases. It is a success if no database failed, a failure (exit code 1) if
/// none succeeded, and a partial failure (exit code 3) if some did.
pub(super) fn of_totals(args: &RestorePatternArgs, summary: &RunSummary) -> Result<(), Failure> {
    let totals = &summary.totals;
    let Totals { failed, .. } = *totals;
    if failed == 0 {
        return not_newest(args, totals);
    }
    let all = human::thousands(failed + totals.done());
    let what = if args.dry_run { "cannot be restored" } else { "were not restored" };
    let log = match summary.failures_file() {
        Some(file) if !args.dry_run => format!("; see {}", file.display()),
        _ => String::new(),
    };
    let classes = totals.classes();
    let message = format!("{} of {all} databases {what}: {classes}{log}", human::thousands(failed));
    let failure = match totals.done() {
        0 => Failure::failed(totals.most_frequent_class(), message),
        _ => Failure::Partial { message, try_call: None },
    };
    // The advice helps only if nothing else is wrong. A sidecar beside no database is skipped by nothing.
    let all_exist = totals.classes.keys().all(|class| *class == Class::OutputExists) && totals.sidecars == 0;
    let advice = (all_exist && !args.if_db_not_exists).then_some(Advice::Switch("if-db-not-exists"));
    Err(failure.advised(advice))
}
