//! SQLite's own check of a finished file, before it is published (`-integrity-check`).

use std::path::Path;

/// `-integrity-check quick` or `full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Quick,
    Full,
}

/// What SQLite says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// SQLite's report, its first lines.
    Damaged(Vec<String>),
    /// The database uses what only its application knows (a collation, a module, a function):
    /// not damage.
    NotCheckable(String),
    /// [`Check::interrupt_handle`] was used.
    Interrupted,
}

/// A check that has not run yet. Runs for as long as the database is large: on a thread of its
/// own, and interruptible.
pub struct Check {}

impl Check {
    /// Opens `path` read-only and immutable: no locks, no sidecars.
    pub fn open(path: &Path, mode: Mode) -> Result<Self, super::CommitError> {
        let _ = (path, mode);
        todo!()
    }
    /// Ends the run from another thread.
    pub fn interrupt_handle(&self) -> rusqlite::InterruptHandle {
        todo!()
    }
    pub fn run(self) -> Result<Outcome, super::CommitError> {
        todo!()
    }
}

/// [`Check::open`] and [`Check::run`].
pub fn check(path: &Path, mode: Mode) -> Result<Outcome, super::CommitError> {
    Check::open(path, mode)?.run()
}
