//! Parses litestream.yml and replica URLs into typed locations (docs/FORMAT.md, "litestream.yml"
//! and "Replica URLs").
//!
//! Input: text (a URL as typed, a YAML file) and the environment, which is passed in and never read
//! from the process. Output: a [`Location`] with everything the store needs, or a [`ConfigError`]
//! whose text scripts rely on (docs/CLI.md, "Texts that scripts rely on"). No request is made.
//! Besides litestream.yml only the key file named by `sse-customer-key-path` is read.
//!
//! Invariants:
//! - An invalid entry does not affect the other entries of a file.
//! - No error, `Debug` or display text holds a secret or a URL's user info.
//! - Bytes, YAML nodes and alias expansions of a file are bounded.

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

pub use crate::config::endpoint::parse_endpoint;
pub use crate::config::locations::{is_replica_url, parse_pattern_url, parse_replica_url};
pub use crate::config::url_pattern::DirPattern;
pub use duration::{DurationError, parse_go_duration};
pub use entries::{Config, DatabaseEntry, EntryKind, RestorePattern};
pub use env::{Env, default_config_path, process_env};
pub use error::ConfigError;
pub use location::{Location, StoreConfig};
pub use paths::clean_path;
