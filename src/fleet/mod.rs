//! Many databases at once: which there are, and each one's share of the work.
//!
//! ```text
//! discover ─► feed ─► job (paths, order) ─► run (window, engine, retries, batched syncs) ─► record
//! ```
//! `discover` finds the databases that a pattern means, in a bucket or through litestream.yml,
//! with as few listings as can be; `pattern` reads patterns, `shard` divides a fleet among hosts,
//! `key_ranges` and `listing` make one long listing into several side by side; `handover` says which
//! databases are complete, and sure of their places, while it still runs, and `feed` brings them
//! over. `paths` says where each database goes, and which of them cannot go anywhere; `order`
//! which is restored first; `run` restores them; `record` keeps the books: the error log, the
//! report, the totals.

mod attempt;
mod descriptors;
mod discovery;
mod durable;
mod job;
mod outcome;
mod outputs;
mod possibly_incomplete;
mod priority;
mod progress;
mod queue;
mod run;
mod window;

pub use crate::fleet::attempt::{Settings, Work};
pub use crate::fleet::descriptors::Descriptors;
pub use crate::fleet::discovery::configured::ConfigSource;
pub use crate::fleet::discovery::discover::{DiscoverError, FleetSource, UrlSource, discover};
pub use crate::fleet::discovery::feed::{DiscoveryEvent, DiscoverySearch, Feed};
pub use crate::fleet::discovery::found::{
    DatabaseRef, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output,
};
pub use crate::fleet::discovery::pattern::{Pattern, PatternError, glob, relative_output};
pub use crate::fleet::discovery::shard::{Shard, shard_of};
pub use crate::fleet::outcome::error_log::with_class;
pub use crate::fleet::outcome::record::{Discovered, Record, RunSummary, Totals};
pub use crate::fleet::outputs::{Admitted, OutputPath, Refused, folds_case, stale_state};
pub use crate::fleet::priority::{First, estimated_bytes};
pub use job::{Admission, Ended, Ending, Job, Jobs, Known, Places, PlannedDatabase, Subject};
pub use progress::Progress;
pub use run::{Fleet, RunEvent, RunResult};
pub use window::DatabaseWindow;
