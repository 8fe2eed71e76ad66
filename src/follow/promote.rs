//! What a standby must be asked before it becomes the primary of its replica (docs/FOLLOW.md, "Promotion").

use crate::ltx::{Level, Txid};
use crate::restore::{Worker, list_replica};
use crate::store::{Store, StoreError};

/// The ends of a replica, as Litestream will find them. It counts on from the newest file of level 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaEnds {
    /// The newest TXID of level 0. None: it has no files.
    pub level_0: Option<Txid>,
    /// The newest TXID of all levels. None: the replica has no files.
    pub newest: Option<Txid>,
}

impl ReplicaEnds {
    /// Whether `litestream replicate` goes on where the replica ends. Otherwise it gives TXIDs again that the replica has,
    /// and restores miss what it writes.
    pub fn goes_on(&self) -> bool {
        self.level_0 == self.newest
    }
}

/// Lists the replica at `path`.
///
/// # Errors
/// A LIST fails and all its retries do.
pub async fn replica_ends(worker: &Worker, store: &Store, path: &str) -> Result<ReplicaEnds, StoreError> {
    let replica = list_replica(&worker.http, store, path, &worker.shared.catalogue).await?.replica;
    let level_0 = replica.files.iter().filter(|file| file.level == Level::TRANSACTIONS).map(|file| file.max_txid).max();
    Ok(ReplicaEnds { level_0, newest: replica.max_txid() })
}
