//! litestream.yml and replica URLs to typed locations (FORMAT §5).
//!
//! The way in is text (a URL as typed, a YAML file) and the environment, which is passed in and
//! never read from the process; the way out is a [`Location`] with everything the store needs,
//! or a [`ConfigError`] whose text scripts rely on (CONTRACT). No request is made here; besides
//! litestream.yml only a key file named by `sse-customer-key-path` is read.
//!
//! Invariants: an entry that cannot be used never stops the other entries of a file; no error,
//! `Debug` or display text holds a secret or a URL's user info; what a file can cost is bounded
//! in bytes, YAML nodes and alias expansions.

mod duration;
mod endpoint;
mod entries;
mod env;
mod error;
mod location;
mod locations;
mod paths;
mod s3url;
mod schema;
#[cfg(test)]
mod tests;
mod url_pattern;
mod yaml;

pub use crate::config::locations::{is_replica_url, parse_pattern_url, parse_replica_url};
pub use crate::config::url_pattern::DirPattern;
pub use duration::{DurationError, parse_go_duration};
pub use entries::{Config, DatabaseEntry, EntryKind, RestorePattern};
pub use env::{Env, default_config_path, process_env};
pub use error::ConfigError;
pub use location::{Location, StoreConfig};
pub use paths::clean_path;
