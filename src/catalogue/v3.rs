//! The files of one database that Litestream 0.3 has written, as a listing shows them (docs/FORMAT-V3.md, "Where the
//! files lie").

use crate::store::Etag;
use crate::timestamp::Timestamp;
use std::fmt;

/// The name of a generation: a random number. Its order says nothing about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// Parses the 16 lower-case hexadecimal digits that keys have.
    pub fn parse(text: &str) -> Option<Self> {
        hex(text, 16, 16).map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a file of a generation holds, and the form of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum V3Kind {
    /// `snapshots/<index>.snapshot.lz4`, or without `.lz4` if it is not `packed`: the database file.
    Snapshot {
        /// Whether the file is an LZ4 frame.
        packed: bool,
    },
    /// `wal/<index>_<offset>.wal.lz4`: a piece of the WAL.
    Segment {
        /// The place of the piece in the WAL, in bytes.
        offset: u64,
        /// The number of digits that the name has for it: 8 to 16.
        digits: u8,
    },
    /// `wal/<index>.wal.lz4`, or without `.lz4` if it is not `packed`: a whole WAL, from Litestream 0.3.0 to 0.3.4.
    Wal {
        /// Whether the file is an LZ4 frame.
        packed: bool,
    },
}

impl V3Kind {
    /// Whether the file is a snapshot.
    pub const fn is_snapshot(self) -> bool {
        matches!(self, Self::Snapshot { .. })
    }

    /// The place of the file's first byte in the WAL of its index. 0 for a snapshot.
    pub const fn offset(self) -> u64 {
        match self {
            Self::Segment { offset, .. } => offset,
            Self::Snapshot { .. } | Self::Wal { .. } => 0,
        }
    }

    /// Whether the file is an LZ4 frame.
    pub const fn is_packed(self) -> bool {
        match self {
            Self::Snapshot { packed } | Self::Wal { packed } => packed,
            Self::Segment { .. } => true,
        }
    }
}

/// The name of a file, as its key gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct V3Name {
    pub generation: Generation,
    pub index: u32,
    pub kind: V3Kind,
}

/// One file of a generation, as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3File {
    /// The generation that the file belongs to.
    pub generation: Generation,
    /// The number of the WAL: a snapshot holds the database file as it lay on disk when this WAL was current.
    pub index: u32,
    /// What the file holds.
    pub kind: V3Kind,
    /// The size of the file in bytes, from the listing.
    pub size: u64,
    /// The time of the upload: LastModified on S3, mtime on disk. It is the only time that there is.
    pub last_modified: Timestamp,
    /// The object's ETag. None on disk, and if the store lists no ETags.
    pub etag: Option<Etag>,
    /// Whether the object is in an archive storage class and cannot be read without restoring it first.
    pub archived: bool,
}

/// The files of one database that Litestream 0.3 has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V3Replica {
    /// Everything in the keys before `generations/`, unchanged.
    pub root: String,
    /// The files, sorted by generation; in each the snapshots by index, then the pieces of WAL by index and offset.
    /// No two have the same key.
    pub files: Vec<V3File>,
    /// The key of a file that a prerelease of Litestream 0.4 has written, if there is one.
    pub prerelease: Option<Box<str>>,
}

impl V3File {
    /// The position of the file's first byte: index and offset.
    pub const fn position(&self) -> (u32, u64) {
        (self.index, self.kind.offset())
    }

    /// The key by which the files of a replica are sorted.
    pub(super) fn order(&self) -> (Generation, bool, u32, u64, V3Kind) {
        (self.generation, !self.kind.is_snapshot(), self.index, self.kind.offset(), self.kind)
    }
}

