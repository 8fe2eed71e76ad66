//! The records of a saved catalogue: databases with their files, and what could not be listed.
//!
//! ```text
//! record   tag (1 byte): 0 end, 1 database, 2 name of a database, 3 unlisted, 4 failed
//! database store, root, lineage, number of other lineages, each with its root
//! lineage  number of LTX files, files, whether there are files of Litestream 0.3, and these
//! end      number of records, number of files
//! ```
//! A root is the number of bytes that it has in common with the root before it, and the rest. TXIDs and times of files
//! are differences to the file before. Both make the content shorter before it is compressed.

use super::blocks::{BlockReader, BlockWriter};
use super::error::SavedError;
use super::head::CatalogueHead;
use crate::catalogue::{Generation, Layout, LtxFile, Replica, V3File, V3Kind, V3Replica};
use crate::ltx::{Level, Txid};
use crate::store::{Etag, StoreError, StoreErrorKind, Unlisted};
use crate::timestamp::Timestamp;
use std::io::{Read, Write};

const END: u8 = 0;
const DATABASE: u8 = 1;
const NAME: u8 = 2;
const UNLISTED: u8 = 3;
const FAILED: u8 = 4;

/// The bits of a file's first byte that do not depend on its format.
const ARCHIVED: u8 = 0x80;
const ETAG_SHIFT: u8 = 5;
const ETAG_MASK: u8 = 3;
/// Behind the level of an LTX file, which takes 4 bits.
const DECIMAL: u8 = 0x10;
/// Behind the kind of a file of Litestream 0.3, which takes 3 bits.
const NEXT_GENERATION: u8 = 0x08;

/// All kinds of errors.
const KINDS: [StoreErrorKind; 20] = [
    StoreErrorKind::NotFound,
    StoreErrorKind::NoSuchBucket,
    StoreErrorKind::PreconditionFailed,
    StoreErrorKind::SizeDiffers,
    StoreErrorKind::AccessDenied,
    StoreErrorKind::Credentials,
    StoreErrorKind::Timeout,
    StoreErrorKind::Throttled,
    StoreErrorKind::Network,
    StoreErrorKind::Server,
    StoreErrorKind::NotImplemented,
    StoreErrorKind::TooLarge,
    StoreErrorKind::InvalidResponse,
    StoreErrorKind::RangesIgnored,
    StoreErrorKind::Archived,
    StoreErrorKind::Unsupported,
    StoreErrorKind::Unreadable,
    StoreErrorKind::Io,
    StoreErrorKind::Stalled,
    StoreErrorKind::IncompleteHistory,
];

/// The number that stands for a kind of error. A number is never used for another kind.
const fn number_of(kind: StoreErrorKind) -> u8 {
    match kind {
        StoreErrorKind::NotFound => 0,
        StoreErrorKind::NoSuchBucket => 1,
        StoreErrorKind::PreconditionFailed => 2,
        StoreErrorKind::SizeDiffers => 3,
        StoreErrorKind::AccessDenied => 4,
        StoreErrorKind::Credentials => 5,
        StoreErrorKind::Timeout => 6,
        StoreErrorKind::Throttled => 7,
        StoreErrorKind::Network => 8,
        StoreErrorKind::Server => 9,
        StoreErrorKind::NotImplemented => 10,
        StoreErrorKind::TooLarge => 11,
        StoreErrorKind::InvalidResponse => 12,
        StoreErrorKind::RangesIgnored => 13,
        StoreErrorKind::Archived => 14,
        StoreErrorKind::Unsupported => 15,
        StoreErrorKind::Unreadable => 16,
        StoreErrorKind::Io => 17,
        StoreErrorKind::Stalled => 18,
        StoreErrorKind::IncompleteHistory => 19,
    }
}

