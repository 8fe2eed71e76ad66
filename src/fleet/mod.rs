//! Many databases at once: which there are, and each one's share of the work.
//!
//! ```text
//! discover ─► feed ─► job (paths, order) ─► run (window, engine, retries, batched syncs) ─► record
//! ```
//! `discover` finds the databases that a pattern means, in a bucket or through litestream.yml,
//! with as few listings as can be; `pattern` reads patterns, `shard` divides a fleet among hosts,
//! `split` and `listing` make one long listing into several side by side; `early` says which
//! databases are complete, and sure of their places, while it still runs, and `feed` brings them
//! over. `paths` says where each database goes, and which of them cannot go anywhere; `order`
//! which is restored first; `run` restores them; `record` keeps the books: the error log, the
//! report, the totals.

mod configured;
mod discover;
mod early;
mod error_log;
mod feed;
mod job;
mod limits;
mod listing;
mod order;
mod paths;
mod pattern;
mod progress;
mod record;
mod report;
mod run;
mod shard;
mod split;
mod window;

pub use configured::ConfigSource;
pub use discover::{
    DiscoverError, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output, Source, UrlSource,
    discover,
};
pub use error_log::with_class;
pub use feed::{Feed, News, Search};
pub use job::{Ended, Ending, Intake, Job, Jobs, Listing, Places, PlannedDatabase};
pub use limits::Limits;
pub use order::{First, estimated_bytes};
pub use paths::{Place, Refused, Taken, folds_case, stale_state};
pub use pattern::{Pattern, PatternError, glob, relative_output};
pub use progress::Progress;
pub use record::{Books, Discovered, Record, Totals};
pub use run::{Fleet, Heard, Ran, Settings, Work};
pub use shard::{Shard, shard_of};
pub use window::Window;
