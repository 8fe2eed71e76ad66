//! The restore engine. For one database it lists the replica's LTX files, plans which of them to
//! fetch, fetches and decodes them, and publishes the result (docs/ARCHITECTURE.md, "One database"
//! and "The engine").
//!
//! [`Workers`] starts the worker threads. One database is one call of [`restore`] on one of these
//! threads. The command `hydrant restore` makes one such call, `hydrant restore-pattern` one for
//! each database that it finds.

mod ahead;
mod budget;
mod chain_times;
mod changes;
mod database;
mod discard;
mod disk_probe;
mod dispatch;
mod error;
mod execute;
mod large;
mod nothing_found;
mod page_map;
mod page_writer;
mod past;
mod planner;
mod replica_listing;
mod v3;
mod verify;
mod work_queue;
mod workers;

pub use crate::restore::changes::{
    ChangeFile, ChangeSink, Changes, ChangesError, NextObject, fetch_if_there, read_changes,
};
pub use crate::restore::database::{Request, RestoreOutcome, Restored, restore, restore_standby};
pub use crate::restore::discard::{DiscardRequest, DiscardStage, Discarded, discard};
pub use crate::restore::disk_probe::write_probe;
pub use crate::restore::error::{ChainError, RestoreError};
pub use crate::restore::nothing_found::{NothingFound, nearest_directory, no_directory};
pub use crate::restore::page_map::PageMap;
pub use crate::restore::past::{AsOf, HistoryExtent, ListedHistory, PastState, first_page_of_history, list_history};
pub use crate::restore::planner::{PlannedRestore, plan_database};
pub use crate::restore::replica_listing::{
    HEADERS_IN_FLIGHT, HeaderTime, ListedReplica, list_replica, look_at_times, read_header,
};
pub use crate::restore::verify::{
    QueryRow, StateAnswer, VerifiedDatabase, VerifiedState, VerifyDepth, VerifyFailure, VerifyRequest, VerifyScratch,
    VerifySettings, answer_at, verify,
};
pub use crate::restore::workers::{SEGMENT_BYTES, SharedResources, Worker, Workers, WorkersOptions, submit};
