//! Parses the text of litestream.yml into typed entries.

use super::schema::{DatabaseYaml, FileYaml, ReplicaYaml, RestorePatternYaml};
use super::{Config, ConfigError, DatabaseEntry, DirPattern, EntryKind, Env, RestorePattern, paths};
use crate::config::env::Ambient;
use crate::config::locations;
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The size limit of litestream.yml, and of its text after variables were expanded: 64 MiB.
const TEXT_LIMIT_BYTES: usize = 64 << 20;

/// The limit on YAML nodes and on parser events. It is enough for a million databases with ten keys each.
const NODE_LIMIT: usize = 20_000_000;

/// The limit on parser events that aliases expand to. It is enough for 20 events in each of 100,000 entries.
const ALIAS_EVENT_LIMIT: usize = 2_000_000;

impl Config {
    /// Reads and parses the file at `path`, in which `~/` means `$HOME`. If `expand_env` is true, `$VAR` and
    /// `${VAR}` are replaced by the variables of `env` first, as Go's `os.Expand` does. `$PID` is the ID of this
    /// process.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the file cannot be read, is too large or is not valid YAML. An invalid entry of `dbs:`
    /// is not an error here; it is kept in that entry.
    pub fn load(path: &Path, expand_env: bool, env: &Env<'_>) -> Result<Self, ConfigError> {
        let path = paths::expand_home(path, env)?;
        from_text(&path, &read(&path)?, expand_env, env)
    }

    /// Parses `text` as [`Self::load`] does. `path` is the file's name in messages.
    pub fn parse(path: &Path, text: &str, expand_env: bool, env: &Env<'_>) -> Result<Self, ConfigError> {
        from_text(path, text, expand_env, env)
    }
}

/// Reads the file as text. A file larger than [`TEXT_LIMIT_BYTES`] is an error.
fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable =
        |error: std::io::Error| ConfigError::FileUnreadable { path: path.to_owned(), detail: error.to_string() };
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ConfigError::FileNotFound(path.to_owned()),
        _ => unreadable(error),
    })?;
    let mut text = String::new();
    let limit = u64::try_from(TEXT_LIMIT_BYTES).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(too_large(path));
    }
    Ok(text)
}

fn from_text(path: &Path, text: &str, expand_env: bool, env: &Env<'_>) -> Result<Config, ConfigError> {
    let expanded;
    let text = if expand_env {
        expanded = expand(text, env).ok_or_else(|| too_large(path))?;
        expanded.as_str()
    } else {
        text
    };
    // The text is read twice, because its top level is both a FileYaml and a ReplicaYaml. serde's `flatten` would
    // read it once, but through a buffer without types: `bucket: 123` would be refused as not a string, and errors
    // would name the beginning of the file instead of their line and column. A single pass would also report the
    // first of two errors by position, not the one in `dbs` first.
    let file: FileYaml = parsed(path, text)?;
    let global: ReplicaYaml = parsed(path, text)?;
    let ambient = Ambient::new(env);
    let databases = file
        .dbs
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, yaml)| entry(index + 1, &yaml.unwrap_or_default(), &global, &ambient))
        .collect();
    let restore_pattern = file.restore_pattern.map(restore_pattern).transpose()?;
    Ok(Config { databases, restore_pattern })
}

fn too_large(path: &Path) -> ConfigError {
    ConfigError::FileTooLarge {
        path: path.to_owned(),
        limit_bytes: u64::try_from(TEXT_LIMIT_BYTES).unwrap_or(u64::MAX),
    }
}

/// The `number`-th element of `dbs:`, counted from 1.
fn entry(number: usize, yaml: &DatabaseYaml, global: &ReplicaYaml, ambient: &Ambient<'_>) -> DatabaseEntry {
    let env = ambient.env();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (given(&yaml.path), given(&yaml.dir)) {
        (Some(path), dir) => {
            let both = dir.is_some().then_some(ConfigError::PathAndDir { number });
            let (path, bad_path) = cleaned(&path, env);
            let replica = both.or(bad_path).map_or_else(|| replica(yaml, global, ambient), Err);
            DatabaseEntry { kind: EntryKind::Path(path), replica }
        }
        (None, Some(dir)) => {
            let (dir, bad_dir) = cleaned(&dir, env);
            let pattern = given(&yaml.pattern)
                .ok_or(ConfigError::DirPatternMissing { number })
                .and_then(|pattern| DirPattern::parse(&pattern));
            let (pattern, bad_pattern) = match pattern {
                Ok(pattern) => (pattern, None),
                Err(error) => (DirPattern::any(), Some(error)),
            };
            let replica = bad_dir.or(bad_pattern).map_or_else(|| replica(yaml, global, ambient), Err);
            DatabaseEntry { kind: EntryKind::Dir { dir, pattern, recursive: yaml.recursive.unwrap_or(false) }, replica }
        }
        (None, None) => DatabaseEntry {
            kind: EntryKind::Path(PathBuf::new()),
            replica: Err(ConfigError::PathOrDirMissing { number }),
        },
    }
}

/// The clean form of `path`. If it cannot be cleaned, the path as written and the error.
fn cleaned(path: &str, env: &Env<'_>) -> (PathBuf, Option<ConfigError>) {
    match paths::clean_path(Path::new(path), env) {
        Ok(path) => (path, None),
        Err(error) => (PathBuf::from(path), Some(error)),
    }
}

