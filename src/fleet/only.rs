//! `-only FILE`: the databases that a file names, so that a run does again exactly what failed before.
//!
//! The file is an error log, a report (`-report`), the lines of `-json`, or a list with one name a line. Of a report
//! and of lines, the databases with outcome `failed` count. A name is the configured path or the key, also as
//! `bucket/key` or `s3://bucket/key`.
//!
//! In an error log the name ends at ` - CLASS: `, and a key may hold such a text itself. So each line gives several
//! candidates, and the longest one that is a database's name counts.

use crate::error::{Class, escaped};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The size limit of the file: 1 GiB, a report about more than a million databases.
const LIMIT_BYTES: u64 = 1 << 30;
/// The beginning of a line of an error log.
const LOG_LINE: &str = "Failed to restore: ";

/// Why the file of `-only` cannot be used.
#[allow(missing_docs, reason = "the text in #[error] says what each variant and field is")]
#[derive(Debug, Error)]
pub enum OnlyError {
    #[error("cannot read {}: {reason}", escaped(&.path.to_string_lossy()))]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} holds neither a report nor lines of -json: {reason}", escaped(&.path.to_string_lossy()))]
    NoReport { path: PathBuf, reason: String },
    #[error("{} names no database that failed: there is nothing to do again", escaped(&.path.to_string_lossy()))]
    Empty { path: PathBuf },
}

/// The databases that a file names.
#[derive(Debug)]
pub struct Only {
    wanted: Vec<WantedName>,
    /// Directories of `dir:` entries. Such a directory fails as a whole if its listing fails, and stands for all
    /// databases below it.
    directories: Vec<String>,
}

/// The name of one database: candidates, the longest first.
#[derive(Debug, PartialEq, Eq)]
struct WantedName(Vec<String>);

/// Which subjects [`Only`] names.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Indexes of the subjects.
    pub indexes: BTreeSet<usize>,
    /// Names in the file that are no database's.
    pub unmatched: Vec<String>,
}

/// A report, or a line of `-json`.
#[derive(Deserialize)]
struct Document {
    databases: Option<Vec<Line>>,
    #[serde(flatten)]
    line: Line,
}

#[derive(Deserialize)]
struct Line {
    name: Option<String>,
    key: Option<String>,
    outcome: Option<String>,
}

impl Only {
    /// Reads the file. `directories` are the directories of the configuration's `dir:` entries.
    ///
    /// # Errors
    /// The file cannot be read, or names no database.
    pub fn read(path: &Path, directories: &[PathBuf]) -> Result<Self, OnlyError> {
        let unreadable = |e: std::io::Error| OnlyError::Unreadable { path: path.to_owned(), reason: e.to_string() };
        let file = File::open(path).map_err(unreadable)?;
        let mut file = BufReader::new(file.take(LIMIT_BYTES + 1));
        let begin = file.fill_buf().map_err(unreadable)?;
        let is_json = begin.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        if begin.get(..9).is_some_and(|begin| begin.eq_ignore_ascii_case(b"<!doctype")) {
            let reason = "it is a page; name the report that ends in .json".to_owned();
            return Err(OnlyError::NoReport { path: path.to_owned(), reason });
        }
        let wanted = match is_json {
            true => {
                from_json(file).map_err(|e| OnlyError::NoReport { path: path.to_owned(), reason: e.to_string() })?
            }
            false => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(unreadable)?;
                if text.len() as u64 > LIMIT_BYTES {
                    let reason = format!("it is larger than {LIMIT_BYTES} bytes");
                    return Err(OnlyError::Unreadable { path: path.to_owned(), reason });
                }
                text.lines().filter_map(from_line).collect()
            }
        };
        if wanted.is_empty() {
            return Err(OnlyError::Empty { path: path.to_owned() });
        }
        let directories = directories.iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
        Ok(Self { wanted, directories })
    }

    /// How many databases the file names.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether the file names none. [`Self::read`] refuses such a file.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Finds the named ones among `subjects`: names, and `bucket/key` where there is one.
    pub(super) fn choose(&self, subjects: &[(&str, Option<&str>)]) -> Chosen {
        let mut known: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, (name, id)) in subjects.iter().enumerate() {
            let own = [Some(*name), *id].into_iter().flatten();
            let names: BTreeSet<String> = own.flat_map(|name| [name.to_owned(), escaped(name)]).collect();
            names.into_iter().for_each(|name| known.entry(name).or_default().push(index));
        }
        let mut chosen = Chosen::default();
        for WantedName(candidates) in &self.wanted {
            if let Some(found) = candidates.iter().find_map(|name| known.get(name)) {
                chosen.indexes.extend(found);
            } else if let Some(dir) = candidates.iter().find(|name| self.directories.contains(name)) {
                let is_below = |name: &str| name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
                let below = subjects.iter().enumerate().filter(|(_, (name, _))| is_below(name));
                chosen.indexes.extend(below.map(|(index, _)| index));
            } else {
                chosen.unmatched.extend(candidates.first().cloned());
            }
        }
        chosen
    }
}

