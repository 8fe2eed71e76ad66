//! The text of a name from a bucket: whether it can name an output at all.

use super::temp_name;
use std::ffi::OsStr;
use std::path::Path;
use thiserror::Error;

/// The longest name of a file, in bytes (NAME_MAX).
const LONGEST_NAME: usize = 255;
/// The longest path that a program can open, in bytes: PATH_MAX without the NUL at its end.
const LONGEST_PATH: usize = 4095;

/// Why a name from a bucket cannot be the name of an output. [`check_relative`] returns it before a database is
/// restored; [`CommitError::UnsafeName`](super::CommitError::UnsafeName) adds the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnsafeName {
    #[error("it is empty")]
    Empty,
    /// One component is `.`, `..` or empty. A path that begins or ends with a slash has an empty component.
    #[error("it holds '.', '..' or an empty name")]
    NoName,
    /// It holds a control character: a newline, an escape, a NUL.
    #[error("it holds a control character")]
    Control,
    #[error("a name in it is longer than {LONGEST_NAME} bytes")]
    NameTooLong,
    #[error("it is longer than {LONGEST_PATH} bytes")]
    PathTooLong,
    /// One component looks like a temporary name of a restore: another run would sweep that file away.
    #[error("it is named as a temporary file of a restore")]
    Temporary,
}

/// Checks as text whether `relative`, with slashes between its components, can name a file beneath `root`. Looks at
/// no file.
///
/// # Errors
/// The first reason why it cannot.
pub fn check_relative(root: &Path, relative: &str) -> Result<(), UnsafeName> {
    if relative.is_empty() {
        return Err(UnsafeName::Empty);
    }
    if relative.chars().any(char::is_control) {
        return Err(UnsafeName::Control);
    }
    for name in relative.split('/') {
        if matches!(name, "" | "." | "..") {
            return Err(UnsafeName::NoName);
        }
        if name.len() > LONGEST_NAME {
            return Err(UnsafeName::NameTooLong);
        }
        if temp_name::is_temporary(OsStr::new(name)) {
            return Err(UnsafeName::Temporary);
        }
    }
    if root.as_os_str().len().saturating_add(1).saturating_add(relative.len()) > LONGEST_PATH {
        return Err(UnsafeName::PathTooLong);
    }
    Ok(())
}
