//! The classes of failures that operators and scripts distinguish (docs/CLI.md, "Error log classes").
//!
//! Each module has its own error type with the facts (key, offset, expected, found). All of them have a class. The
//! class is the first part of a reason in the error log.

use std::fmt;

/// How the reason begins if a case that cannot happen has happened.
pub(crate) const BUG: &str = "this is a bug in Hydrant, please report";

/// The class of a failure: the first words of the reason in the error log. Every error has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    BackupNotFound,
    /// The backups do not hold the wanted state: they do not reach the TXID, or they begin after the timestamp.
    TargetNotReachable,
    Hole,
    ChainDoesNotBeginAtOne,
    Truncated,
    Malformed,
    ChecksumMismatch,
    NameAndHeaderDisagree,
    OutputExists,
    PathCollision,
    UnsafePath,
    AccessDenied,
    S3Timeout,
    Throttled,
    S3Error,
    DiskFull,
    Io,
    IntegrityCheck,
    /// The command line or the configuration is invalid, for example a bad URL or an unknown replica type.
    Config,
    /// A signal stopped the run.
    Cancelled,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 20] = [
        Self::BackupNotFound,
        Self::TargetNotReachable,
        Self::Hole,
        Self::ChainDoesNotBeginAtOne,
        Self::Truncated,
        Self::Malformed,
        Self::ChecksumMismatch,
        Self::NameAndHeaderDisagree,
        Self::OutputExists,
        Self::PathCollision,
        Self::UnsafePath,
        Self::AccessDenied,
        Self::S3Timeout,
        Self::Throttled,
        Self::S3Error,
        Self::DiskFull,
        Self::Io,
        Self::IntegrityCheck,
        Self::Config,
        Self::Cancelled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackupNotFound => "backup not found",
            Self::TargetNotReachable => "target not reachable",
            Self::Hole => "hole",
            Self::ChainDoesNotBeginAtOne => "chain does not begin at 1",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::ChecksumMismatch => "checksum mismatch",
            Self::NameAndHeaderDisagree => "name and header disagree",
            Self::OutputExists => "output exists",
            Self::PathCollision => "path collision",
            Self::UnsafePath => "unsafe path",
            Self::AccessDenied => "access denied",
            Self::S3Timeout => "S3 timeout",
            Self::Throttled => "throttled",
            Self::S3Error => "S3 error",
            Self::DiskFull => "disk full",
            Self::Io => "I/O error",
            Self::IntegrityCheck => "integrity check",
            Self::Config => "configuration",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns `text` with control characters and Unicode marks of text direction escaped. Names and error texts come
/// from buckets. Without this they could control the terminal or break a line of the log (docs/CLI.md, "Escaping").
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
