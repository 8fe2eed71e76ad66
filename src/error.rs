//! Classes of failures, which operators and scripts distinguish (docs/CLI.md, "Error log classes").
//!
//! Each module has its own error type, which contains the facts (object key, offset, expected and found value).
//! Every error type assigns one of these classes. The error log names the class in front of the reason.

use std::fmt;

/// First words of the message if a case that the code rules out has happened.
pub(crate) const BUG: &str = "this is a bug in Hydrant, please report";

/// Class of a failure. Its name is the first part of the reason in the error log. Every error has one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The bucket or directory has no backup of the database.
    BackupNotFound,
    /// The backups do not contain the wanted state: they end before the TXID, or they begin after the
    /// timestamp.
    TargetNotReachable,
    /// Transactions are missing between two LTX files of the chain.
    Hole,
    /// The first LTX file does not begin at transaction 1, so it is no complete snapshot.
    ChainDoesNotBeginAtOne,
    /// A generation of Litestream 0.3 has WAL, but no snapshot.
    NoSnapshot,
    /// An LTX file is shorter than its header or its listed size says.
    Truncated,
    /// An LTX file does not have the format that docs/FORMAT.md describes.
    Malformed,
    /// A checksum in an LTX file does not match the data.
    ChecksumMismatch,
    /// An LTX file's name and its header contradict each other.
    NameAndHeaderDisagree,
    /// A file was encrypted by its writer, and Hydrant has no key.
    Encrypted,
    /// A file exists at the output path and must not be replaced.
    OutputExists,
    /// A running process uses the database that is to be replaced.
    InUse,
    /// Two databases of one run have the same output path.
    PathCollision,
    /// The output path would lead out of the output directory, is not allowed as a file name, or is a symbolic
    /// link or a special file.
    UnsafePath,
    /// The store denied access (HTTP 401 or 403), or credentials are missing or have expired.
    AccessDenied,
    /// The store did not answer in time, in all attempts.
    S3Timeout,
    /// The bucket asked for fewer requests (HTTP 503 or 429), in all attempts.
    Throttled,
    /// Any other failure of a request to the store.
    S3Error,
    /// The disk or the user's quota is full.
    DiskFull,
    /// Any other error of the local file system, or a bug in Hydrant.
    Io,
    /// SQLite's check found damage in the restored database, or could not run.
    IntegrityCheck,
    /// The command line or the configuration cannot be used, for example because of a malformed URL.
    Config,
    /// A signal such as SIGINT stopped the run.
    Cancelled,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 23] = [
        Self::BackupNotFound,
        Self::TargetNotReachable,
        Self::Hole,
        Self::ChainDoesNotBeginAtOne,
        Self::NoSnapshot,
        Self::Truncated,
        Self::Malformed,
        Self::ChecksumMismatch,
        Self::NameAndHeaderDisagree,
        Self::Encrypted,
        Self::OutputExists,
        Self::InUse,
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

    /// The class in words, as the error log and JSON have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackupNotFound => "backup not found",
            Self::TargetNotReachable => "target not reachable",
            Self::Hole => "hole",
            Self::ChainDoesNotBeginAtOne => "chain does not begin at 1",
            Self::NoSnapshot => "no snapshot",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::ChecksumMismatch => "checksum mismatch",
            Self::NameAndHeaderDisagree => "name and header disagree",
            Self::Encrypted => "encrypted",
            Self::OutputExists => "output exists",
            Self::InUse => "output in use",
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

/// Whether a terminal may do something other than show `c`: control characters with DEL, separators of lines and
/// paragraphs, and marks of the direction of writing.
pub(crate) fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Returns `text` with control characters and Unicode marks of text direction escaped. Names and error texts come
/// from buckets. Without this they could control the terminal or break a line of the log (docs/CLI.md, "Escaping").
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe_to_show(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns the JSON text `json` in a form that is safe to show on a terminal. Every character that [`escaped`] escapes
/// is written as a JSON escape: a backslash, `u` and four hex digits. These characters occur only inside JSON strings,
/// where the escape means the same character.
pub(crate) fn json_escaped(json: String) -> String {
    // JSON itself escapes control characters below U+0020 in strings. Outside of strings it has line feeds.
    let is_unsafe = |c: char| c >= '\u{7f}' && is_unsafe_to_show(c);
    if !json.contains(is_unsafe) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "a\u{7f}b\u{85}c\u{2028}d\u{202e}e\u{61c}é\u{1f600}";

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(escaped(ODD), "a\\u{7f}b\\u{85}c\\u{2028}d\\u{202e}e\\u{61c}é\u{1f600}");
    }

    #[test]
    fn json_means_the_same_and_holds_none_of_it() {
        let json = json_escaped(serde_json::to_string_pretty(&[ODD]).unwrap());
        assert!(!json.chars().any(|c| c != '\n' && is_unsafe_to_show(c)), "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [ODD]);
        assert!(json.contains("a\\u007fb\\u0085c\\u2028d\\u202ee"), "{json}");
    }
}
