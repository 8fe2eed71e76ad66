//! Follows a fleet: keeps thousands of databases up to date with their replicas (docs/FOLLOW.md, "A fleet").
//!
//! ```text
//! scan (LISTs) ─► standbys: idle ─► waiting ─► open (one follower each, at most 256) ─► idle
//! ```
//!
//! `scan` finds the databases that have changed, with as few LISTs as possible. `standbys` knows where each database
//! is. `keeper` opens those that have changed, and closes them when they are quiet. Each open one is followed by the
//! same code as a single standby.

mod keeper;
mod scan;
mod standbys;
mod status;
mod teller;

pub use keeper::{FleetNews, FleetOrder, FleetTotals, follow_fleet, lock_standby};
pub use standbys::FollowedDatabase;
pub use status::FleetStatus;
pub use teller::{FleetEvent, FleetObserver};