fn replica(yaml: &DatabaseYaml, global: &ReplicaYaml, ambient: &Ambient<'_>) -> Result<super::Location, ConfigError> {
    let replicas = yaml.replicas.as_deref().unwrap_or_default();
    let unset = ReplicaYaml::default();
    match (&yaml.replica, replicas) {
        (None, []) => Err(ConfigError::ReplicaMissing),
        (Some(_), [_, ..]) => Err(ConfigError::ReplicaAndReplicas),
        (None, [_, _, ..]) => Err(ConfigError::MultipleReplicas),
        (Some(replica), []) => locations::location(replica, global, ambient),
        (None, [replica]) => locations::location(replica.as_ref().unwrap_or(&unset), global, ambient),
    }
}

fn restore_pattern(yaml: RestorePatternYaml) -> Result<RestorePattern, ConfigError> {
    if yaml.parallel_workers == Some(0) {
        return Err(ConfigError::RestorePattern { key: "parallel-workers", reason: "must be at least 1".to_owned() });
    }
    let duration = |key: &'static str, text: Option<String>| {
        let parsed = text.as_deref().map(super::parse_go_duration).transpose();
        parsed.map_err(|error| ConfigError::RestorePattern { key, reason: error.to_string() })
    };
    Ok(RestorePattern {
        parallel_workers: yaml.parallel_workers,
        max_retries: yaml.max_retries,
        retry_delay: duration("retry-delay", yaml.retry_delay)?,
        connect_timeout: duration("connect-timeout", yaml.connect_timeout)?,
        stall_timeout: duration("stall-timeout", yaml.stall_timeout)?,
    })
}

/// Parses `text` as one YAML document. An empty document gives the default value.
fn parsed<T: DeserializeOwned + Default>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: NODE_LIMIT,
            max_nodes: NODE_LIMIT,
            max_recorded_anchor_events: ALIAS_EVENT_LIMIT,
            max_aliases: ALIAS_EVENT_LIMIT,
            max_merge_keys: ALIAS_EVENT_LIMIT,
            // This check is off: it takes an anchor with many aliases for an attack, but thousands of databases
            // may share one anchor.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_EVENT_LIMIT,
            max_alias_expansions_per_anchor: ALIAS_EVENT_LIMIT,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        emit_comments: false,
        // Snippets are off: the text around an error may hold a secret.
        with_snippet: false,
    };
    let parsed: Result<Option<T>, _> = serde_saphyr::from_str_with_options(text, options);
    parsed.map(Option::unwrap_or_default).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        ConfigError::Yaml { path: path.to_owned(), line, column, reason: reason(error) }
    })
}

/// Describes a YAML error without any text from the file, because the library's own messages quote values, which
/// may be secrets.
fn reason(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::InvalidScalar { ty, .. } => format!("expected a value of type {ty}"),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("expected {expected}")
        }
        Error::Unexpected { expected, .. } => format!("expected {expected}"),
        Error::MultipleDocuments { .. } => "more than one YAML document".to_owned(),
        Error::UnknownAnchor { .. } => "unknown anchor".to_owned(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "<< needs a mapping".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "too large, too deeply nested, or too many aliases".to_owned(),
        Error::AliasError { error, .. } => reason(error),
        // The messages of the YAML scanner speak about syntax only and quote no values.
        Error::ExternalMessage { msg, .. } => format!("malformed YAML: {msg}"),
        _ => "malformed YAML".to_owned(),
    }
}

/// Replaces `$NAME` and `${NAME}` as Go's `os.Expand` does. A variable that is not set becomes empty.
/// `${NAME:-default}` has no special meaning: it names a variable that does not exist. A `$` before any other
/// character stays. Malformed braces are removed. Returns None if the result is larger than the limit.
fn expand(text: &str, env: &Env<'_>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = match shell_name(after) {
            Reference::Name(name, after) => {
                out.push_str(&value_of(name, env));
                after
            }
            Reference::Malformed(after) => after,
            Reference::None => {
                out.push('$');
                after
            }
        };
        if out.len() > TEXT_LIMIT_BYTES {
            return None;
        }
    }
    out.push_str(rest);
    (out.len() <= TEXT_LIMIT_BYTES).then_some(out)
}

fn value_of(name: &str, env: &Env<'_>) -> String {
    if name == "PID" { std::process::id().to_string() } else { env(name).unwrap_or_default() }
}

/// What follows a `$`. The second text of `Name`, and the text of `Malformed`, is the rest of the input.
enum Reference<'a> {
    Name(&'a str, &'a str),
    Malformed(&'a str),
    None,
}

fn shell_name(text: &str) -> Reference<'_> {
    let is_special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9');
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.split_once('}') {
            Some(("", after)) => Reference::Malformed(after),
            Some((name, after)) => Reference::Name(name, after),
            None => Reference::Malformed(inner),
        };
    }
    let end = match text.chars().next() {
        Some(c) if is_special(c) => c.len_utf8(),
        _ => text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len()),
    };
    match text.split_at_checked(end) {
        Some((name, after)) if !name.is_empty() => Reference::Name(name, after),
        _ => Reference::None,
    }
}
