//! Parses the text of litestream.yml into typed entries.

use super::schema::{DatabaseYaml, FileYaml, ReplicaYaml, RestorePatternYaml, SectionYaml};
use super::{Config, ConfigError, DatabaseEntry, DirPattern, EntryKind, Env, RestorePattern, paths};
use crate::config::env::Ambient;
use crate::config::expand::{Expanded, expand};
use crate::config::locations;
use crate::error::escaped;
use serde::de::DeserializeOwned;
use serde_saphyr::Spanned;
use std::collections::HashMap;
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
    /// and an invalid section `restore-pattern:` are no errors here. They are kept in their place.
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
    let expanded = match expand_env {
        true => expand(text, env, TEXT_LIMIT_BYTES).ok_or_else(|| too_large(path))?,
        false => Expanded { text: text.to_owned(), unset: Vec::new() },
    };
    let text = first_document(&expanded.text);
    // The text is read twice, because its top level is both a FileYaml and a ReplicaYaml. serde's `flatten` would
    // read it once, but through a buffer without types: `bucket: 123` would be refused as not a string, and errors
    // would name the beginning of the file instead of their line and column. A single pass would also report the
    // first of two errors by position, not the one in `dbs` first.
    let file: FileYaml = parsed(path, text)?;
    let global: ReplicaYaml = parsed(path, text)?;
    let ambient = Ambient::new(env);
    let (lines, entries): (Vec<u64>, Vec<DatabaseYaml>) = file
        .dbs
        .into_iter()
        .flatten()
        .map(|entry| entry.map_or((0, DatabaseYaml::default()), |entry| (entry.referenced.line(), entry.value)))
        .unzip();
    let places = EntryPlaces { path, lines: &lines, expanded: &expanded };
    let databases: Vec<DatabaseEntry> =
        entries.iter().enumerate().map(|(index, yaml)| entry(index, yaml, &global, &ambient, &places)).collect();
    let warnings = doubled(&databases, &places);
    // The section is read on its own: what is wrong with it concerns `restore-pattern` alone.
    let restore_pattern = match text.contains(RESTORE_PATTERN) {
        true => parsed::<SectionYaml>(path, text)
            .and_then(|section| section.restore_pattern.map(|yaml| restore_pattern(path, yaml)).transpose())
            .transpose(),
        false => None,
    };
    Ok(Config { databases, restore_pattern, warnings })
}

/// The key of the section that is Hydrant's own.
const RESTORE_PATTERN: &str = "restore-pattern";

/// The first YAML document of `text`. Litestream reads no other, so what follows need not even be YAML. A line that
/// begins with `---` or `...` and a space or nothing ends a document wherever it is, also in a quoted text.
fn first_document(text: &str) -> &str {
    let mut begun = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_marker = |marker: &str| {
            let after = line.strip_prefix(marker);
            after.is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t', '\r', '\n']))
        };
        if begun && (is_marker("---") || is_marker("...")) {
            return text.get(..at).unwrap_or(text);
        }
        let content = line.trim_start_matches('\u{feff}').trim();
        // A directive (`%YAML 1.1`) and a comment come before the document.
        begun |= !(content.is_empty() || content.starts_with(['#', '%']) || is_marker("..."));
        at += line.len();
    }
    text
}

/// Where the entries of `dbs:` are, for messages.
struct EntryPlaces<'a> {
    path: &'a Path,
    /// The line of each entry, from 1. 0: not known.
    lines: &'a [u64],
    expanded: &'a Expanded,
}

impl EntryPlaces<'_> {
    fn line(&self, index: usize) -> u64 {
        self.lines.get(index).copied().unwrap_or(0)
    }

    /// Adds to the error of entry `index` its database, its place, and the variables without a value that its text
    /// and the file's global settings name.
    fn explained(&self, error: ConfigError, index: usize, database: &Path) -> ConfigError {
        let line = self.line(index);
        let next = self.lines.iter().skip(index + 1).copied().find(|next| *next > 0).unwrap_or(u64::MAX);
        let first = self.lines.iter().copied().find(|first| *first > 0).unwrap_or(u64::MAX);
        let concerns = |at: u64| is_for_want_of_a_value(&error) && (at < first || (line..next).contains(&at));
        let unset = self.expanded.unset.iter().filter(|unset| concerns(unset.line)).map(|unset| unset.name.clone());
        let unset = unset.collect();
        ConfigError::Entry {
            error: Box::new(error),
            unset,
            database: database.to_owned(),
            path: self.path.to_owned(),
            line,
        }
    }
}

/// Whether a variable without a value may be the reason for `error`.
fn is_for_want_of_a_value(error: &ConfigError) -> bool {
    use ConfigError::*;
    matches!(
        error,
        BucketMissing
            | BadBucket
            | BadArn
            | BadEndpoint { .. }
            | FilePathMissing { .. }
            | UrlSchemeMissing { .. }
            | ReplicaMissing
            | PathOrDirMissing { .. }
            | DirPatternMissing { .. }
            | EmptyPath
    )
}

