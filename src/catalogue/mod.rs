//! Sorts the objects of a listing into databases, levels and files. Makes no requests. Memory: at most 1 KB per
//! database of ten files.
//!
//! A database is recognised by the structure of its keys alone (docs/FORMAT.md, "Key layouts"). Everything in a key
//! before the directory of the level is the database's root, and it is kept unchanged. Therefore `app.db`,
//! `app.db-2`, `app.db//` and a database below another database's prefix never mix, and every key can be rebuilt.
//! Keys with another structure are skipped. Whether the files form a complete chain is decided by `plan`.
//!
//! The files of one root in one layout are a lineage: one writer made them, and they can be chained. Files of two
//! lineages are never joined (docs/FORMAT.md, "Two layouts under one prefix"). If an old copy in one layout was
//! joined to a live replica in the other, the result would be an old database or a mixture of two. `lineage`
//! chooses one lineage.

mod budget;
mod collect;
mod history;
mod key;
mod lineage;
mod replica;
pub mod saved;
mod surroundings;
#[cfg(test)]
mod tests;
mod v3;

pub use budget::{CatalogueLimit, CatalogueMemory, Charge};
pub use collect::{Catalogue, Interest, ReplicaCollector};
pub use history::{History, Repeated, SpanEnd, VersionSpan};
pub use key::{LtxKey, ltx_key, root_of};
pub use lineage::Lineage;
pub use replica::{Layout, LtxFile, Replica, ReplicaEnds};
pub use surroundings::{OtherObjects, RootCount, Surroundings};
pub use v3::{Generation, V3File, V3Kind, V3Replica};
