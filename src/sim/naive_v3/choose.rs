//! Chooses the generation to restore from (docs/FORMAT-V3.md, "What is chosen").

use super::catalogue::GenerationFiles;
use super::error::{NaiveV3Error, fail};
use std::collections::BTreeMap;

/// The state that the naive restorer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NaiveTarget {
    /// The newest state.
    Latest,
    /// The state at this time, in nanoseconds since the Unix epoch. A file with exactly this time belongs to it.
    At(i64),
}

impl NaiveTarget {
    /// Whether a file with this time may be used.
    pub(super) fn allows(self, time_ns: i64) -> bool {
        self.time().is_none_or(|at| time_ns <= at)
    }

    pub(super) fn time(self) -> Option<i64> {
        match self {
            Self::Latest => None,
            Self::At(at) => Some(at),
        }
    }
}

/// Chooses the generation with the newest snapshot inside the target, or `wanted` if it is given. Generations without
/// a snapshot are an error only if one has a newer file inside the target than the chosen one.
pub(super) fn generation(
    generations: &BTreeMap<u64, GenerationFiles>,
    target: NaiveTarget,
    wanted: Option<u64>,
) -> Result<u64, NaiveV3Error> {
    if generations.is_empty() {
        return fail("backup not found", "no file of Litestream 0.3");
    }
    let considered = || generations.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == **name));
    if considered().next().is_none() {
        return fail("backup not found", format!("no generation {:016x}", wanted.unwrap_or(0)));
    }
    if considered().all(|(_, files)| files.snapshots.is_empty()) {
        let names: Vec<String> = considered().map(|(name, _)| format!("{name:016x}")).collect();
        return fail("no snapshot", format!("generation {}", names.join(", ")));
    }
    let newest_snapshot = |files: &GenerationFiles| {
        files.snapshots.iter().map(|file| file.entry.time_ns).filter(|&time| target.allows(time)).max()
    };
    let best = considered()
        .filter_map(|(&name, files)| Some((newest_snapshot(files)?, files.newest(None), name)))
        .max()
        .map(|(.., name)| name);
    let Some(best) = best else {
        return fail("timestamp does not exist", "all snapshots are newer");
    };
    let newest = |name: u64| generations.get(&name).and_then(|files| files.newest(target.time()));
    for (&name, files) in considered() {
        if files.snapshots.is_empty() && newest(name) > newest(best) {
            return fail("no snapshot", format!("generation {name:016x} is newer than {best:016x}"));
        }
    }
    Ok(best)
}
