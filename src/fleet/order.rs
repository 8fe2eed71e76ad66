//! What is restored before what: as the operator says, then the longest first, so that no giant
//! is left for the end (DESIGN engine 6).

use super::discover::{Found, Output, Source};
use super::pattern::{Pattern, PatternError};
use crate::catalogue::Replica;
use crate::config::Env;
use crate::ltx::Level;

/// Bytes that restoring the newest state will fetch, about: the newest snapshot, and of what
/// follows it the level that holds most.
pub fn estimated_bytes(replica: &Replica) -> u64 {
    let Some(snapshot) = replica.files.iter().filter(|file| file.is_snapshot()).max_by_key(|file| file.max_txid) else {
        return 0;
    };
    let following = |level: Level| -> u64 {
        let files = replica.files.get(replica.level(level)).unwrap_or_default();
        files.iter().filter(|file| file.min_txid > snapshot.max_txid).map(|file| file.size).sum()
    };
    snapshot.size + (0..=9).filter_map(Level::new).map(following).max().unwrap_or(0)
}

/// The globs of `--first`, over the databases' names or their paths below the output directory.
#[derive(Debug)]
pub struct First(Vec<[Pattern; 2]>);

impl First {
    /// # Errors
    /// A glob that is none.
    pub fn new(globs: &[String], source: &Source, env: &Env<'_>) -> Result<Self, PatternError> {
        let pattern = |glob: &String| {
            let relative = Pattern::for_keys(glob)?;
            let name = match source {
                Source::Url(_) => relative.clone(),
                Source::Config(_) => Pattern::for_paths(glob, env)?,
            };
            Ok([name, relative])
        };
        globs.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// How many globs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which glob's turn the database has; those of none come last.
    pub fn turn_of(&self, found: &Found) -> usize {
        let relative = match &found.output {
            Output::Configured(_) => None,
            Output::InDir { relative, .. } | Output::Relative(relative) => Some(relative.as_str()),
        };
        let matches = |[by_name, by_relative]: &[Pattern; 2]| {
            by_name.matches(&found.name) || relative.is_some_and(|relative| by_relative.matches(relative))
        };
        self.0.iter().position(matches).unwrap_or(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Layout, LtxFile};
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
        let replica = Replica { root: "a/".into(), files, v3: None };
        assert_eq!(estimated_bytes(&replica), 530);
        assert_eq!(estimated_bytes(&Replica { root: "a/".into(), files: vec![], v3: None }), 0);
    }
}
