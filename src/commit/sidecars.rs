//! Sidecars: the files that SQLite creates beside a database (-wal, -shm, -journal).

use std::ffi::{OsStr, OsString};

/// Suffixes of the files that SQLite creates beside a database, in the order in which a destination is checked.
pub(crate) const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Order in which `-force` renames the old sidecars. The -wal is last, because without it the database misses
/// committed transactions. The clean-up after a killed run puts them back in the reverse order.
pub(super) const MOVE_ORDER: [&str; 3] = ["-shm", "-journal", "-wal"];

/// Whether a restore may replace an existing output file (option `-force`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Without `-force`: the output must be absent or a file of 0 bytes.
    Never,
    /// With `-force`: an existing output is replaced once the new file is complete.
    Force,
}

/// Returns the file name `name` followed by `suffix`, such as `app.db-wal`.
pub(super) fn suffixed(name: &OsStr, suffix: &str) -> OsString {
    let mut suffixed = name.to_owned();
    suffixed.push(suffix);
    suffixed
}