/// One record. `store` is an index into the stores of the head.
#[derive(Debug, Clone)]
pub enum SavedRecord {
    /// A database with its files.
    Database {
        /// The store that holds the files.
        store: usize,
        /// The files.
        replica: Replica,
    },
    /// A database of which only the root is known, because no entry of the configuration is for it.
    Name {
        /// The store that holds the database.
        store: usize,
        /// The root, as [`Replica::root`].
        root: String,
    },
    /// A part of a store that could not be listed.
    Unlisted {
        /// The store.
        store: usize,
        /// What could not be listed.
        unlisted: Unlisted,
    },
    /// An entry of the configuration whose listing failed.
    Failed {
        /// The path of the entry.
        name: String,
        /// Why.
        error: StoreError,
    },
}

/// Writes a catalogue, record by record.
pub struct CatalogueWriter<W> {
    out: BlockWriter<W>,
    root: String,
    records: u64,
    files: u64,
}

impl<W: Write> CatalogueWriter<W> {
    /// Begins a catalogue.
    ///
    /// # Errors
    /// Those of the stream, here and in the other methods.
    pub fn new(out: W, head: &CatalogueHead) -> Result<Self, SavedError> {
        let mut out = BlockWriter::new(out)?;
        head.write(&mut out)?;
        Ok(Self { out, root: String::new(), records: 0, files: 0 })
    }

    /// Adds a database with its files.
    pub fn database(&mut self, store: usize, replica: &Replica) -> Result<(), SavedError> {
        self.begin(DATABASE)?;
        self.out.number(store as u64)?;
        self.root(&replica.root)?;
        self.lineage(replica)?;
        self.out.number(replica.others.len() as u64)?;
        for other in &replica.others {
            debug_assert!(other.others.is_empty(), "lineages that were not chosen have no others");
            self.root(&other.root)?;
            self.lineage(other)?;
        }
        Ok(())
    }

    /// Adds the root of a database without its files.
    pub fn name(&mut self, store: usize, root: &str) -> Result<(), SavedError> {
        self.begin(NAME)?;
        self.out.number(store as u64)?;
        self.root(root)
    }

    /// Adds a part of a store that could not be listed.
    pub fn unlisted(&mut self, store: usize, unlisted: &Unlisted) -> Result<(), SavedError> {
        self.begin(UNLISTED)?;
        self.out.number(store as u64)?;
        self.out.text(&unlisted.key)?;
        self.kind(unlisted.kind)?;
        self.out.text(&unlisted.detail)
    }

    /// Adds an entry of the configuration whose listing failed.
    pub fn failed(&mut self, name: &str, error: &StoreError) -> Result<(), SavedError> {
        self.begin(FAILED)?;
        self.out.text(name)?;
        self.kind(error.kind)?;
        self.out.text(&error.what)?;
        self.out.text(&error.detail)?;
        for text in [&error.request_id, &error.hint] {
            self.out.byte(u8::from(text.is_some()))?;
            text.as_ref().map_or(Ok(()), |text| self.out.text(text))?;
        }
        self.out.number(u64::from(error.attempts))
    }

    /// The number of files so far.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The bytes so far, before compression.
    pub fn raw_bytes(&self) -> u64 {
        self.out.raw_bytes()
    }

    /// Writes the end and returns the stream.
    pub fn finish(mut self) -> Result<W, SavedError> {
        self.out.byte(END)?;
        self.out.number(self.records)?;
        self.out.number(self.files)?;
        self.out.finish()
    }

    fn begin(&mut self, tag: u8) -> Result<(), SavedError> {
        self.records += 1;
        self.out.byte(tag)
    }

    fn root(&mut self, root: &str) -> Result<(), SavedError> {
        let same = self.root.bytes().zip(root.bytes()).take_while(|(a, b)| a == b).count();
        let same = root.floor_char_boundary(same);
        self.out.number(same as u64)?;
        self.out.text(root.get(same..).unwrap_or_default())?;
        root.clone_into(&mut self.root);
        Ok(())
    }

