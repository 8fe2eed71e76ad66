//! The command line for one of the databases of a pattern, which reports show beside a failure.

use crate::cli::args::shell::shell_word;
use crate::error::escaped;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::path::Path;

/// The characters of a key that have a meaning in a URL.
const SPECIAL: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');

/// A command line that restores one database of a pattern, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatCall {
    /// The command and those of the flags that it has, each word quoted for a shell.
    pub flags: String,
    /// What stands before and behind the path of a database's URL. None: the pattern is about configured paths.
    pub url: Option<(String, String)>,
    /// Whether a configured database is restored to another path than its own. None: nothing is written.
    pub is_moved: Option<bool>,
}

impl RepeatCall {
    /// The command line for the database `name`, whose replica lies at `path`. None: no URL leads to this path, or
    /// there is no safe output path, or a terminal does not show the line as it is.
    pub fn of(&self, name: &str, path: &str, output: Option<&Path>) -> Option<String> {
        let source = match &self.url {
            None => name.to_owned(),
            // A URL's path is cleaned, so it cannot lead to a key with empty names.
            Some(_) if path.trim_start_matches('/').split('/').any(|part| matches!(part, "" | "." | "..")) => {
                return None;
            }
            Some((before, behind)) => format!("{before}{}{behind}", utf8_percent_encode(path, SPECIAL)),
        };
        let output = match self.is_moved {
            Some(is_moved) if is_moved || self.url.is_some() => format!(" -o {}", shell_word(output?.to_str()?)),
            _ => String::new(),
        };
        let dashes = if source.starts_with('-') { " --" } else { "" };
        let line = format!("{}{output}{dashes} {}", self.flags, shell_word(&source));
        (escaped(&line) == line).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: Option<(&str, &str)>, is_moved: bool, name: &str, path: &str) -> Option<String> {
        let url = url.map(|(before, behind)| (before.to_owned(), behind.to_owned()));
        let flags = "hydrant restore -force".to_owned();
        RepeatCall { flags, url, is_moved: Some(is_moved) }.of(name, path, Some(Path::new("/out/a b.db")))
    }

    #[test]
    fn a_database_of_a_url_is_named_by_its_own() {
        let url = Some(("s3://b/", "?region=x"));
        assert_eq!(
            of(url, false, "t/a b%.db", "t/a b%.db").unwrap(),
            "hydrant restore -force -o '/out/a b.db' 's3://b/t/a%20b%25.db?region=x'"
        );
        assert_eq!(
            of(Some(("file://", "")), false, "/x/a.db", "/x/a.db").unwrap(),
            "hydrant restore -force -o '/out/a b.db' file:///x/a.db"
        );
        for path in ["a//b", "a/../b", "./a"] {
            assert_eq!(of(url, false, path, path), None, "{path}");
        }
        assert_eq!(of(url, false, "x", "x\u{202e}").unwrap().matches("%E2%80%AE").count(), 1);
    }

    #[test]
    fn a_configured_database_is_named_by_its_path() {
        assert_eq!(of(None, false, "/srv/it's.db", "k").unwrap(), r"hydrant restore -force '/srv/it'\''s.db'");
        assert_eq!(of(None, true, "/srv/a.db", "k").unwrap(), "hydrant restore -force -o '/out/a b.db' /srv/a.db");
        assert_eq!(of(None, false, "/srv/\u{1b}[2J", "k"), None);
    }
}
