//! Decides the order of databases: those that `--first` names come first, then the largest. A large database
//! that starts late would still be running when all others have ended. `queue` uses this order.

use crate::catalogue::{Replica, V3File, V3Replica};
use crate::config::Env;
use crate::fleet::discovery::discover::FleetSource;
use crate::fleet::discovery::found::Found;
use crate::fleet::discovery::pattern::{Pattern, PatternError};
use crate::ltx::Level;

/// Estimates the bytes that a restore to the newest state fetches: the newest snapshot, and the files after it
/// of the level that has most bytes there.
pub fn estimated_bytes(replica: &Replica) -> u64 {
    let Some(snapshot) = replica.files.iter().filter(|file| file.is_snapshot()).max_by_key(|file| file.max_txid) else {
        return replica.v3.as_ref().map_or(0, |v3| estimated_v3_bytes(v3));
    };
    let following = |level: Level| -> u64 {
        let files = replica.files.get(replica.level(level)).unwrap_or_default();
        files.iter().filter(|file| file.min_txid > snapshot.max_txid).map(|file| file.size).sum()
    };
    snapshot.size + (0..=9).filter_map(Level::new).map(following).max().unwrap_or(0)
}

/// The same for files of Litestream 0.3: the snapshot of the highest index in the generation with the newest snapshot,
/// and the WAL from its index on.
fn estimated_v3_bytes(v3: &V3Replica) -> u64 {
    let is_snapshot = |file: &&V3File| file.kind.is_snapshot();
    let newest = |files: &[V3File]| files.iter().filter(is_snapshot).map(|file| file.last_modified).max();
    let with_snapshot = v3.generations().filter(|files| newest(files).is_some());
    let Some(files) = with_snapshot.max_by_key(|files| newest(files)) else { return 0 };
    let Some(base) = files.iter().filter(is_snapshot).max_by_key(|file| file.index) else { return 0 };
    let wal = files.iter().filter(|file| !file.kind.is_snapshot() && file.index >= base.index);
    base.size + wal.map(|file| file.size).sum::<u64>()
}

/// The globs of `--first`. Each is compiled twice: to match the database's name, and to match its path below
/// the output directory.
#[derive(Debug)]
pub struct First(pub(super) Vec<[Pattern; 2]>);

impl First {
    /// # Errors
    /// [`PatternError`] if a glob has a syntax error.
    pub fn new(globs: &[String], source: &FleetSource, env: &Env<'_>) -> Result<Self, PatternError> {
        let pattern = |glob: &String| {
            let relative = Pattern::for_keys(glob)?;
            let name = match source {
                FleetSource::Url(_) => relative.clone(),
                FleetSource::Config(_) => Pattern::for_paths(glob, env)?,
            };
            Ok([name, relative])
        };
        globs.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// Number of globs that were given with `--first`.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether `--first` was not given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the index of the first glob that the database matches, or [`Self::len`] if it matches none.
    /// Databases with lower numbers are restored earlier.
    pub fn turn_of(&self, found: &Found) -> usize {
        (0..self.0.len()).find(|glob| self.matches(*glob, found)).unwrap_or(self.0.len())
    }

    /// Whether the database matches the glob with this index.
    pub fn matches(&self, glob: usize, found: &Found) -> bool {
        self.0.get(glob).is_some_and(|[by_name, by_relative]| {
            by_name.matches(found.database.name())
                || found.output.relative().is_some_and(|relative| by_relative.matches(relative))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue::{Layout, LtxFile};
    use crate::fleet::priority::*;
    use crate::ltx::Txid;
    use crate::timestamp::Timestamp;

    #[test]
    fn the_newest_snapshot_and_what_follows_it() {
        let file = |level, min, max, size| LtxFile {
            min_txid: Txid(min),
            max_txid: Txid(max),
            size,
            last_modified: Timestamp::from_millis(0),
            etag: None,
            level: Level::new(level).unwrap(),
            layout: Layout::Hex,
            archived: false,
        };
        let files = vec![
            file(0, 6, 6, 10),
            file(0, 7, 7, 10),
            file(0, 8, 8, 10),
            file(1, 4, 5, 1000),
            file(1, 6, 7, 25),
            file(9, 1, 3, 5000),
            file(9, 1, 5, 500),
        ];
        let replica = Replica { root: "a/".into(), files, v3: None, others: Vec::new() };
        assert_eq!(estimated_bytes(&replica), 530);
        assert_eq!(estimated_bytes(&Replica { root: "a/".into(), files: vec![], v3: None, others: Vec::new() }), 0);
    }
}
