//! What a follower tells: events while it runs, and a summary at its end.

use crate::follow::standby::StandbyError;
use crate::ltx::Txid;
use crate::store::StoreError;
use crate::timestamp::Timestamp;
use std::fmt::Display;
use std::io;
use std::sync::Arc;

/// Gets the events of a follower, on the worker's thread. It must not block.
pub type Observer = Arc<dyn Fn(&FollowEvent<'_>) + Send + Sync>;

/// Something that an operator may want to know.
pub enum FollowEvent<'a> {
    /// The database is open, and the follower begins at this TXID.
    Began {
        /// The TXID in the sidecar.
        txid: Txid,
    },
    /// A poll has ended.
    Polled {
        /// The TXID that the database holds.
        txid: Txid,
    },
    /// All that the replica had at the first poll is applied.
    CaughtUp {
        /// The TXID that the database holds.
        txid: Txid,
    },
    /// Changes were committed.
    Applied {
        /// The TXID before.
        from: Txid,
        /// The TXID after.
        to: Txid,
        /// The number of files that were applied.
        files: usize,
        /// Their size in bytes.
        bytes: u64,
        /// The number of pages that were written.
        pages: u64,
        /// Seconds since the newest transaction was committed at the primary, by both clocks.
        lag: u64,
    },
    /// The replica has newer files, but none continues. Told once for each TXID.
    Hole {
        /// The TXID that the database holds.
        at: Txid,
        /// The TXID that the next file begins with.
        next: Txid,
        /// The newest TXID of the replica.
        newest: Txid,
    },
    /// The files that continue are damaged or archived. Told once for each TXID.
    Blocked {
        /// The TXID that the database holds.
        at: Txid,
        /// The TXID that could be reached.
        txid: Txid,
        /// Some of these files.
        keys: &'a [String],
    },
    /// A file is damaged. The follower tries to do without it.
    Damaged {
        /// Its key.
        key: &'a str,
        /// What is wrong with it.
        error: &'a dyn Display,
    },
    /// A request has failed, the first one since one succeeded. The follower tries again.
    Failing {
        /// Why.
        error: &'a StoreError,
    },
    /// A request has succeeded again.
    Recovered,
    /// The disk is full. The follower tries once more.
    DiskFull {
        /// What could not be written.
        error: &'a StandbyError,
    },
    /// A reader keeps the log from being copied.
    LongLog {
        /// Size of the log in bytes.
        bytes: u64,
    },
    /// The sidecar cannot be written. It stays behind, which is harmless.
    SidecarFailed {
        /// Why.
        error: &'a io::Error,
    },
    /// The follower's loop turns: told once per [`crate::follow::FollowRequest::heartbeat`], whatever the store does.
    Alive,
    /// The follower ends: the database is closed.
    Ending,
}

/// What a follower did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowSummary {
    /// The TXID that the database holds.
    pub txid: Txid,
    /// The time of its newest transaction. None if none was applied.
    pub newest: Option<Timestamp>,
    /// The number of polls, and of those whose requests failed.
    pub polls: u64,
    /// The number of polls whose requests failed.
    pub failed_polls: u64,
    /// The number of changes that were committed.
    pub applied: u64,
    /// The number of files that were applied.
    pub files: u64,
    /// The number of pages that were written.
    pub pages: u64,
    /// The number of holes that were met.
    pub holes: u64,
}
