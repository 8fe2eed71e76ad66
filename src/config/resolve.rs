//! One replica's settings, from the config or from a URL alone, to a location.

use super::{ConfigError, Env, Location};

/// Whether an argument is a replica URL rather than a path: it begins with letters, digits or
/// underscores and `://`, and is not an `sqlite://` or `sqlite3://` path.
pub fn is_replica_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !matches!(scheme, "sqlite" | "sqlite3")
    })
}

/// A replica URL as typed, with what the environment adds, to a location.
pub fn parse_replica_url(_url: &str, _env: &Env<'_>) -> Result<Location, ConfigError> {
    todo!()
}

/// The URL of a pattern, e.g. `s3://bucket/prefix/**/*.db?endpoint=…`: the store at its root
/// (`Location::path` is empty, for files `/`), and the pattern, %-decoded, otherwise as typed,
/// without its first slash.
pub fn parse_pattern_url(_url: &str, _env: &Env<'_>) -> Result<(Location, String), ConfigError> {
    todo!()
}
