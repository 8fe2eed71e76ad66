//! The errors of arguments and of litestream.yml: the reasons why they do not give the location of a replica.

#![allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]

use crate::error::{Class, escaped};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// An error in the arguments or in litestream.yml. Everything that reads URLs, paths or the configuration returns it,
/// before any request is sent; `restore-pattern` also returns it for one database whose entry cannot be used.
/// An error holds no secrets. Of a value that could be one, only the name of its setting is kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("config file not found: {}", shown(.0))]
    FileNotFound(PathBuf),
    #[error("cannot read config file {}: {}", shown(.path), escaped(.detail))]
    FileUnreadable { path: PathBuf, detail: String },
    /// The configuration file, or its text after variables were expanded, is larger than the limit.
    #[error("config file {} is larger than {limit_bytes} bytes", shown(.path))]
    FileTooLarge { path: PathBuf, limit_bytes: u64 },
    /// The configuration file is not valid YAML, or does not have the structure of litestream.yml. Line and column
    /// count from 1, in the text after variables were expanded. They are 0 if the parser does not know them.
    #[error("config file {}{}: {}", shown(.path), place(*.line, *.column), escaped(.reason))]
    Yaml { path: PathBuf, line: u64, column: u64, reason: String },
    #[error("database not found in config: {}", shown(.0))]
    DatabaseNotFound(PathBuf),
    #[error("must specify replica for database")]
    ReplicaMissing,
    #[error("multiple replicas on a single database are no longer supported")]
    MultipleReplicas,
    #[error("cannot specify 'replica' and 'replicas' on a database")]
    ReplicaAndReplicas,
    #[error("age encryption is not currently supported")]
    AgeEncryption,
    #[error("cannot specify url & bucket for s3 replica")]
    UrlAndBucket,
    #[error("cannot specify url & path for {kind} replica")]
    UrlAndPath { kind: &'static str },
    /// The replica's setting `path:` holds a URL, which belongs into `url:`.
    #[error("replica path cannot be a url, please use the 'url' field instead")]
    PathIsUrl,
    #[error("replica url scheme required: {}", escaped(.url))]
    UrlSchemeMissing { url: String },
    /// The replica type or the URL scheme is one from which Hydrant cannot read.
    #[error(
        "replica type '{}' is not supported: replicas are read from s3:// and file:// \
         (a copy of the replica's folder in either of them can be restored)",
        escaped(.kind)
    )]
    UnsupportedType { kind: String },
    #[error("bucket required for s3 replica")]
    BucketMissing,
    /// The bucket's name is malformed. The message does not show it, because it may be a part of a password.
    #[error("the S3 bucket's name is malformed (another service's host is given as s3://bucket/path?endpoint=HOST)")]
    BadBucket,
    #[error("invalid S3 access point ARN, expected s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/path")]
    BadArn,
    /// A replica of type `file` has no path. If `bucket_set`, the user probably meant S3: a replica with `bucket:` but
    /// neither `type:` nor `url:` has the type `file` (docs/FORMAT.md, "litestream.yml").
    #[error(
        "file replica path required{}",
        if *.bucket_set { " (without 'type: s3' or an s3:// url, a replica is of type file)" } else { "" }
    )]
    FilePathMissing { bucket_set: bool },
    /// The URL has a malformed %-escape, or one that does not decode to UTF-8.
    #[error("replica url has a malformed %-escape (a literal % is written %25)")]
    BadEscape,
    #[error(
        "credentials in a replica url are not supported: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
         or access-key-id and secret-access-key in the config"
    )]
    UserInfo,
    #[error("replica url: {key} must be true or false")]
    BadBoolean { key: &'static str },
    #[error("{setting}: {reason}")]
    BadEndpoint { setting: &'static str, reason: &'static str },
    #[error("sse-customer-algorithm must be AES256, not '{}'", escaped(.found))]
    SseAlgorithm { found: String },
    #[error("{reason}")]
    SseKey { reason: &'static str },
    #[error("cannot read sse-customer-key-path {}: {}", shown(.path), escaped(.detail))]
    SseKeyFile { path: PathBuf, detail: String },
    #[error("sse-customer-key requires an https endpoint (http only for localhost and private addresses)")]
    SseNeedsHttps,
    #[error("database config #{number}: cannot specify both 'path' and 'dir'")]
    PathAndDir { number: usize },
    #[error("database config #{number}: must specify either 'path' or 'dir'")]
    PathOrDirMissing { number: usize },
    #[error("database config #{number}: 'pattern' is required when using 'dir'")]
    DirPatternMissing { number: usize },
    #[error("syntax error in pattern '{}'", escaped(.pattern))]
    BadDirPattern { pattern: String },
    /// The error of one entry of `dbs:`, with its place. `unset` are variables without a value in its text.
    #[error(
        "{error}{}; {}config file {}{}",
        not_set(.unset),
        database_text(.database),
        shown(.path),
        if *.line == 0 { String::new() } else { format!(", line {line}") }
    )]
    Entry { error: Box<ConfigError>, unset: Vec<String>, database: PathBuf, path: PathBuf, line: u64 },
    /// A parameter of a replica URL that is a letter, a hyphen or its case away from one that has an effect.
    #[error("replica url: unknown parameter '{}': did you mean {near}?", escaped(.found))]
    UnknownParameter { found: String, near: &'static str },
    /// A parameter of a replica URL that has the name of a key or a secret.
    #[error("replica url: keys do not belong in a URL: set {instead}")]
    KeyInUrl { instead: &'static str },
    #[error("cannot expand path {}, no home directory available", shown(.0))]
    HomeUnknown(PathBuf),
    #[error("cannot find the current directory: {}", escaped(.detail))]
    NoCurrentDirectory { detail: String },
    #[error("a path is required, not an empty text")]
    EmptyPath,
}

impl ConfigError {
    /// The class that the error log names.
    pub const fn class(&self) -> Class {
        match self {
            Self::AgeEncryption => Class::Encrypted,
            Self::Entry { error, .. } => error.class(),
            _ => Class::Config,
        }
    }
}

fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

fn place(line: u64, column: u64) -> String {
    if line == 0 { String::new() } else { format!(", line {line}, column {column}") }
}

fn not_set(unset: &[String]) -> String {
    match unset {
        [] => String::new(),
        [name] => format!(" (${name} is not set)"),
        names => format!(" (not set: {})", names.iter().map(|name| format!("${name}")).collect::<Vec<_>>().join(", ")),
    }
}

fn database_text(database: &Path) -> String {
    if database.as_os_str().is_empty() { String::new() } else { format!("database {} in ", shown(database)) }
}
