//! Conversions of the errors of other modules (config, store, fleet) to the [`Failure`] of a command, which
//! has the message and the exit code.

use crate::cli::advice;
use crate::cli::ui::failure::{Advice, Failure};
use crate::config::ConfigError;
use crate::error::Class;
use crate::fleet::{DiscoverError, Instead};
use crate::store::StoreError;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn from_config(error: &ConfigError) -> Failure {
    Failure::failed(error.class(), error.to_string())
}

pub(super) fn from_store(error: &StoreError) -> Failure {
    Failure::failed(error.class(), error.to_string())
}

/// Converts an error of finding databases. A pattern that cannot be parsed is wrong usage (exit code 2). Any
/// other error is a failure (exit code 1).
pub(super) fn from_discovery(error: &DiscoverError) -> Failure {
    match error {
        DiscoverError::Pattern(e) => Failure::usage(e.to_string()),
        e => Failure::failed(e.class(), e.to_string()),
    }
}

/// The failure of a command whose pattern `source_shown` matches no database. `url` is the pattern as typed, if it is a
/// URL. `instead` says what lies there.
pub(super) fn no_match(source_shown: &str, url: Option<&str>, instead: Option<Instead>) -> Failure {
    let pattern = crate::error::escaped(source_shown);
    let mut message = format!("no database matches {pattern}");
    let mut better = None;
    if let Some(Instead { text, pattern }) = instead {
        message.push_str(&format!(": {text}"));
        let pattern = pattern.as_deref().map(|pattern| pattern.strip_prefix('/').unwrap_or(pattern));
        better = url.zip(pattern).and_then(|(url, pattern)| advice::of_pattern(url, pattern));
    }
    if has_wildcard_as_query(source_shown) {
        message.push_str("; ? begins the query of a URL: as a wildcard it is written %3F");
    }
    Failure::failed(Class::BackupNotFound, message).advised(better.map(Advice::Source))
}

/// Whether the query of a URL looks like a part of a pattern: a part of it is no `name=value`.
fn has_wildcard_as_query(url: &str) -> bool {
    let query = url.split_once("://").and_then(|(_, rest)| rest.split_once('?'));
    query.is_some_and(|(_, query)| query.split('&').any(|part| !part.is_empty() && !part.contains('=')))
}

/// Makes `path` absolute. A relative path is taken to be below the current directory.
///
/// # Errors
/// The current directory was deleted or cannot be read.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::failed(Class::Io, format!("cannot make {} absolute: {e}", path.display())))
}

/// Whether two paths are one, or lead to one regular file.
///
/// # Errors
/// As [`absolute`].
pub(super) fn is_same_file(a: &Path, b: &Path) -> Result<bool, Failure> {
    let file = |path: &Path| path.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| (m.dev(), m.ino()));
    Ok(absolute(a)? == absolute(b)? || file(a).is_some() && file(a) == file(b))
}
