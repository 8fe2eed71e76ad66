//! The metrics of a `restore-pattern` run.

use crate::cli::args::resolved::RestorePatternArgs;
use crate::cli::metrics::depth;
use crate::fleet::{RunSummary, Shard};
use crate::metrics::RunMetrics;
use crate::timestamp::Timestamp;

/// The metrics of a run that has ended. `summary` is None if it ended before the first database was looked for.
/// `is_failure` says whether the command fails.
pub(super) fn figures(
    args: &RestorePatternArgs,
    summary: Option<&RunSummary>,
    is_failure: bool,
    common: RunMetrics,
) -> RunMetrics {
    let totals = summary.map(|summary| summary.totals.clone()).unwrap_or_default();
    let (done, count) = if args.dry_run { ("planned", totals.planned) } else { ("restored", totals.restored) };
    // A run that skips everything shows nothing about the backups. A share without databases has nothing to show.
    let only_skipped = count == 0 && totals.skipped > 0;
    RunMetrics {
        command: "restore-pattern",
        depth: depth(args.dry_run),
        source: args.source_shown.clone(),
        shard: args.shard.map(|Shard { index, of }| format!("{index}/{of}")),
        succeeded: (!is_failure && !only_skipped).then(Timestamp::now),
        databases: vec![
            (done, count),
            ("skipped", totals.skipped),
            ("failed", totals.failed),
            ("interrupted", totals.left),
            ("not_started", totals.not_started),
        ],
        ages: summary.map(|summary| summary.ages.histogram.clone()).unwrap_or_default(),
        database_bytes: totals.bytes,
        ..common
    }
}
