//! The files that SQLite puts beside a database.

use std::ffi::{OsStr, OsString};

/// What SQLite puts beside a database, in the order in which a destination is checked.
pub(crate) const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The order in which `-force` moves sidecars aside: the -wal last, because the database misses transactions
/// without it. A sweep puts them back in the reverse order.
pub(super) const MOVE_ORDER: [&str; 3] = ["-shm", "-journal", "-wal"];

/// Whether an existing output may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Only an absent or empty output is written.
    Never,
    /// `-force`: an existing output is replaced once the new one is complete.
    Force,
}

/// `name` with `suffix` after it.
pub(super) fn suffixed(name: &OsStr, suffix: &str) -> OsString {
    let mut suffixed = name.to_owned();
    suffixed.push(suffix);
    suffixed
}