/// Warnings about paths that several entries have: the first of them counts.
fn doubled(databases: &[DatabaseEntry], places: &EntryPlaces<'_>) -> Vec<String> {
    let mut seen: HashMap<&Path, usize> = HashMap::new();
    let mut warnings = Vec::new();
    for (index, entry) in databases.iter().enumerate() {
        let EntryKind::Path(path) = &entry.kind else { continue };
        if path.as_os_str().is_empty() {
            continue;
        }
        let first = *seen.entry(path).or_insert(index);
        if first != index && warnings.len() < MOST_WARNINGS {
            warnings.push(format!(
                "config file {}: {} is configured twice, in lines {} and {}: the first counts",
                escaped(&places.path.to_string_lossy()),
                escaped(&path.to_string_lossy()),
                places.line(first),
                places.line(index)
            ));
        }
    }
    warnings
}

/// At most this many paths that are configured twice are named.
const MOST_WARNINGS: usize = 20;

fn too_large(path: &Path) -> ConfigError {
    ConfigError::FileTooLarge {
        path: path.to_owned(),
        limit_bytes: u64::try_from(TEXT_LIMIT_BYTES).unwrap_or(u64::MAX),
    }
}

/// The element of `dbs:` with this index.
fn entry(
    index: usize,
    yaml: &DatabaseYaml,
    global: &ReplicaYaml,
    ambient: &Ambient<'_>,
    places: &EntryPlaces<'_>,
) -> DatabaseEntry {
    let (env, number) = (ambient.env(), index + 1);
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (kind, replica) = match (given(&yaml.path), given(&yaml.dir)) {
        (Some(path), dir) => {
            let both = dir.is_some().then_some(ConfigError::PathAndDir { number });
            let (path, bad_path) = cleaned(&path, env);
            let replica = both.or(bad_path).map_or_else(|| replica(yaml, global, ambient), Err);
            (EntryKind::Path(path), replica)
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
            (EntryKind::Dir { dir, pattern, recursive: yaml.recursive.unwrap_or(false) }, replica)
        }
        (None, None) => (EntryKind::Path(PathBuf::new()), Err(ConfigError::PathOrDirMissing { number })),
    };
    let database = match &kind {
        EntryKind::Path(path) => path,
        EntryKind::Dir { dir, .. } => dir,
    };
    let replica = replica.map_err(|error| places.explained(error, index, database));
    DatabaseEntry { kind, replica }
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

fn restore_pattern(path: &Path, yaml: RestorePatternYaml) -> Result<RestorePattern, ConfigError> {
    let value = |number: &Option<Spanned<u32>>| number.as_ref().map(|number| number.value);
    if let Some(workers) = yaml.parallel_workers.as_ref().filter(|workers| workers.value == 0) {
        return Err(bad_setting(path, workers, "parallel-workers", "must be at least 1"));
    }
    let duration = |key, text: &Spanned<String>| {
        super::parse_go_duration(&text.value).map_err(|e| bad_setting(path, text, key, &e.to_string()))
    };
    let mode = |key, text: &Spanned<String>| {
        super::parse_mode(&text.value)
            .ok_or_else(|| bad_setting(path, text, key, "must be octal permissions, for example 0640"))
    };
    Ok(RestorePattern {
        parallel_workers: value(&yaml.parallel_workers),
        max_retries: value(&yaml.max_retries),
        retry_delay: yaml.retry_delay.as_ref().map(|text| duration("retry-delay", text)).transpose()?,
        connect_timeout: yaml.connect_timeout.as_ref().map(|text| duration("connect-timeout", text)).transpose()?,
        stall_timeout: yaml.stall_timeout.as_ref().map(|text| duration("stall-timeout", text)).transpose()?,
        owner: yaml.owner.map(|owner| owner.value).filter(|owner| !owner.is_empty()),
        mode: yaml.mode.as_ref().map(|text| mode("mode", text)).transpose()?,
        dir_mode: yaml.dir_mode.as_ref().map(|text| mode("dir-mode", text)).transpose()?,
    })
}

/// The error of the setting `key` of `restore-pattern:`, whose value was parsed and cannot be used.
fn bad_setting<T>(path: &Path, value: &Spanned<T>, key: &str, reason: &str) -> ConfigError {
    ConfigError::Yaml {
        path: path.to_owned(),
        line: value.referenced.line(),
        column: value.referenced.column(),
        reason: format!("{RESTORE_PATTERN}: {key}: {reason}"),
    }
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

/// The text about the key `field` that the section `restore-pattern:` does not have.
fn unknown_setting(field: &str, expected: &[&str]) -> String {
    // A name is short. Anything else may be a value that lost its key.
    let is_name = field.len() <= 32 && field.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_'));
    let field = if is_name { format!(" '{field}'") } else { String::new() };
    format!("{RESTORE_PATTERN}: unknown key{field}, expected {}", expected.join(", "))
}

/// Describes a YAML error without any value from the file, because the library's own messages quote values, which
/// may be secrets.
fn reason(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::InvalidScalar { ty, .. } => format!("expected a value of type {ty}"),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("expected {expected}")
        }
        Error::Unexpected { expected, .. } => format!("expected {expected}"),
        // Only the section `restore-pattern` refuses unknown keys.
        Error::SerdeUnknownField { field, expected, .. } => unknown_setting(field, expected),
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
