//! The files of a `restore-pattern` run besides databases: the error log, the reports, the metrics, the catalogue, and the
//! file of `-only`, by which a later run does again what failed in this one.

use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::args::shell::shell_word;
use crate::cli::reported::all_different;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::commit::CommitContext;
use crate::error::{Class, escaped};
use crate::fleet::{Links, Only, RunSummary};
use std::path::{Path, PathBuf};

/// The files that a run writes or reads besides databases: what messages call each, and its path.
pub(super) fn all(args: &RestorePatternArgs) -> Vec<(&'static str, &Path)> {
    let error_log = ("error log", args.error_log.as_path());
    let reports = args.reports.iter().map(|report| ("report", report.as_path()));
    let more = [("metrics file", args.metrics_textfile.as_deref()), ("catalogue", args.catalogue.path())];
    let more = more.into_iter().filter_map(|(what, path)| Some((what, path?)));
    std::iter::once(error_log).chain(reports).chain(more).collect()
}

/// Checks that no two of the run's own files are one. A dry run writes no error log.
///
/// # Errors
/// Two are one.
pub(super) fn check(args: &RestorePatternArgs) -> Result<(), Failure> {
    let mut own = all(args);
    own.retain(|(_, path)| !args.dry_run || *path != args.error_log);
    all_different(&own)
}

/// Opens the error log (except for a dry run) and the reports (`-report`), to which each database is written when it
/// ends. Before that it removes what killed runs left beside the run's own files.
///
/// # Errors
/// A report cannot be written. An error log that cannot be written is no error.
pub(super) fn open(args: &RestorePatternArgs, commit: &CommitContext, log: &Log) -> Result<RunSummary, Failure> {
    let links = if args.error_log_is_default { Links::Replaced } else { Links::Followed };
    let error_log = (!args.dry_run).then_some((args.error_log.as_path(), links));
    if !args.dry_run {
        for (_, own) in all(args) {
            commit.sweep_beside(own).iter().for_each(|notice| log.warn(&notice.to_string()));
        }
    }
    let reference = args.common.store.past.reference(args.timestamp);
    let mut summary =
        RunSummary::open(error_log, &args.reports, reference).map_err(|e| Failure::failed(Class::Io, e.to_string()))?;
    if let Some(trouble) = summary.take_trouble() {
        log.essential(Severity::Warn, &trouble, &[]);
    }
    Ok(summary)
}

/// Reads the file of `-only`.
///
/// # Errors
/// It cannot be read, or names no database.
pub(super) fn read_only(path: &Path, directories: &[PathBuf]) -> Result<Only, Failure> {
    Only::read(path, directories).map_err(|e| Failure::failed(Class::Config, format!("--only: {e}")))
}

/// The failure of a run in which no database has a name that the file of `-only` holds.
pub(super) fn nothing_named(args: &RestorePatternArgs) -> Failure {
    let file = args.only.as_deref().unwrap_or(Path::new("")).display().to_string();
    let pattern = escaped(&args.source_shown);
    Failure::failed(Class::BackupNotFound, format!("no database that {file} names matches {pattern}"))
}

/// The command line as typed, without secrets.
pub(super) fn typed(args: &RestorePatternArgs) -> String {
    let only = args.only.as_deref().map(|file| format!("--only {}", shell_word(&file.to_string_lossy())));
    args.typed.with(&only.unwrap_or_default())
}

/// The command line that does again exactly what failed. None if nothing failed, if no file names what failed, or if the
/// fleet is followed, which tries again by itself.
pub(super) fn again(args: &RestorePatternArgs, summary: &RunSummary) -> Option<String> {
    let is_useful = !args.dry_run && args.follow.is_none() && summary.totals.failed > 0;
    let file = summary.failures_file().filter(|_| is_useful)?;
    let only = format!("--only {}", shell_word(&file.to_string_lossy()));
    Some(
        args.typed
            .with(&[Some(only), catalogue_flag(args, summary)].into_iter().flatten().collect::<Vec<_>>().join(" ")),
    )
}

/// The flag by which a further run works on the same states. If this run has saved a catalogue, it is `-catalogue`.
fn catalogue_flag(args: &RestorePatternArgs, summary: &RunSummary) -> Option<String> {
    let path = shell_word(&args.catalogue.path()?.to_string_lossy());
    let is_there = args.catalogue.written().is_none() || summary.recovery_point.is_some();
    Some(if is_there { format!("--catalogue {path}") } else { format!("--save-catalogue {path}") })
}

/// The command line that goes on after an interruption. With `-force` it is the same one: what was already restored
/// cannot be told from what is to be replaced.
pub(super) fn resume(args: &RestorePatternArgs, summary: &RunSummary) -> String {
    let only = args.only.as_deref().map(|file| format!("--only {}", shell_word(&file.to_string_lossy())));
    let skip = (!args.force && !args.dry_run && !args.if_db_not_exists).then(|| "--if-db-not-exists".to_owned());
    let more: Vec<String> = only.into_iter().chain(catalogue_flag(args, summary)).chain(skip).collect();
    args.typed.with(&more.join(" "))
}
