//! Chooses which lineage of a database is restored, and describes the other lineages for messages. A lineage is the
//! files under one root in one key layout.

use super::{Layout, LtxFile, Replica};
use crate::error::escaped;
use crate::ltx::Txid;
use crate::store::Etag;
use crate::timestamp::Timestamp;
use std::fmt;

/// The facts about one lineage that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The text with which the lineage's keys begin, for example `app.db/000N/` or `app.db/ltx/`.
    pub folder: String,
    /// The number of LTX files in the lineage.
    pub files: usize,
    /// The newest TXID that any file of the lineage holds.
    pub max_txid: Txid,
    /// LastModified of the lineage's newest file.
    pub last_modified: Timestamp,
}

impl Replica {
    /// Chooses the lineage to restore among `candidates` and their `others`. The lineages that were not chosen
    /// become the `others` of the result.
    ///
    /// Lineages in the `native` layout are considered first, then the rest in the order of `candidates`. The result
    /// is the first lineage with a snapshot. If none has a snapshot, it is the first with LTX files, then the first
    /// with files of Litestream 0.3, then the first of all.
    pub fn choose(candidates: impl IntoIterator<Item = Self>, native: Layout) -> Self {
        let mut lineages: Vec<Self> = Vec::new();
        for mut candidate in candidates {
            let others = std::mem::take(&mut candidate.others);
            lineages.push(candidate);
            lineages.extend(others);
        }
        lineages.sort_by_key(|lineage| lineage.layout() != Some(native));
        let best = lineages
            .iter()
            .position(Self::has_snapshot)
            .or_else(|| lineages.iter().position(|lineage| !lineage.files.is_empty()))
            .or_else(|| lineages.iter().position(|lineage| lineage.v3.is_some()));
        Self::with_others(lineages, best.unwrap_or(0))
    }

    /// Returns the same database with the lineage that `chosen` has, because a new listing during a restore must
    /// not switch to another lineage. If that lineage is gone, the result has no files, and all lineages that were
    /// found are its `others`.
    #[must_use]
    pub fn keeping_to(mut self, chosen: &Self) -> Self {
        let is_chosen = |lineage: &Self| lineage.root == chosen.root && lineage.layout() == chosen.layout();
        if chosen.files.is_empty() || is_chosen(&self) {
            return self;
        }
        let others = std::mem::take(&mut self.others);
        let mut lineages: Vec<Self> = std::iter::once(self).chain(others).collect();
        lineages.retain(|lineage| !lineage.files.is_empty() || lineage.v3.is_some());
        match lineages.iter().position(is_chosen) {
            Some(at) => Self::with_others(lineages, at),
            None => Self { root: chosen.root.clone(), files: Vec::new(), v3: None, others: lineages },
        }
    }

    /// Returns `lineages[at]`. Its `others` are the remaining lineages that have files.
    fn with_others(mut lineages: Vec<Self>, at: usize) -> Self {
        if at >= lineages.len() {
            return Self { root: String::new(), files: Vec::new(), v3: None, others: Vec::new() };
        }
        let mut chosen = lineages.remove(at);
        // Litestream 0.3 cleans the path, so its files may lie under another of the roots.
        let v3 = lineages.iter_mut().filter_map(|lineage| lineage.v3.take());
        chosen.v3 = chosen.v3.take().into_iter().chain(v3).max_by_key(|v3| (v3.newest(), v3.files.len()));
        lineages.retain(|lineage| !lineage.files.is_empty());
        chosen.others = lineages;
        chosen
    }

    /// The layout of the files. None if there are no files.
    pub fn layout(&self) -> Option<Layout> {
        self.files.first().map(|file| file.layout)
    }

    fn has_snapshot(&self) -> bool {
        self.files.iter().any(LtxFile::is_snapshot)
    }

    /// The facts about this lineage for a message. None if it has no files.
    pub fn lineage(&self) -> Option<Lineage> {
        let folder = match self.layout()? {
            Layout::Hex => format!("{}000N/", self.root),
            Layout::Decimal => format!("{}ltx/", self.root),
        };
        let last_modified = self.files.iter().map(|file| file.last_modified).max()?;
        Some(Lineage { folder, files: self.files.len(), max_txid: self.max_txid()?, last_modified })
    }

    /// Iterates over the `others` that are not copies of this lineage, because their files differ in name, size or
    /// content.
    pub fn differing(&self) -> impl Iterator<Item = &Self> {
        self.others.iter().filter(|other| !is_copy(&self.files, &other.files))
    }
}

/// Whether two lineages may be copies of each other: the listing shows the same names, sizes and contents. Both
/// lists must be sorted in the same way.
fn is_copy(a: &[LtxFile], b: &[LtxFile]) -> bool {
    let facts = |file: &LtxFile| (file.level, file.max_txid, file.min_txid, file.size);
    let same_content = |a: &LtxFile, b: &LtxFile| match (&a.etag, &b.etag) {
        (Some(a), Some(b)) => a == b || !is_content_md5(a) || !is_content_md5(b),
        _ => true,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| facts(a) == facts(b) && same_content(a, b))
}

/// Whether an ETag has the form of an MD5 of the content. The ETag of a multipart upload has another form and may
/// differ between two copies of the same bytes.
const fn is_content_md5(etag: &Etag) -> bool {
    matches!(etag, Etag::Md5 { parts: 0, .. })
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, files, max_txid, last_modified } = self;
        let plural = if *files == 1 { "" } else { "s" };
        write!(f, "{} ({files} file{plural} up to TXID {max_txid}, ", escaped(folder))?;
        write!(f, "the newest of {last_modified})")
    }
}
