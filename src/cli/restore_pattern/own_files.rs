//! The files of a `restore-pattern` run besides databases: the error log, the report, and the file of `-only`, by
//! which a later run does again what failed in this one.

use crate::cli::args::call::shell_word;
use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::failures::absolute;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, Severity};
use crate::commit::CommitContext;
use crate::error::{Class, escaped};
use crate::fleet::{Links, Only, RunSummary};
use crate::timestamp::Timestamp;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Opens the error log (except for a dry run) and the report (`-report`), to which each database is written when it
/// ends. Before that it removes what killed runs left beside them.
///
/// # Errors
/// The report cannot be written, or both are one file. An error log that cannot be written is no error.
pub(super) fn open(args: &RestorePatternArgs, commit: &CommitContext, log: &Log) -> Result<RunSummary, Failure> {
    let links = if args.error_log_is_default { Links::Replaced } else { Links::Followed };
    let error_log = (!args.dry_run).then_some((args.error_log.as_path(), links));
    if let (Some((error_log, _)), Some(report)) = (error_log, args.report.as_deref())
        && is_same_file(error_log, report)?
    {
        let message = format!("the report and the error log cannot be one file: {}", report.display());
        return Err(Failure::usage(message));
    }
    if !args.dry_run {
        for own in [Some(args.error_log.as_path()), args.report.as_deref()].into_iter().flatten() {
            commit.sweep_beside(own).iter().for_each(|notice| log.warn(&notice.to_string()));
        }
    }
    let reference = args.timestamp.unwrap_or_else(Timestamp::now);
    let mut summary = RunSummary::open(error_log, args.report.as_deref(), reference).map_err(|e| {
        let report = args.report.as_deref().unwrap_or(Path::new("")).display();
        Failure::failed(Class::Io, format!("cannot write the report {report}: {e}"))
    })?;
    if let Some(trouble) = summary.take_trouble() {
        log.essential(Severity::Warn, &trouble, &[]);
    }
    Ok(summary)
}

/// Whether two paths are one, or lead to one regular file.
fn is_same_file(a: &Path, b: &Path) -> Result<bool, Failure> {
    let file = |path: &Path| path.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
    Ok(absolute(a)? == absolute(b)? || file(a).is_some() && file(a) == file(b))
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

/// The command line that does again exactly what failed. None if nothing failed, or if no file names what failed.
pub(super) fn again(args: &RestorePatternArgs, summary: &RunSummary) -> Option<String> {
    let file = summary.failures_file().filter(|_| !args.dry_run && summary.totals.failed > 0)?;
    Some(args.typed.with(&format!("--only {}", shell_word(&file.to_string_lossy()))))
}

/// The command line that goes on after an interruption. With `-force` it is the same one: what was already restored
/// cannot be told from what is to be replaced.
pub(super) fn resume(args: &RestorePatternArgs) -> String {
    let only = args.only.as_deref().map(|file| format!("--only {}", shell_word(&file.to_string_lossy())));
    let skip = (!args.force && !args.dry_run && !args.if_db_not_exists).then(|| "--if-db-not-exists".to_owned());
    let more: Vec<String> = only.into_iter().chain(skip).collect();
    args.typed.with(&more.join(" "))
}
