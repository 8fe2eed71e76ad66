//! Why a saved catalogue cannot be used.

#![allow(missing_docs, reason = "the text in #[error] says what each field is")]

use crate::error::{Class, escaped};
use thiserror::Error;

/// Why a saved catalogue cannot be read, or is not the one that is wanted. No part of it is used then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SavedError {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(String),
    /// It does not begin as a catalogue.
    #[error("this is no catalogue of Hydrant")]
    NoCatalogue,
    /// Another version of the program has written it.
    #[error("this is a catalogue of version {found}, and this program reads version {expected}: save it again")]
    OtherVersion { found: u32, expected: u32 },
    /// It ends before its last block.
    #[error("truncated: it was not written or copied to its end")]
    Truncated,
    /// Its content is not what was written.
    #[error("damaged: {what}, at byte {offset}")]
    Damaged { what: &'static str, offset: u64 },
    /// It is of another fleet.
    #[error("it is of another {what}: {}, and not {}; save one for this call", escaped(.saved), escaped(.wanted))]
    OtherSource { what: &'static str, saved: String, wanted: String },
    /// The configuration names other databases, or other places of their replicas, than when it was saved.
    #[error("the configuration file names other databases or other places than when it was saved: save it again")]
    OtherConfiguration,
}

impl SavedError {
    /// The class that the error log names.
    pub fn class(&self) -> Class {
        match self {
            Self::Io(_) => Class::Io,
            _ => Class::Config,
        }
    }
}

impl From<std::io::Error> for SavedError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error.to_string()),
        }
    }
}