/// The failed databases of a report, or of lines of `-json`.
fn from_json(file: impl Read) -> Result<Vec<WantedName>, serde_json::Error> {
    let mut wanted = Vec::new();
    // Ends with the file, whose size is bounded.
    for document in serde_json::Deserializer::from_reader(file).into_iter::<Document>() {
        let Document { databases, line } = document?;
        wanted.extend(databases.into_iter().flatten().chain([line]).filter_map(from_record));
    }
    Ok(wanted)
}

/// None: it is no database, or it did not fail.
fn from_record(line: Line) -> Option<WantedName> {
    if line.outcome.as_deref() != Some("failed") {
        return None;
    }
    // The key names the bucket too, so it cannot be another database's.
    let names: Vec<String> = line.key.into_iter().chain(line.name).collect();
    (!names.is_empty()).then_some(WantedName(names))
}

/// None: the line is empty.
fn from_line(line: &str) -> Option<WantedName> {
    if let Some(entry) = line.strip_prefix(LOG_LINE) {
        let ends = entry.match_indices(" - ").filter(|(at, dash)| begins_with_class(entry, at + dash.len()));
        let mut names: Vec<String> = ends.filter_map(|(at, _)| Some(entry.get(..at)?.to_owned())).collect();
        names.reverse();
        return (!names.is_empty()).then_some(WantedName(names));
    }
    let name = line.trim();
    let name = name.strip_prefix("s3://").or_else(|| name.strip_prefix("file://")).unwrap_or(name);
    let name = if name.len() > 1 { name.trim_end_matches('/') } else { name };
    (!name.is_empty()).then(|| WantedName(vec![name.to_owned()]))
}

fn begins_with_class(entry: &str, at: usize) -> bool {
    entry.get(at..).is_some_and(|reason| Class::ALL.iter().any(|class| reason.starts_with(class.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that a file with `text` chooses among `names`, and those that are no database's.
    fn chosen(text: &str, names: &[&str]) -> Result<(Vec<String>, Vec<String>), OnlyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("only");
        std::fs::write(&path, text).unwrap();
        let only = Only::read(&path, &["/data/tenants".into()])?;
        let ids: Vec<String> = names.iter().map(|name| format!("bucket/{name}")).collect();
        let subjects: Vec<_> = names.iter().zip(&ids).map(|(name, id)| (*name, Some(id.as_str()))).collect();
        let chosen = only.choose(&subjects);
        Ok((chosen.indexes.iter().map(|i| names[*i].to_owned()).collect(), chosen.unmatched))
    }

    #[test]
    fn error_logs_reports_lines_and_lists_name_the_same() {
        let all = ["t/a.db", "t/b.db", "t/c.db", "t/d.db"];
        let report = r#"{"databases":[
            {"type":"database","name":"t/a.db","key":"bucket/t/a.db","outcome":"failed","class":"hole"},
            {"type":"database","name":"t/b.db","key":"bucket/t/b.db","outcome":"restored"},
            {"type":"database","name":"t/c.db","outcome":"failed"}],"summary":{"type":"summary","failed":2}}"#;
        let lines = "{\"name\":\"t/a.db\",\"outcome\":\"failed\"}\n{\"name\":\"t/b.db\",\"outcome\":\"skipped\"}\n\
                     {\"name\":\"t/c.db\",\"outcome\":\"failed\"}\n{\"type\":\"summary\",\"failed\":2}\n";
        let log = "Failed to restore: t/a.db - hole: have up to 1\nFailed to restore: t/c.db - S3 error: x - y\n";
        for text in [report, lines, log, "t/a.db\n\n  s3://bucket/t/c.db/\r\n", "bucket/t/c.db\nt/a.db\n"] {
            assert_eq!(chosen(text, &all).unwrap(), (vec!["t/a.db".to_owned(), "t/c.db".to_owned()], vec![]), "{text}");
        }
    }

    #[test]
    fn hostile_names_are_taken_apart_by_what_exists() {
        let odd = "a - hole: b\u{1b}[2J";
        let line = format!("Failed to restore: {} - truncated: c\n", escaped(odd));
        assert_eq!(chosen(&line, &["a", odd]).unwrap().0, [odd]);
        assert_eq!(chosen("Failed to restore: a - hole: b - truncated: c\n", &["a", "b"]).unwrap().0, ["a"]);
    }

    #[test]
    fn a_directory_that_failed_stands_for_its_databases() {
        let log = "Failed to restore: /data/tenants - S3 timeout: x\n";
        let names = ["/data/tenants/a.db", "/data/tenants2/b.db", "/data/tenants/c/d.db"];
        assert_eq!(chosen(log, &names).unwrap().0, [names[0], names[2]]);
        assert_eq!(chosen("/data\n", &names).unwrap(), (vec![], vec!["/data".to_owned()]));
    }

    #[test]
    fn what_names_nothing_is_an_error() {
        for text in ["", "\n \n", r#"{"databases":[],"summary":{}}"#, r#"{"name":"a","outcome":"restored"}"#] {
            assert!(matches!(chosen(text, &["a"]), Err(OnlyError::Empty { .. })), "{text}");
        }
        for text in [r#"{"databases":[{"name":"a""#, "{\"name\":1}", "{]"] {
            assert!(matches!(chosen(text, &["a"]), Err(OnlyError::NoReport { .. })), "{text}");
        }
        let missing = Only::read(Path::new("/nowhere/errors.log"), &[]).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere/errors.log: No such file or directory (os error 2)");
    }
}
