//! Restores many databases at once.
//!
//! ```text
//! discovery ─► feed ─► job (outputs, priority) ─► queue ─► run (window, attempt, durable) ─► outcome
//! ```
//! - `discovery` finds the databases that a pattern matches, in a bucket or through litestream.yml, with as few
//!   LIST requests as possible. Restores begin when all databases are known.
//! - `job` turns the databases into jobs. `outputs` gives each one its output path and refuses paths that are
//!   unsafe or collide. `priority` decides which jobs come first.
//! - `queue` holds the jobs that wait. `window` limits how many databases are in flight. `descriptors` computes
//!   how many the open files allow.
//! - `run` restores the databases: `attempt` is one attempt at one database, `durable` syncs directories in
//!   batches.
//! - `outcome` writes the error log and the report and computes totals. `progress` holds the counters for the
//!   display.

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
mod space;
mod window;

pub use crate::fleet::attempt::{Settings, Work};
pub use crate::fleet::descriptors::Descriptors;
pub use crate::fleet::discovery::catalogue_file::{CatalogueFile, CatalogueFileError, CatalogueUse};
pub use crate::fleet::discovery::config_source::ConfigSource;
pub use crate::fleet::discovery::discover::{DiscoverError, FleetSource, UrlSource, discover};
pub use crate::fleet::discovery::feed::{DiscoveryEvent, DiscoverySearch, Feed};
pub use crate::fleet::discovery::found::{
    DatabaseRef, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Instead, Options, Output,
};
pub use crate::fleet::discovery::pattern::{Pattern, PatternError, glob, relative_output};
pub use crate::fleet::discovery::shard::{Sample, Shard, shard_of};
pub use crate::fleet::only::{Only, OnlyError};
pub use crate::fleet::outcome::ages::{Ages, DAY_SECONDS};
pub use crate::fleet::outcome::error_log::{Links, with_class};
pub use crate::fleet::outcome::past_fields::PastFields;
pub use crate::fleet::outcome::reasons::{FrequentReason, Reasons};
pub use crate::fleet::outcome::record::{Discovered, RunSummary, row_of};
pub use crate::fleet::outcome::totals::Totals;
pub use crate::fleet::outcome::v3_fields::V3Fields;
pub use crate::fleet::outputs::{Admitted, OutputPath, Refused, folds_case, stale_state};
pub use crate::fleet::priority::{First, estimated_bytes};
pub use job::{Admission, Ended, Ending, Job, Jobs, Known, NewestState, OnlyFound, Places, PlannedDatabase, Subject};
pub use progress::Progress;
pub use run::{Fleet, RunEvent, RunResult};
pub use space::LittleSpace;
pub use window::DatabaseWindow;
