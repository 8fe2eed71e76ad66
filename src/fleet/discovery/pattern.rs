//! Patterns that select databases by name: by their keys in a bucket, or by their configured paths
//! (docs/CLI.md, "hydrant restore-pattern").
//!
//! The syntax is that of the crate globset. `**` matches across slashes; `*`, `?` and `[a-z]` do not. `{a,b}`
//! matches either text, and `\` escapes the next character. `?` and `[…]` match one byte, so a letter outside
//! ASCII needs `*`. A pattern that is empty or ends with a slash matches everything below it.

use crate::config::{ConfigError, Env, clean_path};
use globset::{Glob, GlobBuilder, GlobMatcher};
use std::path::Path;
use thiserror::Error;

/// Maximum nesting depth of braces in a pattern. globset panics on deeper ones.
const MOST_BRACES: usize = 100;

/// A valid pattern that selects databases by name.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As it was given, with its directories absolute.
    text: String,
    glob: GlobMatcher,
    /// Text before the first wildcard, without escapes. Every matching name begins with it.
    literal: String,
    /// Length in bytes of the directories in `literal`, including their last slash.
    dir_len: usize,
    /// Whether the pattern has no wildcard.
    is_literal: bool,
}

/// Why a pattern cannot be used. [`Pattern::for_keys`] and [`Pattern::for_paths`] return it before anything is
/// listed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// globset rejects the pattern, or its braces are nested too deeply.
    #[error("invalid pattern '{}': {reason}", crate::error::escaped(.pattern))]
    Syntax {
        /// The pattern as the user typed it.
        pattern: String,
        /// The message of globset that says what is wrong.
        reason: String,
    },
    /// The directories that the pattern begins with cannot be made absolute, for example `~/` without a home
    /// directory.
    #[error(transparent)]
    Path(#[from] ConfigError),
}

