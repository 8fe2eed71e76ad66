//! Many databases at once: which there are, and each one's share of the work.
//!
//! `discover` finds the databases that a pattern means, in a bucket or through litestream.yml,
//! with as few listings as can be; `pattern` reads patterns, `shard` divides a fleet among hosts.
//! `split` and `listing` make one long listing into several side by side.

mod configured;
mod discover;
mod listing;
mod pattern;
mod shard;
mod split;

pub use configured::ConfigSource;
pub use discover::{
    DiscoverError, Discovery, DiscoveryProgress, Found, FoundError, FoundFailure, Options, Output, Source, UrlSource,
    discover,
};
pub use pattern::{Pattern, PatternError, relative_output};
pub use shard::{Shard, shard_of};
