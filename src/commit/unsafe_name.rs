//! Checks of names that come from a bucket, as text: whether they can be file names of outputs at all.

use super::temp_name;
use std::ffi::OsStr;
use std::path::Path;
use thiserror::Error;

/// Maximum length of one path component in bytes (Linux's NAME_MAX).
const LONGEST_NAME: usize = 255;
/// Maximum length of a path in bytes: Linux's PATH_MAX without the terminating NUL.
const LONGEST_PATH: usize = 4095;

/// Why a name from a bucket cannot be an output's path. [`check_relative`] returns it before anything is
/// restored. [`CommitError::UnsafeName`](super::CommitError::UnsafeName) adds the name to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnsafeName {
    #[error("it is empty")]
    /// The name is empty.
    Empty,
    /// A component is `.`, `..` or empty. A path that begins or ends with a slash has an empty component.
    #[error("it holds '.', '..' or an empty name")]
    NoName,
    /// The name has a control character, such as a newline, an escape or a NUL.
    #[error("it holds a control character")]
    Control,
    #[error("a name in it is longer than {LONGEST_NAME} bytes")]
    /// A path component is longer than 255 bytes, which Linux does not allow.
    NameTooLong,
    #[error("it is longer than {LONGEST_PATH} bytes")]
    /// The root directory and the name together are longer than 4,095 bytes.
    PathTooLong,
    /// A component has the form of Hydrant's temporary names, so the clean-up of another run would delete that
    /// file.
    #[error("it is named as a temporary file of a restore")]
    Temporary,
}

/// Checks the text of `relative`, a path with `/` between its components, as the name of a file below `root`.
/// Does not access the file system.
///
/// # Errors
/// The first reason why the name is not allowed.
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
