//! The engine: restores one database, from listing to publication (docs/ARCHITECTURE.md, "One
//! database" and "The engine").
//!
//! There is one engine: [`Workers`] runs the worker threads, and each database is one call of
//! [`restore`] on one of them. `hydrant restore` makes that call once; the fleet makes it for each
//! of its databases.

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
mod planner;
mod replica_listing;
mod work_queue;
mod workers;

pub use crate::restore::database::{Request, RestoreOutcome, Restored, restore};
pub use crate::restore::discard::{DiscardRequest, DiscardStage, Discarded, discard};
pub use crate::restore::error::{ChainError, RestoreError};
pub use crate::restore::page_map::PageMap;
pub use crate::restore::planner::{PlannedRestore, plan_database};
pub use crate::restore::replica_listing::{HEADERS_IN_FLIGHT, HeaderTime, list_replica, look_at_times, read_header};
pub use crate::restore::workers::{SEGMENT_BYTES, SharedResources, Worker, Workers, WorkersOptions, submit};