/// Compiles a glob in which `*` and `?` do not match slashes.
///
/// # Errors
/// globset's message, or a message about braces that are nested more than 100 deep. globset itself panics on
/// more than 250 levels, and overflows the stack on more than about 10,000.
pub fn glob(text: &str) -> Result<Glob, String> {
    let (mut depth, mut deepest, mut is_escaped) = (0_usize, 0, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MOST_BRACES {
        return Err(format!("braces nested more than {MOST_BRACES} deep"));
    }
    let built = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
    built.map_err(|e| e.kind().to_string())
}

impl Pattern {
    /// Makes a pattern over keys in a bucket. `text` is already percent-decoded. For a bucket it begins without
    /// the slash that separates bucket and key in a URL.
    ///
    /// # Errors
    /// [`PatternError::Syntax`] if the pattern has a syntax error.
    pub fn for_keys(text: &str) -> Result<Self, PatternError> {
        let everything_below = text.is_empty() || text.ends_with('/');
        let glob_text = if everything_below { format!("{text}**") } else { text.to_owned() };
        let syntax = |reason| PatternError::Syntax { pattern: text.to_owned(), reason };
        let Literal { text: literal, dir_len, is_all, .. } = Literal::of(text);
        let glob = glob(&glob_text).map_err(syntax)?.compile_matcher();
        Ok(Self { text: text.to_owned(), glob, literal, dir_len, is_literal: is_all })
    }

    /// Makes a pattern over absolute paths. The directories that `text` begins with are made absolute and
    /// cleaned of `.`, `..` and double slashes, as configured paths are. A pattern that begins with `**` or
    /// `{/` is used unchanged.
    ///
    /// # Errors
    /// [`PatternError::Syntax`] for a syntax error; [`PatternError::Path`] for `~/` without a home directory.
    pub fn for_paths(text: &str, env: &Env<'_>) -> Result<Self, PatternError> {
        let begins_anywhere = text.starts_with("**") || text.starts_with("{/");
        let mut pattern = if begins_anywhere {
            Self::for_keys(text)?
        } else {
            let literal = Literal::of(text);
            let dir = literal.text.get(..literal.dir_len).filter(|dir| !dir.is_empty()).unwrap_or(".");
            let dir = clean_path(Path::new(dir), env)?;
            let rest = text.get(literal.dir_raw_len..).unwrap_or("");
            let mut absolute = escaped_literal(&dir.to_string_lossy());
            if !absolute.ends_with('/') {
                absolute.push('/');
            }
            Self::for_keys(&(absolute + rest))?
        };
        if pattern.dir_len == 0 {
            pattern.literal = "/".to_owned();
            pattern.dir_len = 1;
        }
        Ok(pattern)
    }

    /// Returns whether `name` matches. `name` is a key or an absolute path, without a slash at its end.
    pub fn matches(&self, name: &str) -> bool {
        // A pattern without wildcards that ends with a slash also matches the one database that it names.
        let is_itself = self.is_literal && self.literal.strip_suffix('/') == Some(name);
        is_itself || self.glob.is_match(name)
    }

    /// Returns the prefix to list: the text before the first wildcard. A pattern without wildcards gets a slash
    /// at its end, because it names one database, whose keys all begin with that name and a slash.
    pub fn list_prefix(&self) -> String {
        if self.is_literal && !self.literal.is_empty() && !self.literal.ends_with('/') {
            return format!("{}/", self.literal);
        }
        self.literal.clone()
    }

    /// Returns the longest directory before the first wildcard. It is empty or ends with a slash.
    pub fn literal_dir(&self) -> &str {
        self.literal.get(..self.dir_len).unwrap_or("")
    }

    /// The pattern as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a name below the directory `dir` (no slash at its end) could match. True in doubt.
    pub fn may_match_in(&self, dir: &str) -> bool {
        if !self.may_match_below(&format!("{dir}/")) {
            return false;
        }
        let crosses_slashes = self.text.is_empty() || self.text.ends_with('/') || self.text.contains("**");
        if crosses_slashes || self.text.contains(['{', '[', '\\']) {
            return true;
        }
        let Some((at, _)) = self.text.match_indices('/').nth(dir.matches('/').count()) else { return false };
        let head = self.text.get(..at).unwrap_or_default();
        glob(head).is_ok_and(|head| head.compile_matcher().is_match(dir))
    }

    /// Whether a name below `dir` (a slash at its end, or empty) could match.
    pub fn may_match_below(&self, dir: &str) -> bool {
        self.literal.starts_with(dir) || dir.starts_with(&self.literal)
    }
}

/// Returns the output path of the database `name`, relative to the output directory: its path below
/// `literal_dir` (docs/CLI.md, "Output paths of a pattern"). Whether that path is safe is checked later.
pub fn relative_output(literal_dir: &str, name: &str) -> String {
    match name.strip_prefix(literal_dir) {
        Some(relative) if !relative.is_empty() => relative.to_owned(),
        // The pattern names one database and no directory, so its last component is the output path.
        _ => name.rsplit('/').next().unwrap_or(name).to_owned(),
    }
}

/// Text of a pattern before its first wildcard.
struct Literal {
    /// The text without the backslashes that escape characters.
    text: String,
    /// Length in bytes of `text` up to and including its last slash.
    dir_len: usize,
    /// Length in bytes of the same part in the pattern as typed, with its escapes.
    dir_raw_len: usize,
    /// Whether the pattern has no wildcard.
    is_all: bool,
}

impl Literal {
    fn of(pattern: &str) -> Self {
        let mut literal = Self { text: String::new(), dir_len: 0, dir_raw_len: 0, is_all: true };
        let mut chars = pattern.char_indices();
        while let Some((mut at, mut c)) = chars.next() {
            if matches!(c, '*' | '?' | '[' | '{') {
                literal.is_all = false;
                break;
            }
            if c == '\\' {
                let Some(next) = chars.next() else { break };
                (at, c) = next;
            }
            literal.text.push(c);
            if c == '/' {
                literal.dir_len = literal.text.len();
                literal.dir_raw_len = at + 1;
            }
        }
        literal
    }
}

/// Returns a pattern that matches `text` and nothing else.
pub(crate) fn escaped_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::fleet::discovery::pattern::*;

    fn keys(text: &str) -> Pattern {
        Pattern::for_keys(text).unwrap()
    }

    fn paths(text: &str) -> Pattern {
        Pattern::for_paths(text, &|name| (name == "HOME").then(|| "/home/me".to_owned())).unwrap()
    }

    #[test]
    fn wildcards_and_slashes() {
        let cases: [(&str, &[&str], &[&str]); 12] = [
            ("p/*.db", &["p/a.db", "p/.db"], &["p/a/b.db", "q/a.db", "p/a.db-2", "x/p/a.db"]),
            ("p/**/*.db", &["p/a.db", "p/a/b.db", "p/a/b/c.db"], &["p", "q/a.db", "pa.db"]),
            ("p/?.db", &["p/a.db"], &["p/ab.db", "p//.db"]),
            ("p/[a-c]", &["p/b"], &["p/d", "p/B"]),
            ("{a,b/c}/x", &["a/x", "b/c/x"], &["b/x"]),
            (r"p/\*.db", &["p/*.db"], &["p/a.db"]),
            ("p/", &["p/a", "p/a/b", "p"], &["pa", "q"]),
            ("p/app.db/", &["p/app.db", "p/app.db/old.db"], &["p/app.db-2", "p/app.d"]),
            ("p/app.db", &["p/app.db"], &["p/app.db/old.db", "p/app.db-2"]),
            ("p/*/", &["p/a/b", "p/a/b/c"], &["p/a", "p"]),
            ("", &["a", "a/b", "", "/a", "."], &[]),
            ("**", &["a", "a/b"], &[]),
        ];
        for (text, yes, no) in cases {
            let pattern = keys(text);
            yes.iter().for_each(|name| assert!(pattern.matches(name), "{text} should match {name:?}"));
            no.iter().for_each(|name| assert!(!pattern.matches(name), "{text} should not match {name:?}"));
        }
        assert!(matches!(Pattern::for_keys("p/[a"), Err(PatternError::Syntax { .. })));
        assert!(Pattern::for_keys("p/{a").unwrap_err().to_string().starts_with("invalid pattern 'p/{a': "));
    }

    #[test]
    fn directories_in_which_names_may_match() {
        for (text, yes, no) in [
            ("/r/*.db", &["/r", ""][..], &["/r/x", "/q"][..]),
            ("/r/t/*/*.db", &["/r", "/r/t", "/r/t/x"], &["/r/t/x/y", "/r/u"]),
            ("/r/t*/*.db", &["/r/t1"], &["/r/u1", "/r/t1/x"]),
            ("/r/**", &["/r/x/y"], &["/q"]),
            ("/r/", &["/r/x/y"], &["/q"]),
            ("/r/{a,b}/*.db", &["/r/a"], &["/q"]),
        ] {
            yes.iter().for_each(|dir| assert!(keys(text).may_match_in(dir), "{text} {dir}"));
            no.iter().for_each(|dir| assert!(!keys(text).may_match_in(dir), "{text} {dir}"));
        }
    }

    #[test]
    fn braces_in_braces_have_a_bound() {
        let nested = |depth: usize| format!("p/{}a{}", "{".repeat(depth), "}".repeat(depth));
        assert!(keys(&nested(MOST_BRACES)).matches("p/a"));
        for depth in [MOST_BRACES + 1, 300, 100_000] {
            let error = Pattern::for_keys(&nested(depth)).unwrap_err().to_string();
            assert!(error.ends_with("braces nested more than 100 deep"), "{depth}");
        }
        assert!(keys(&r"\{".repeat(300)).matches(&"{".repeat(300)));
        assert!(keys(&"{a,b}".repeat(300)).matches(&"ab".repeat(150)));
    }

    #[test]
    fn literal_parts() {
        let cases = [
            ("p/q/**/*.db", "p/q/", "p/q/"),
            ("p/acme-*/x.db", "p/", "p/acme-"),
            ("p/q", "p/", "p/q/"),
            ("p/q/", "p/q/", "p/q/"),
            ("", "", ""),
            ("*.db", "", ""),
            (r"p\[1\]/a\*b/c?", "p[1]/a*b/", "p[1]/a*b/c"),
            (r"a\/b*", "a/", "a/b"),
            ("p/{a,b}/c", "p/", "p/"),
            ("größe/a*", "größe/", "größe/a"),
        ];
        for (text, dir, prefix) in cases {
            let pattern = keys(text);
            assert_eq!((pattern.literal_dir(), pattern.list_prefix().as_str()), (dir, prefix), "{text}");
        }
    }

    #[test]
    fn relative_outputs() {
        let cases = [
            ("p/**/*.db", "p/a/b.db", "a/b.db"),
            ("p/app.db/", "p/app.db", "app.db"),
            ("p/app.db", "p/app.db", "app.db"),
            ("app.db/", "app.db", "app.db"),
            ("p/ac*/x.db", "p/acme/x.db", "acme/x.db"),
            ("**", "/a/b", "/a/b"),
            ("p/", "p/../../etc/passwd", "../../etc/passwd"),
        ];
        for (text, name, expected) in cases {
            let pattern = keys(text);
            assert!(pattern.matches(name), "{text} {name}");
            assert_eq!(relative_output(pattern.literal_dir(), name), expected, "{text} {name}");
        }
    }

    #[test]
    fn patterns_over_paths_are_absolute() {
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        let cases = [
            ("/srv/t/*.db".to_owned(), "/srv/t/".to_owned(), "/srv/t/a.db".to_owned()),
            ("/srv//x/../t/*.db".to_owned(), "/srv/t/".to_owned(), "/srv/t/a.db".to_owned()),
            ("~/t/*.db".to_owned(), "/home/me/t/".to_owned(), "/home/me/t/a.db".to_owned()),
            ("sqlite:///t/*".to_owned(), "/t/".to_owned(), "/t/a.db".to_owned()),
            ("t/*.db".to_owned(), format!("{here}/t/"), format!("{here}/t/a.db")),
            ("*.db".to_owned(), format!("{here}/"), format!("{here}/a.db")),
            ("**/*.db".to_owned(), "/".to_owned(), "/srv/a.db".to_owned()),
            ("{/srv,/var}/*.db".to_owned(), "/".to_owned(), "/var/a.db".to_owned()),
            ("/*.db".to_owned(), "/".to_owned(), "/a.db".to_owned()),
            (r"/a\[1\]/*.db".to_owned(), "/a[1]/".to_owned(), "/a[1]/x.db".to_owned()),
            ("/srv/".to_owned(), "/srv/".to_owned(), "/srv/a/b".to_owned()),
        ];
        for (text, dir, name) in cases {
            let pattern = paths(&text);
            assert_eq!(pattern.literal_dir(), dir, "{text}");
            assert!(pattern.matches(&name), "{text} {name}");
        }
        assert!(paths("/srv/t/*.db").may_match_below("/srv/"));
        assert!(paths("/srv/t/*.db").may_match_below("/srv/t/u/"));
        assert!(!paths("/srv/t/*.db").may_match_below("/srv/u/"));
    }
}
