//! Listed objects → databases → levels → files; pure and compact (≤ 1 KB per database of ten files).
//!
//! A database is recognised by the structure of its keys alone (FORMAT §1), in both layouts:
//! whatever stands before the level's directory is its root, kept to the letter, so that
//! `app.db`, `app.db-2`, `app.db//` and a database below another's prefix never mix and every
//! key can be rebuilt. All other keys are skipped, never an error. Nothing is said here about
//! what the files hold or whether they make a chain: that is `plan`'s.
//!
//! The files of one root in one layout are a lineage: they come from one writer and may be chained.
//! Files of two lineages are never joined (FORMAT §1): an old copy in the other layout beside a
//! live replica would give yesterday's database, or a mixture. `lineage` chooses between them.

mod collect;
mod key;
mod lineage;
mod replica;
#[cfg(test)]
mod tests;

pub use collect::Catalogue;
pub use lineage::Lineage;
pub use replica::{Layout, LtxFile, Replica, V3};