    fn lineage(&mut self, replica: &Replica) -> Result<(), SavedError> {
        self.out.number(replica.files.len() as u64)?;
        self.files += replica.files.len() as u64;
        let mut before = Before::default();
        for file in &replica.files {
            self.ltx_file(file, &mut before)?;
        }
        self.out.byte(u8::from(replica.v3.is_some()))?;
        replica.v3.as_ref().map_or(Ok(()), |v3| self.v3(v3))
    }

    fn ltx_file(&mut self, file: &LtxFile, before: &mut Before) -> Result<(), SavedError> {
        let decimal = if file.layout == Layout::Decimal { DECIMAL } else { 0 };
        self.out.byte(file.level.get() | decimal | common_bits(file.etag.as_ref(), file.archived))?;
        self.out.signed(file.max_txid.0.wrapping_sub(before.txid).cast_signed())?;
        self.out.number(file.max_txid.0.wrapping_sub(file.min_txid.0))?;
        before.txid = file.max_txid.0;
        self.object(file.size, file.last_modified, file.etag.as_ref(), before)
    }

    fn v3(&mut self, v3: &V3Replica) -> Result<(), SavedError> {
        self.root(&v3.root)?;
        self.out.byte(u8::from(v3.prerelease.is_some()))?;
        v3.prerelease.as_ref().map_or(Ok(()), |key| self.out.text(key))?;
        self.out.number(v3.files.len() as u64)?;
        self.files += v3.files.len() as u64;
        let mut before = Before::default();
        for file in &v3.files {
            let (kind, segment) = match file.kind {
                V3Kind::Snapshot { packed } => (u8::from(packed), None),
                V3Kind::Wal { packed } => (2 + u8::from(packed), None),
                V3Kind::Segment { offset, digits } => (4, Some((offset, digits))),
            };
            let next = if before.generation == Some(file.generation) { 0 } else { NEXT_GENERATION };
            self.out.byte(kind | next | common_bits(file.etag.as_ref(), file.archived))?;
            if next != 0 {
                self.out.bytes(&file.generation.0.to_le_bytes())?;
                before = Before { generation: Some(file.generation), ..Before::default() };
            }
            self.out.number(u64::from(file.index))?;
            if let Some((offset, digits)) = segment {
                self.out.number(offset)?;
                self.out.byte(digits)?;
            }
            self.object(file.size, file.last_modified, file.etag.as_ref(), &mut before)?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        size: u64,
        last_modified: Timestamp,
        etag: Option<&Etag>,
        before: &mut Before,
    ) -> Result<(), SavedError> {
        self.out.number(size)?;
        self.out.signed(last_modified.as_nanos().wrapping_sub(before.nanos))?;
        before.nanos = last_modified.as_nanos();
        match etag {
            None => Ok(()),
            Some(Etag::Md5 { hash, parts: 0 }) => self.out.bytes(hash),
            Some(Etag::Md5 { hash, parts }) => {
                self.out.bytes(hash)?;
                self.out.number(u64::from(*parts))
            }
            Some(Etag::Other(text)) => self.out.text(text),
        }
    }

    fn kind(&mut self, kind: StoreErrorKind) -> Result<(), SavedError> {
        self.out.byte(number_of(kind))
    }
}

/// The file before, to which the next one is written as a difference.
#[derive(Debug, Default)]
struct Before {
    txid: u64,
    nanos: i64,
    generation: Option<Generation>,
}

fn common_bits(etag: Option<&Etag>, archived: bool) -> u8 {
    let kind = match etag {
        None => 0,
        Some(Etag::Md5 { parts: 0, .. }) => 1,
        Some(Etag::Md5 { .. }) => 2,
        Some(Etag::Other(_)) => 3,
    };
    kind << ETAG_SHIFT | if archived { ARCHIVED } else { 0 }
}

/// Reads a catalogue, record by record. What is read so far counts only if all records can be read: the caller discards
/// it after an error.
pub struct CatalogueReader<R> {
    input: BlockReader<R>,
    head: CatalogueHead,
    root: String,
    records: u64,
    files: u64,
    is_over: bool,
}

impl<R: Read> CatalogueReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`SavedError`], here and in [`Self::next_record`].
    pub fn new(input: R) -> Result<Self, SavedError> {
        let mut input = BlockReader::new(input)?;
        let head = CatalogueHead::read(&mut input)?;
        Ok(Self { input, head, root: String::new(), records: 0, files: 0, is_over: false })
    }

    /// What the catalogue says about itself.
    pub fn head(&self) -> &CatalogueHead {
        &self.head
    }

    /// Reads the next record. None: that was all, and the file ends there.
    pub fn next_record(&mut self) -> Result<Option<SavedRecord>, SavedError> {
        if self.is_over {
            return Ok(None);
        }
        let tag = self.input.byte()?;
        if tag == END {
            if (self.input.number()?, self.input.number()?) != (self.records, self.files) {
                return Err(self.input.damaged("records are missing"));
            }
            self.input.finish()?;
            self.is_over = true;
            return Ok(None);
        }
        self.records += 1;
        let record = match tag {
            DATABASE => SavedRecord::Database { store: self.store()?, replica: self.replica()? },
            NAME => SavedRecord::Name { store: self.store()?, root: self.root()? },
            UNLISTED => {
                let store = self.store()?;
                let (key, kind, detail) = (self.input.text()?, self.kind()?, self.input.text()?);
                SavedRecord::Unlisted { store, unlisted: Unlisted { key, kind, detail } }
            }
            FAILED => SavedRecord::Failed { name: self.input.text()?, error: self.error()? },
            _ => return Err(self.input.damaged("an unknown record")),
        };
        Ok(Some(record))
    }

    fn store(&mut self) -> Result<usize, SavedError> {
        let index = usize::try_from(self.input.number()?).ok().filter(|index| self.head.source.has_store(*index));
        index.ok_or_else(|| self.input.damaged("a store that the head does not name"))
    }

    fn root(&mut self) -> Result<String, SavedError> {
        let same = usize::try_from(self.input.number()?).ok().and_then(|same| self.root.get(..same)).map(str::to_owned);
        let root = same.ok_or_else(|| self.input.damaged("a root that is cut off"))? + &self.input.text()?;
        root.clone_into(&mut self.root);
        Ok(root)
    }

    fn replica(&mut self) -> Result<Replica, SavedError> {
        let mut replica = self.lineage()?;
        // Ends: each turn reads a byte of the file at least. The same holds for the files of a lineage.
        for _ in 0..self.input.number()? {
            let other = self.lineage()?;
            replica.others.push(other);
        }
        replica.others.shrink_to_fit();
        Ok(replica)
    }

    fn lineage(&mut self) -> Result<Replica, SavedError> {
        let mut root = self.root()?;
        root.shrink_to_fit();
        let (mut files, mut before) = (Vec::new(), Before::default());
        for _ in 0..self.input.number()? {
            files.push(self.ltx_file(&mut before)?);
        }
        self.files += files.len() as u64;
        let order = |file: &LtxFile| (file.level, file.max_txid, file.min_txid);
        let is_one_lineage = files.iter().all(|file| Some(file.layout) == files.first().map(|first| first.layout));
        if !is_one_lineage || !files.is_sorted_by(|a, b| order(a) < order(b)) {
            return Err(self.input.damaged("files out of order"));
        }
        files.shrink_to_fit();
        let v3 = if self.flag()? { Some(Box::new(self.v3()?)) } else { None };
        Ok(Replica { root, files, v3, others: Vec::new() })
    }

    fn ltx_file(&mut self, before: &mut Before) -> Result<LtxFile, SavedError> {
        let bits = self.input.byte()?;
        let max = before.txid.wrapping_add(self.input.signed()?.cast_unsigned());
        let min = max.wrapping_sub(self.input.number()?);
        before.txid = max;
        let (Some(level), true) = (Level::new(bits & 0x0f), min > 0 && min <= max) else {
            return Err(self.input.damaged("a file of no level or without transactions"));
        };
        let (size, last_modified, etag) = self.object(bits, before)?;
        Ok(LtxFile {
            min_txid: Txid(min),
            max_txid: Txid(max),
            size,
            last_modified,
            etag,
            level,
            layout: if bits & DECIMAL == 0 { Layout::Hex } else { Layout::Decimal },
            archived: bits & ARCHIVED != 0,
        })
    }

    fn v3(&mut self) -> Result<V3Replica, SavedError> {
        let root = self.root()?;
        let prerelease = if self.flag()? { Some(self.input.text()?.into()) } else { None };
        let (mut files, mut before) = (Vec::new(), Before::default());
        for _ in 0..self.input.number()? {
            files.push(self.v3_file(&mut before)?);
        }
        self.files += files.len() as u64;
        if !files.is_sorted_by(|a: &V3File, b: &V3File| a.order() < b.order()) {
            return Err(self.input.damaged("files out of order"));
        }
        files.shrink_to_fit();
        Ok(V3Replica { root, files, prerelease })
    }

    fn v3_file(&mut self, before: &mut Before) -> Result<V3File, SavedError> {
        let bits = self.input.byte()?;
        if bits & NEXT_GENERATION != 0 {
            let generation = Some(Generation(u64::from_le_bytes(self.input.array()?)));
            *before = Before { generation, ..Before::default() };
        }
        let index = u32::try_from(self.input.number()?).ok();
        let kind = match bits & 0x07 {
            packed @ (0 | 1) => Some(V3Kind::Snapshot { packed: packed == 1 }),
            packed @ (2 | 3) => Some(V3Kind::Wal { packed: packed == 3 }),
            4 => {
                let (offset, digits) = (self.input.number()?, self.input.byte()?);
                (8..=16).contains(&digits).then_some(V3Kind::Segment { offset, digits })
            }
            _ => None,
        };
        let (Some(generation), Some(index), Some(kind)) = (before.generation, index, kind) else {
            return Err(self.input.damaged("a file of no generation, index or kind"));
        };
        let (size, last_modified, etag) = self.object(bits, before)?;
        Ok(V3File { generation, index, kind, size, last_modified, etag, archived: bits & ARCHIVED != 0 })
    }

    fn object(&mut self, bits: u8, before: &mut Before) -> Result<(u64, Timestamp, Option<Etag>), SavedError> {
        let size = self.input.number()?;
        before.nanos = before.nanos.wrapping_add(self.input.signed()?);
        let etag = match bits >> ETAG_SHIFT & ETAG_MASK {
            0 => None,
            1 => Some(Etag::Md5 { hash: self.input.array()?, parts: 0 }),
            2 => {
                let (hash, parts) = (self.input.array()?, u32::try_from(self.input.number()?).unwrap_or_default());
                Some(Etag::Md5 { hash, parts })
            }
            _ => {
                let text = self.input.text()?;
                Some(Etag::parse(&text).ok_or_else(|| self.input.damaged("an ETag that is none"))?)
            }
        };
        Ok((size, Timestamp::from_nanos(before.nanos), etag))
    }

    fn error(&mut self) -> Result<StoreError, SavedError> {
        let (kind, what, detail) = (self.kind()?, self.input.text()?, self.input.text()?);
        let request_id = if self.flag()? { Some(self.input.text()?) } else { None };
        let hint = if self.flag()? { Some(self.input.text()?) } else { None };
        let attempts = u32::try_from(self.input.number()?).unwrap_or(u32::MAX);
        Ok(StoreError { kind, what, detail, request_id, hint, attempts })
    }

    fn kind(&mut self) -> Result<StoreErrorKind, SavedError> {
        let number = self.input.byte()?;
        let known = KINDS.into_iter().find(|kind| number_of(*kind) == number);
        known.ok_or_else(|| self.input.damaged("an unknown kind of error"))
    }

    fn flag(&mut self) -> Result<bool, SavedError> {
        match self.input.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.input.damaged("a flag that is neither set nor not set")),
        }
    }
}
