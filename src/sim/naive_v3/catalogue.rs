//! Sorts the files of a replica by their names (docs/FORMAT-V3.md, "Where the files lie").

use super::error::{NaiveV3Error, fail};
use bytes::Bytes;
use std::collections::BTreeMap;

/// One stored object of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3Entry {
    /// The key below the path of the replica. It begins with `generations/`, unless the object is a foreign one.
    pub key: String,
    /// The bytes as they are stored.
    pub bytes: Bytes,
    /// The upload time (LastModified, or a file's mtime) in nanoseconds since the Unix epoch.
    pub time_ns: i64,
}

/// A snapshot or a piece of WAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredFile<'a> {
    pub entry: &'a V3Entry,
    pub index: u32,
    /// The offset in the WAL of the index. 0 for a snapshot.
    pub offset: u64,
    /// Whether the file is an LZ4 frame. Versions 0.3.0 to 0.3.4 also wrote files that are not.
    pub packed: bool,
}

/// The files of one generation.
#[derive(Debug, Default)]
pub(super) struct GenerationFiles<'a> {
    /// The best one first: the highest index, then the latest, then the packed one.
    pub snapshots: Vec<StoredFile<'a>>,
    /// In order of index and offset.
    pub segments: Vec<StoredFile<'a>>,
}

impl GenerationFiles<'_> {
    /// The latest time of a file, among those not after `at` if it is given.
    pub(super) fn newest(&self, at: Option<i64>) -> Option<i64> {
        let files = self.snapshots.iter().chain(&self.segments);
        files.map(|file| file.entry.time_ns).filter(|&time| at.is_none_or(|at| time <= at)).max()
    }
}

/// What the name of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Snapshot {
        index: u32,
        packed: bool,
    },
    Segment {
        index: u32,
        offset: u64,
    },
    /// The whole WAL of an index, as 0.3.0 to 0.3.4 wrote it.
    Whole {
        index: u32,
        packed: bool,
    },
    /// A file of a prerelease of 0.4.0.
    Prerelease,
}

/// The files of each generation. An error if a file is of a prerelease of 0.4.0.
pub(super) fn generations(entries: &[V3Entry]) -> Result<BTreeMap<u64, GenerationFiles<'_>>, NaiveV3Error> {
    let mut found: BTreeMap<u64, GenerationFiles> = BTreeMap::new();
    let mut wholes: BTreeMap<(u64, u32), StoredFile> = BTreeMap::new();
    for entry in entries {
        let Some((generation, name)) = parse(&entry.key) else { continue };
        let files = found.entry(generation).or_default();
        match name {
            Name::Snapshot { index, packed } => {
                files.snapshots.push(StoredFile { entry, index, offset: 0, packed });
            }
            Name::Segment { index, offset } => {
                files.segments.push(StoredFile { entry, index, offset, packed: true });
            }
            Name::Whole { index, packed } => {
                // The unpacked one is right where both exist.
                let whole = StoredFile { entry, index, offset: 0, packed };
                let known = wholes.entry((generation, index)).or_insert(whole);
                if !packed {
                    *known = whole;
                }
            }
            Name::Prerelease => {
                let text = format!("{} is of a prerelease of Litestream 0.4.0, which cannot be restored", entry.key);
                return fail("malformed", text);
            }
        }
    }
    for ((generation, index), whole) in wholes {
        let files = found.entry(generation).or_default();
        if !files.segments.iter().any(|segment| segment.index == index) {
            files.segments.push(whole);
        }
    }
    for files in found.values_mut() {
        files.snapshots.sort_by_key(|file| std::cmp::Reverse((file.index, file.entry.time_ns, file.packed)));
        files.segments.sort_by_key(|file| (file.index, file.offset));
    }
    Ok(found)
}

/// The generation and the meaning of a key. None for the key of a foreign object.
fn parse(key: &str) -> Option<(u64, Name)> {
    let parts: Vec<&str> = key.split('/').collect();
    let (&generation, below) = match parts.as_slice() {
        ["generations", generation, below @ ..] => (generation, below),
        _ => return None,
    };
    let generation = hex(generation, 16..=16)?;
    let index = |digits: &str| hex(digits, 8..=8).and_then(|index| u32::try_from(index).ok()).filter(|&i| i >> 31 == 0);
    let name = match *below {
        ["snapshots", file] => {
            let (digits, packed) = match file.strip_suffix(".snapshot.lz4") {
                Some(digits) => (digits, true),
                None => (file.strip_suffix(".snapshot")?, false),
            };
            if packed && hex(digits, 16..=16).is_some() {
                Name::Prerelease
            } else {
                Name::Snapshot { index: index(digits)?, packed }
            }
        }
        ["wal", file] => {
            let (digits, packed) = match file.strip_suffix(".wal.lz4") {
                Some(digits) => (digits, true),
                None => (file.strip_suffix(".wal")?, false),
            };
            match digits.split_once('_') {
                Some((digits, offset)) if packed => {
                    Name::Segment { index: index(digits)?, offset: hex(offset, 8..=16)? }
                }
                Some(_) => return None,
                None => Name::Whole { index: index(digits)?, packed },
            }
        }
        ["wal", folder, file] => {
            let numbers = [folder, file.strip_suffix(".wal.lz4")?];
            match numbers.iter().all(|digits| hex(digits, 8..=8).or(hex(digits, 16..=16)).is_some()) {
                true => Name::Prerelease,
                false => return None,
            }
        }
        _ => return None,
    };
    Some((generation, name))
}

/// A number of lower-case hexadecimal digits. None if there are fewer or more digits than `digits` allows.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let all = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (all && digits.contains(&text.len())).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
