//! Restores many databases at once.
//!
//! ```text
//! discovery ─► feed ─► job (outputs, priority) ─► queue ─► run (window, attempt, durable) ─► outcome
//! ```
//! - `discovery` finds the databases that a pattern matches, in a bucket or through litestream.yml, with
//!   as few listings as possible. Restores begin when all databases are known.
//! - `job` turns found databases into jobs. `outputs` gives each its output path and refuses unsafe and
//!   colliding ones. `priority` says which come first.
//! - `queue` holds the jobs that wait. `window` bounds how many are in flight, `descriptors` how many can
//!   be.
//! - `run` restores them: `attempt` is one try at one database, `durable` syncs directories in batches.
//! - `only` limits a run to the databases that a file names, for example those that failed before.
//! - `outcome` reports: the error log, the report, the totals. `progress` has the counts for display.

mod attempt;
mod descriptors;
mod discovery;
mod durable;
mod job;
mod only;
mod outcome;
mod outputs;
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
pub use crate::fleet::only::{Only, OnlyError};
pub use crate::fleet::outcome::ages::{Ages, DAY_SECONDS};
pub use crate::fleet::outcome::error_log::{Links, with_class};
pub use crate::fleet::outcome::reasons::{FrequentReason, Reasons};
pub use crate::fleet::outcome::record::{Discovered, Record, RunSummary};
pub use crate::fleet::outcome::totals::Totals;
pub use crate::fleet::outputs::{Admitted, OutputPath, Refused, folds_case, stale_state};
pub use crate::fleet::priority::{First, estimated_bytes};
pub use job::{Admission, Ended, Ending, Job, Jobs, Known, NewestState, OnlyFound, Places, PlannedDatabase, Subject};
pub use progress::Progress;
pub use run::{Fleet, RunEvent, RunResult};
pub use window::DatabaseWindow;
