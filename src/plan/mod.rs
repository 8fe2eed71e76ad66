//! (catalogue, target) → the files to merge, oldest first. Pure: it returns a plan, or the files
//! whose times it must know (FORMAT §3).

use crate::ltx::Txid;
use crate::timestamp::Timestamp;

/// What to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Latest,
    /// The state after this transaction, exactly; 0 is the newest.
    Txid(Txid),
    /// The newest state whose files were all created strictly before this.
    Timestamp(Timestamp),
}
