//! The engine: from a plan to a complete, checked, unpublished file, and around that one database
//! from listing to publication (DESIGN "The engine").
//!
//! A single restore is a fleet of one: [`Engine`] runs the workers, [`restore`] is what they run
//! for each database.

mod ahead;
mod budget;
mod chain_times;
mod claims;
mod cuts;
mod database;
mod engine;
mod error;
mod execute;
mod fetch;
mod fetch_only;
mod large;
mod listing;
mod place;
mod queue;
mod rehearse;
mod segments;

pub use claims::PageMap;
pub use database::{Outcome, Planned, Request, Restored, plan_database, restore};
pub use engine::{Engine, EngineOptions, SEGMENT_BYTES, Shared, Worker, submit};
pub use error::{ChainError, RestoreError};
pub use listing::{HeaderTime, list_replica, look_at_times};
pub use rehearse::{Depth, Rehearsal, Rehearsed, rehearse};
