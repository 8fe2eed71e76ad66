//! What a listing could not show: which databases that concerns.

use crate::catalogue::root_of;
use crate::store::Unlisted;

/// The directory that mkfs makes. Nobody but root may read it, and no database lies in it.
const LOST_AND_FOUND: &str = "lost+found";

/// What a part of a store that could not be listed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// A part of the replica under this root.
    OfReplica(&'a str),
    /// A directory that may be a replica or hold some: its path, without the slash at its end.
    Directory(&'a str),
    /// No database is concerned.
    Nothing,
}

/// What `unlisted` is, by its name.
pub(crate) fn part(unlisted: &Unlisted) -> Part<'_> {
    let key = unlisted.key.as_str();
    let dir = key.strip_suffix('/');
    if (dir.is_some() || key.ends_with(".ltx") || key.ends_with(".lz4"))
        && let Some(root) = root_of(key)
    {
        return Part::OfReplica(root);
    }
    match dir {
        Some(dir) if !dir.split('/').any(|name| name == LOST_AND_FOUND) => Part::Directory(dir),
        _ => Part::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    #[test]
    fn parts_are_told_by_their_names() {
        let unlisted = |key: &str| Unlisted { key: key.into(), kind: StoreErrorKind::Io, detail: String::new() };
        let name = "0000000000000001-0000000000000001.ltx";
        for (key, expected) in [
            ("/r/b.db/0009/", Part::OfReplica("/r/b.db/")),
            ("/r/b.db/ltx/", Part::OfReplica("/r/b.db/")),
            (&format!("p/caf\u{fffd}.db/0000/{name}"), Part::OfReplica("p/caf\u{fffd}.db/")),
            ("/r/b.db/", Part::Directory("/r/b.db")),
            ("/r/lost+found/", Part::Nothing),
            ("/r/lost+found/#11/", Part::Nothing),
            ("p/caf\u{fffd}.txt", Part::Nothing),
            ("p/caf\u{fffd}/ltx", Part::Nothing),
        ] {
            assert_eq!(part(&unlisted(key)), expected, "{key}");
        }
    }
}
