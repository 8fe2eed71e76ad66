//! Chooses which of a database's lineages is restored, and describes the others for messages.

use super::{Layout, LtxFile, Replica};
use crate::error::escaped;
use crate::ltx::Txid;
use crate::store::Etag;
use crate::timestamp::Timestamp;
use std::fmt;

/// The facts about one lineage that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// What its keys begin with: `app.db/000N/` or `app.db/ltx/`.
    pub folder: String,
    pub files: usize,
    /// The newest TXID that any of its files holds.
    pub max_txid: Txid,
    /// LastModified of its newest file.
    pub last_modified: Timestamp,
}

impl Replica {
    /// Chooses the lineage to restore among `candidates` and their `others`. The rest become its
    /// `others`. Lineages in the `native` layout come first, otherwise the order is that of
    /// `candidates`. Chosen is the first with a snapshot, else the first with files, else the first
    /// with files of the v0.3.x format, else the first.
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

    /// The same database with the lineage of `chosen`: a fresh listing must not switch to another
    /// one. If that lineage is gone, a replica without files; the others are its `others`.
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

    /// `lineages[at]`, with the other lineages that have files as its `others`.
    fn with_others(mut lineages: Vec<Self>, at: usize) -> Self {
        if at >= lineages.len() {
            return Self { root: String::new(), files: Vec::new(), v3: None, others: Vec::new() };
        }
        let mut chosen = lineages.remove(at);
        if chosen.v3.is_none() {
            chosen.v3 = lineages.iter_mut().find_map(|lineage| lineage.v3.take());
        }
        lineages.retain(|lineage| !lineage.files.is_empty());
        chosen.others = lineages;
        chosen
    }

    /// The layout of the files; None without files.
    pub fn layout(&self) -> Option<Layout> {
        self.files.first().map(|file| file.layout)
    }

    fn has_snapshot(&self) -> bool {
        self.files.iter().any(LtxFile::is_snapshot)
    }

    /// This lineage, for a message; None without files.
    pub fn lineage(&self) -> Option<Lineage> {
        let folder = match self.layout()? {
            Layout::Hex => format!("{}000N/", self.root),
            Layout::Decimal => format!("{}ltx/", self.root),
        };
        let last_modified = self.files.iter().map(|file| file.last_modified).max()?;
        Some(Lineage { folder, files: self.files.len(), max_txid: self.max_txid()?, last_modified })
    }

    /// The `others` that are not copies of this lineage: they have other names, sizes or contents.
    pub fn differing(&self) -> impl Iterator<Item = &Self> {
        self.others.iter().filter(|other| !is_copy(&self.files, &other.files))
    }
}

/// Whether the listing gives no sign that two lineages hold different files. Both are sorted alike.
fn is_copy(a: &[LtxFile], b: &[LtxFile]) -> bool {
    let facts = |file: &LtxFile| (file.level, file.max_txid, file.min_txid, file.size);
    let same_content = |a: &LtxFile, b: &LtxFile| match (&a.etag, &b.etag) {
        (Some(a), Some(b)) => a == b || !is_content_md5(a) || !is_content_md5(b),
        _ => true,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| facts(a) == facts(b) && same_content(a, b))
}

/// Whether an ETag has the form of the content's MD5. A multipart upload's has not: it differs
/// between copies.
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
