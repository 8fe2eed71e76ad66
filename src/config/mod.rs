//! Parses litestream.yml and replica URLs into typed locations (docs/FORMAT.md, "litestream.yml" and "Replica
//! URLs").
//!
//! Input is text (a URL as typed, a YAML file) and the environment variables, which the caller passes in. Output is
//! a [`Location`] with everything that the store needs, or a [`ConfigError`] whose text scripts rely on
//! (docs/CLI.md, "Texts that scripts rely on"). This module makes no request. It reads litestream.yml and the key
//! file that `sse-customer-key-path` names, and no other file.
//!
//! Invariants:
//! - An invalid entry does not affect the other entries of a file.
//! - No error, `Debug` output or display text holds a secret or the user info of a URL.
//! - The size of a file, its number of YAML nodes and the expansions of its aliases are bounded.

mod duration;
mod elsewhere;
mod endpoint;
mod entries;
mod env;
mod error;
mod expand;
mod location;
mod locations;
mod mode;
mod parameters;
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
pub use elsewhere::url_with_path;
pub use entries::{Config, DatabaseEntry, EntryKind, RestorePattern};
pub use env::{Env, default_config_path, process_env};
pub use error::ConfigError;
pub use location::{Location, StoreConfig};
pub use mode::parse_mode;
pub use paths::clean_path;
