//! Why an argument or a configuration gives no location.

use crate::error::{Class, escaped};
use std::fmt;
use std::path::PathBuf;

/// An error in the arguments or in litestream.yml. Holds no secret: of a value that could be one,
/// only the name of its key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    FileNotFound(PathBuf),
    FileUnreadable {
        path: PathBuf,
        detail: String,
    },
    /// The file, or its text after variables were expanded, exceeds the limit.
    FileTooLarge {
        path: PathBuf,
        limit_bytes: u64,
    },
    /// Not YAML, or not of litestream.yml's shape. Line and column count from 1 in the text after
    /// variables were expanded; 0 if the parser does not know them.
    Yaml {
        path: PathBuf,
        line: u64,
        column: u64,
        reason: String,
    },
    DatabaseNotFound(PathBuf),
    ReplicaMissing,
    MultipleReplicas,
    ReplicaAndReplicas,
    AgeEncryption,
    UrlAndBucket,
    UrlAndPath {
        kind: &'static str,
    },
    /// `path:` holds a URL.
    PathIsUrl,
    UrlSchemeMissing {
        url: String,
    },
    /// A replica type or URL scheme that Hydrant does not read.
    UnsupportedType {
        kind: String,
    },
    BucketMissing,
    /// The name is not shown: it may be a part of a password.
    BadBucket,
    BadArn,
    /// `bucket:` is set, but neither `type:` nor `url:`: then the type is `file` (docs/FORMAT.md,
    /// "litestream.yml").
    FilePathMissing {
        bucket_set: bool,
    },
    /// A malformed %-escape, or one that is not UTF-8.
    BadEscape,
    UserInfo,
    BadBoolean {
        key: &'static str,
    },
    BadEndpoint {
        setting: &'static str,
        reason: &'static str,
    },
    SseAlgorithm {
        found: String,
    },
    SseKey {
        reason: &'static str,
    },
    SseKeyFile {
        path: PathBuf,
        detail: String,
    },
    SseNeedsHttps,
    PathAndDir {
        number: usize,
    },
    PathOrDirMissing {
        number: usize,
    },
    DirPatternMissing {
        number: usize,
    },
    BadDirPattern {
        pattern: String,
    },
    /// A value of the section `restore-pattern:`.
    RestorePattern {
        key: &'static str,
        reason: String,
    },
    HomeUnknown(PathBuf),
    NoCurrentDirectory {
        detail: String,
    },
    EmptyPath,
}

impl ConfigError {
    pub const fn class(&self) -> Class {
        Class::Config
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &PathBuf| escaped(&path.to_string_lossy());
        match self {
            Self::FileNotFound(path) => write!(f, "config file not found: {}", shown(path)),
            Self::FileUnreadable { path, detail } => {
                write!(f, "cannot read config file {}: {}", shown(path), escaped(detail))
            }
            Self::FileTooLarge { path, limit_bytes } => {
                write!(f, "config file {} is larger than {limit_bytes} bytes", shown(path))
            }
            Self::Yaml { path, line: 0, reason, .. } => {
                write!(f, "config file {}: {}", shown(path), escaped(reason))
            }
            Self::Yaml { path, line, column, reason } => {
                write!(f, "config file {}, line {line}, column {column}: {}", shown(path), escaped(reason))
            }
            Self::DatabaseNotFound(path) => write!(f, "database not found in config: {}", shown(path)),
            Self::ReplicaMissing => f.write_str("must specify replica for database"),
            Self::MultipleReplicas => f.write_str("multiple replicas on a single database are no longer supported"),
            Self::ReplicaAndReplicas => f.write_str("cannot specify 'replica' and 'replicas' on a database"),
            Self::AgeEncryption => f.write_str("age encryption is not currently supported"),
            Self::UrlAndBucket => f.write_str("cannot specify url & bucket for s3 replica"),
            Self::UrlAndPath { kind } => write!(f, "cannot specify url & path for {kind} replica"),
            Self::PathIsUrl => f.write_str("replica path cannot be a url, please use the 'url' field instead"),
            Self::UrlSchemeMissing { url } => write!(f, "replica url scheme required: {}", escaped(url)),
            Self::UnsupportedType { kind } => write!(
                f,
                "replica type '{}' is not supported: replicas are read from s3:// and file:// \
                 (a copy of the replica's folder in either of them can be restored)",
                escaped(kind)
            ),
            Self::BucketMissing => f.write_str("bucket required for s3 replica"),
            Self::BadBucket => f.write_str(
                "the S3 bucket's name is malformed (another service's host is given as s3://bucket/path?endpoint=HOST)",
            ),
            Self::BadArn => f.write_str(
                "invalid S3 access point ARN, expected s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/path",
            ),
            Self::FilePathMissing { bucket_set: false } => f.write_str("file replica path required"),
            Self::FilePathMissing { bucket_set: true } => f.write_str(
                "file replica path required (without 'type: s3' or an s3:// url, a replica is of type file)",
            ),
            Self::BadEscape => f.write_str("replica url has a malformed %-escape (a literal % is written %25)"),
            Self::UserInfo => f.write_str(
                "credentials in a replica url are not supported: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 or access-key-id and secret-access-key in the config",
            ),
            Self::BadBoolean { key } => write!(f, "replica url: {key} must be true or false"),
            Self::BadEndpoint { setting, reason } => write!(f, "{setting}: {reason}"),
            Self::SseAlgorithm { found } => {
                write!(f, "sse-customer-algorithm must be AES256, not '{}'", escaped(found))
            }
            Self::SseKey { reason } => f.write_str(reason),
            Self::SseKeyFile { path, detail } => {
                write!(f, "cannot read sse-customer-key-path {}: {}", shown(path), escaped(detail))
            }
            Self::SseNeedsHttps => f.write_str(
                "sse-customer-key requires an https endpoint (http only for localhost and private addresses)",
            ),
            Self::PathAndDir { number } => {
                write!(f, "database config #{number}: cannot specify both 'path' and 'dir'")
            }
            Self::PathOrDirMissing { number } => {
                write!(f, "database config #{number}: must specify either 'path' or 'dir'")
            }
            Self::DirPatternMissing { number } => {
                write!(f, "database config #{number}: 'pattern' is required when using 'dir'")
            }
            Self::BadDirPattern { pattern } => write!(f, "syntax error in pattern '{}'", escaped(pattern)),
            Self::RestorePattern { key, reason } => write!(f, "restore-pattern: {key}: {}", escaped(reason)),
            Self::HomeUnknown(path) => {
                write!(f, "cannot expand path {}, no home directory available", shown(path))
            }
            Self::NoCurrentDirectory { detail } => {
                write!(f, "cannot find the current directory: {}", escaped(detail))
            }
            Self::EmptyPath => f.write_str("a path is required, not an empty text"),
        }
    }
}

impl std::error::Error for ConfigError {}