impl V3Replica {
    /// The key of `file`, exactly as the listing had it.
    pub fn key(&self, file: &V3File) -> String {
        let V3File { generation, index, kind, .. } = file;
        let root = format!("{}generations/{generation}", self.root);
        let lz4 = if kind.is_packed() { ".lz4" } else { "" };
        match *kind {
            V3Kind::Snapshot { .. } => format!("{root}/snapshots/{index:08x}.snapshot{lz4}"),
            V3Kind::Segment { offset, digits } => {
                format!("{root}/wal/{index:08x}_{offset:0digits$x}.wal{lz4}", digits = usize::from(digits))
            }
            V3Kind::Wal { .. } => format!("{root}/wal/{index:08x}.wal{lz4}"),
        }
    }

    /// The files of each generation.
    pub fn generations(&self) -> impl Iterator<Item = &[V3File]> {
        self.files.chunk_by(|a, b| a.generation == b.generation)
    }

    /// The time of the newest file.
    pub fn newest(&self) -> Option<Timestamp> {
        self.files.iter().map(|file| file.last_modified).max()
    }

    pub(super) fn add(&mut self, name: V3Name, object: &crate::store::ObjectMeta) {
        self.files.push(V3File {
            generation: name.generation,
            index: name.index,
            kind: name.kind,
            size: object.size,
            last_modified: object.last_modified,
            etag: object.etag.clone(),
            archived: object.archived,
        });
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.files.append(&mut other.files);
        self.prerelease = self.prerelease.take().or(other.prerelease);
    }

    /// Sorts the files. If a key was listed twice, the newer object counts: it was replaced while the listing ran.
    pub(super) fn finish(&mut self, root: &str) {
        root.clone_into(&mut self.root);
        self.files.sort_unstable_by_key(|file| (file.order(), std::cmp::Reverse(file.last_modified)));
        self.files.dedup_by_key(|file| file.order());
        self.files.shrink_to_fit();
    }

    /// About how many bytes of memory this takes.
    pub(super) fn bytes(&self) -> u64 {
        (self.files.capacity() * size_of::<V3File>() + size_of::<Self>()) as u64
    }
}

/// Parses a number of `min` to `max` lower-case hexadecimal digits.
fn hex(text: &str, min: usize, max: usize) -> Option<u64> {
    let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digits && (min..=max).contains(&text.len()) { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Parses an index: 8 digits, at most 7fffffff.
fn index(text: &str) -> Option<u32> {
    hex(text, 8, 8).and_then(|index| u32::try_from(index).ok()).filter(|&index| index <= 0x7fff_ffff)
}

/// The kind of a file of the directory `snapshots`, and its index.
pub(super) fn snapshot_name(name: &str) -> Option<(u32, V3Kind)> {
    let packed = name.strip_suffix(".snapshot.lz4");
    let digits = packed.or_else(|| name.strip_suffix(".snapshot"))?;
    Some((index(digits)?, V3Kind::Snapshot { packed: packed.is_some() }))
}

/// The kind of a file of the directory `wal`, and its index.
pub(super) fn wal_name(name: &str) -> Option<(u32, V3Kind)> {
    let packed = name.strip_suffix(".wal.lz4");
    let digits = packed.or_else(|| name.strip_suffix(".wal"))?;
    match digits.split_once('_') {
        Some((at, offset)) => {
            let kind = V3Kind::Segment { offset: hex(offset, 8, 16)?, digits: offset.len() as u8 };
            packed.and_then(|_| Some((index(at)?, kind)))
        }
        None => Some((index(digits)?, V3Kind::Wal { packed: packed.is_some() })),
    }
}

/// Whether a file was written by a prerelease of Litestream 0.4. `dir` is what follows the generation in the key.
pub(super) fn is_prerelease(dir: &str, name: &str) -> bool {
    match dir.split_once('/') {
        None if dir == "snapshots" => name.strip_suffix(".snapshot.lz4").is_some_and(|at| hex(at, 16, 16).is_some()),
        Some(("wal", index)) if hex(index, 8, 16).is_some() => {
            name.strip_suffix(".wal.lz4").is_some_and(|offset| hex(offset, 8, 16).is_some())
        }
        _ => false,
    }
}
