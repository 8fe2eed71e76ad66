//! Errors of the modules below → [`Failure`]s of a command.

use crate::cli::ui::failure::Failure;
use crate::config::ConfigError;
use crate::error::Class;
use crate::fleet::DiscoverError;
use crate::store::StoreError;
use std::path::{Path, PathBuf};

pub(super) fn from_config(error: &ConfigError) -> Failure {
    Failure::failed(error.class(), error.to_string())
}

pub(super) fn from_store(error: &StoreError) -> Failure {
    Failure::failed(error.class(), error.to_string())
}

/// A pattern that cannot be read is wrong usage; any other error is a failure.
pub(super) fn from_discovery(error: &DiscoverError) -> Failure {
    match error {
        DiscoverError::Pattern(e) => Failure::usage(e.to_string()),
        e => Failure::failed(e.class(), e.to_string()),
    }
}

/// A pattern that was understood and that no database matches.
pub(super) fn no_match(source_shown: &str) -> Failure {
    let pattern = crate::error::escaped(source_shown);
    Failure::failed(Class::BackupNotFound, format!("no database matches {pattern}"))
}

/// `path` below the current directory, if it is relative.
///
/// # Errors
/// The current directory is gone or cannot be read.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::failed(Class::Io, format!("cannot make {} absolute: {e}", path.display())))
}
