//! The engine: from a plan to a complete, checked, unpublished file, and around that one database
//! from listing to publication (DESIGN "The engine").
//!
//! A single restore is a fleet of one: [`Engine`] runs the workers, [`restore`] is what they run
//! for each database.

mod ahead;
mod budget;
mod chain_times;
mod database;
mod discard;
mod error;
mod execute;
mod large;
mod page_map;
mod page_writer;
mod replica_listing;
mod work_queue;
mod workers;

pub use crate::restore::discard::{DiscardRequest, DiscardStage, Discarded, discard};
pub use crate::restore::page_map::PageMap;
pub use crate::restore::replica_listing::{HeaderTime, list_replica, look_at_times};
pub use crate::restore::workers::{SEGMENT_BYTES, SharedResources, Worker, Workers, WorkersOptions, submit};
pub use database::{PlannedRestore, Request, RestoreOutcome, Restored, plan_database, restore};
pub use error::{ChainError, RestoreError};
