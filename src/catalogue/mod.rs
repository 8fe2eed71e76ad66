//! Sorts listed objects into databases, levels and files. Pure and compact: at most 1 KB per
//! database of ten files.
//!
//! A database is recognised by the structure of its keys alone (docs/FORMAT.md, "Key layouts").
//! Everything before the level's directory is its root and is kept unchanged. Therefore `app.db`,
//! `app.db-2`, `app.db//` and a database below another's prefix never mix, and every key can be
//! rebuilt. Other keys are skipped. Whether the files make a chain is decided by `plan`.
//!
//! The files of one root in one layout are a lineage: one writer made them, and they may be
//! chained. Files of two lineages are never joined (docs/FORMAT.md, "Two layouts under one
//! prefix"). Joining an old copy in the other layout to a live replica would give an old database
//! or a mixture. `lineage` chooses one of them.

mod collect;
mod key;
mod lineage;
mod replica;
#[cfg(test)]
mod tests;

pub use collect::Catalogue;
pub use lineage::Lineage;
pub use replica::{Layout, LtxFile, Replica, V3};
