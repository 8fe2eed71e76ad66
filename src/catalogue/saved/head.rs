//! The head of a saved catalogue: when it was listed, and of what.

use super::blocks::{BlockReader, BlockWriter};
use super::error::SavedError;
use crate::store::Store;
use crate::timestamp::Timestamp;
use std::io::{Read, Write};

/// What a saved catalogue says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueHead {
    /// When the listing began.
    pub time: Timestamp,
    /// The version of the program that has written it.
    pub program: String,
    /// What was listed.
    pub source: CatalogueSource,
}

/// What a catalogue is of. It holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueSource {
    /// The pattern that selects the databases, by their keys or by their configured paths.
    pub pattern: String,
    /// The stores that were listed. Records name them by their index.
    pub stores: Vec<SavedStore>,
    /// For a configuration file, the SHA-256 of the entries that match the pattern: their paths and the places of
    /// their replicas. None for a URL.
    pub entries: Option<[u8; 32]>,
}

/// A store, as a catalogue names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedStore {
    /// `s3` or `file`.
    pub kind: String,
    /// The name of the bucket. Empty for files.
    pub bucket: String,
    /// The endpoint. Empty for AWS and for files.
    pub endpoint: String,
}

impl SavedStore {
    /// How a catalogue names this store.
    pub fn of(store: &Store) -> Self {
        let (bucket, endpoint) = match store.bucket() {
            Some(s3) => (s3.bucket(), s3.endpoint_url().unwrap_or_default()),
            None => ("", ""),
        };
        Self { kind: store.kind().to_owned(), bucket: bucket.to_owned(), endpoint: endpoint.to_owned() }
    }

    fn differs(&self, wanted: &Self) -> Option<SavedError> {
        let differ = |what, saved: &str, wanted: &str, none: &str| {
            let shown = |text: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
            (saved != wanted).then(|| SavedError::OtherSource { what, saved: shown(saved), wanted: shown(wanted) })
        };
        differ("kind of store", &self.kind, &wanted.kind, "none")
            .or_else(|| differ("bucket", &self.bucket, &wanted.bucket, "none"))
            .or_else(|| differ("endpoint", &self.endpoint, &wanted.endpoint, "AWS"))
    }
}

impl CatalogueSource {
    /// Checks that this is what the call is about.
    ///
    /// # Errors
    /// [`SavedError::OtherSource`] or [`SavedError::OtherConfiguration`].
    pub fn check(&self, wanted: &Self) -> Result<(), SavedError> {
        if let Some(error) = self.stores.iter().zip(&wanted.stores).find_map(|(saved, wanted)| saved.differs(wanted)) {
            return Err(error);
        }
        let other = |what, saved: &str, wanted: &str| {
            Err(SavedError::OtherSource { what, saved: saved.to_owned(), wanted: wanted.to_owned() })
        };
        if self.entries.is_some() != wanted.entries.is_some() {
            let kind = |source: &Self| if source.entries.is_some() { "a configuration file" } else { "a URL" };
            return other("kind of source", kind(self), kind(wanted));
        }
        if self.pattern != wanted.pattern {
            return other("pattern", &self.pattern, &wanted.pattern);
        }
        if self == wanted { Ok(()) } else { Err(SavedError::OtherConfiguration) }
    }

    /// Whether records may name a store by this index.
    pub(super) fn has_store(&self, index: usize) -> bool {
        index < self.stores.len()
    }
}

impl CatalogueHead {
    pub(super) fn write<W: Write>(&self, out: &mut BlockWriter<W>) -> Result<(), SavedError> {
        out.signed(self.time.as_nanos())?;
        out.text(&self.program)?;
        let CatalogueSource { pattern, stores, entries } = &self.source;
        out.text(pattern)?;
        out.number(stores.len() as u64)?;
        for store in stores {
            for text in [&store.kind, &store.bucket, &store.endpoint] {
                out.text(text)?;
            }
        }
        out.byte(u8::from(entries.is_some()))?;
        out.bytes(entries.as_ref().map_or(&[], |digest| digest.as_slice()))
    }

    pub(super) fn read<R: Read>(input: &mut BlockReader<R>) -> Result<Self, SavedError> {
        let time = Timestamp::from_nanos(input.signed()?);
        let (program, pattern) = (input.text()?, input.text()?);
        let mut stores = Vec::new();
        // Ends: each turn reads a byte of the file at least.
        for _ in 0..input.number()? {
            stores.push(SavedStore { kind: input.text()?, bucket: input.text()?, endpoint: input.text()? });
        }
        let entries = match input.byte()? {
            0 => None,
            1 => Some(input.array()?),
            _ => return Err(input.damaged("an unknown kind of source")),
        };
        Ok(Self { time, program, source: CatalogueSource { pattern, stores, entries } })
    }
}
