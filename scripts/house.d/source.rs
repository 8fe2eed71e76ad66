//! Reads the files of the repository and finds out which of their lines are tests.
//!
//! Tests are: files named tests.rs or *_tests.rs, files in folders named tests, files of modules that are declared
//! under `#[cfg(test)]`, and every item under `#[test]` or under a `cfg` that needs `test`.

use crate::lex::{Comment, Kind, Token, close_of, lex};
use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// A text file of the repository as it is on disk.
pub struct Page {
    /// The path of the file from the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

/// A Rust file, split into tokens.
pub struct File<'a> {
    pub path: &'a str,
    /// The tokens without those of test code. Empty for a test file.
    pub tokens: Vec<Token<'a>>,
    pub comments: Vec<Comment<'a>>,
    pub lines: Vec<Line>,
    pub is_test: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Blank,
    Comment,
    Code,
    Test,
}

impl File<'_> {
    pub fn count(&self, line: Line) -> usize {
        self.lines.iter().filter(|l| **l == line).count()
    }

    /// The first folder or file of `src` that contains this file, for example `store` for src/store/s3/get.rs. None
    /// for a file outside of src.
    pub fn top(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        Some(below.split_once('/').map_or(below.trim_end_matches(".rs"), |(folder, _)| folder))
    }
}

/// Reads every text file below `folders`, except test data and build outputs.
pub fn read(root: &Path, folders: &[&str]) -> io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    for folder in folders {
        if root.join(folder).exists() {
            add(root, folder, &mut pages)?;
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

fn add(root: &Path, path: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    const DATA: [&str; 7] = ["fixtures", "seeds", "corpus", "artifacts", "coverage", "target", "Cargo.lock"];
    let full = root.join(path);
    let is_data = || !path.starts_with("src/") && DATA.contains(&path.rsplit('/').next().unwrap_or(path));
    if full.is_dir() && !is_data() {
        for entry in fs::read_dir(&full)? {
            let name = entry?.file_name();
            add(root, &format!("{path}/{}", name.to_string_lossy()), pages)?;
        }
    } else if full.is_file() && !is_data() {
        let bytes = fs::read(&full).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
        if let Ok(text) = String::from_utf8(bytes) {
            pages.push(Page { path: path.to_owned(), text });
        }
    }
    Ok(())
}

/// Parses the Rust files among `pages`.
pub fn parse(pages: &[Page]) -> Vec<File<'_>> {
    let mut declared = BTreeSet::new();
    let mut files: Vec<_> =
        pages.iter().filter(|page| page.path.ends_with(".rs")).map(|page| file_of(page, &mut declared)).collect();
    for file in &mut files {
        let is_declared =
            |d: &String| file.path == *d || d.strip_suffix("mod.rs").is_some_and(|f| file.path.starts_with(f));
        if is_test_path(file.path) || declared.iter().any(is_declared) {
            file.is_test = true;
        }
        if file.is_test {
            file.tokens.clear();
            file.lines.fill(Line::Test);
        }
    }
    files
}

fn file_of<'a>(page: &'a Page, declared: &mut BTreeSet<String>) -> File<'a> {
    let lexed = lex(&page.text);
    let mut lines = vec![Line::Blank; page.text.lines().count()];
    let mut set = |line: usize, kind: Line| {
        if let Some(l) = lines.get_mut(line - 1) {
            *l = kind;
        }
    };
    lexed.comments.iter().for_each(|c| set(c.line, Line::Comment));
    for token in &lexed.tokens {
        (0..=token.text.matches('\n').count()).for_each(|i| set(token.line + i, Line::Code));
    }
    let split = split_tests(&lexed.tokens);
    split.ranges.iter().flat_map(|(from, to)| *from..=*to).for_each(|line| set(line, Line::Test));
    for (name, path) in split.modules {
        let folder = folder_of(&page.path);
        match path {
            Some(path) => drop(declared.insert(format!("{folder}/{path}"))),
            None => {
                let inside = inside_of(&page.path);
                declared.extend([format!("{inside}/{name}.rs"), format!("{inside}/{name}/mod.rs")]);
            }
        }
    }
    File { path: &page.path, tokens: split.kept, comments: lexed.comments, lines, is_test: split.is_whole }
}

fn is_test_path(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    folders.split('/').any(|f| f == "tests") || name == "tests.rs" || name.ends_with("_tests.rs")
}

pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folder with the files of the modules that the file at `path` declares.
pub fn inside_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    // Each file directly in one of these folders is the root of a crate.
    let is_root = ["benches", "tests", "src/bin", "fuzz/fuzz_targets"].contains(&folder_of(path));
    if is_root || ["mod.rs", "lib.rs", "main.rs"].contains(&name) {
        folder_of(path)
    } else {
        path.trim_end_matches(".rs")
    }
}

pub struct Split<'a> {
    pub kept: Vec<Token<'a>>,
    /// The first and last lines of each range of test code.
    pub ranges: Vec<(usize, usize)>,
    /// The test modules in files of their own: the name, and the value of `#[path]`.
    pub modules: Vec<(&'a str, Option<&'a str>)>,
    /// Whether the whole file is test code, by `#![cfg(test)]`.
    pub is_whole: bool,
}

/// Splits the items that exist only in tests from the rest.
pub fn split_tests<'a>(tokens: &[Token<'a>]) -> Split<'a> {
    let mut split = Split { kept: Vec::new(), ranges: Vec::new(), modules: Vec::new(), is_whole: false };
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let mut i = 0;
    while i < tokens.len() {
        if text(i) == "#" && text(i + 1) == "!" && text(i + 2) == "[" {
            split.is_whole |= is_test_attribute(&tokens[i + 3..close_of(tokens, i + 2)]);
        }
        let begin = i;
        let (mut is_test, mut path) = (false, None);
        while text(i) == "#" && text(i + 1) == "[" {
            let close = close_of(tokens, i + 1);
            let attribute = &tokens[i + 2..close];
            is_test |= is_test_attribute(attribute);
            path = path_attribute(attribute).or(path);
            i = (close + 1).min(tokens.len());
        }
        if is_test {
            let end = item_end(tokens, i).clamp(i, tokens.len());
            let item = &tokens[i..end];
            if let Some(at) = item.iter().take(6).position(|t| t.text == "mod").filter(|at| at + 3 == item.len()) {
                split.modules.push((item[at + 1].text, path));
            }
            let last = tokens[..end].last().map_or(1, |t| t.line + t.text.matches('\n').count());
            split.ranges.push((tokens[begin].line, last));
            i = end;
        } else {
            i = i.max(begin + 1);
            split.kept.extend(&tokens[begin..i]);
        }
    }
    split
}

/// The text of a `#[path = "…"]` attribute, which names the file of a module.
pub fn path_attribute<'a>(attribute: &[Token<'a>]) -> Option<&'a str> {
    match attribute {
        [name, equals, value] if name.text == "path" && equals.text == "=" => Some(value.text.trim_matches('"')),
        _ => None,
    }
}

/// Whether an attribute (without its brackets) makes its item exist in tests only.
fn is_test_attribute(attribute: &[Token]) -> bool {
    match attribute {
        [name, open, .., _] if name.text == "cfg" && open.text == "(" => {
            holds_without_test(&attribute[2..attribute.len() - 1]) == Some(false)
        }
        _ => {
            let path = attribute.split(|t| t.text == "(").next().unwrap_or_default();
            let is_path = path.iter().all(|t| t.kind == Kind::Ident || t.text == "::");
            is_path && path.last().is_some_and(|name| name.text == "test")
        }
    }
}

/// The value of a `cfg` predicate if `test` is not set. None if it depends on another condition.
fn holds_without_test(predicate: &[Token]) -> Option<bool> {
    match predicate {
        [name] if name.text == "test" => Some(false),
        [name, open, inner @ .., _] if open.text == "(" => {
            let parts: Vec<_> = parts_of(inner).into_iter().map(holds_without_test).collect();
            match name.text {
                "not" => parts.first().copied().flatten().map(|holds| !holds),
                "all" if parts.contains(&Some(false)) => Some(false),
                "any" if parts.iter().all(|p| *p == Some(false)) => Some(false),
                "any" if parts.contains(&Some(true)) => Some(true),
                "all" if parts.iter().all(|p| *p == Some(true)) => Some(true),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The parts between commas that are outside of brackets.
fn parts_of<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let (mut parts, mut begin, mut i) = (Vec::new(), 0, 0);
    while i < tokens.len() {
        match tokens[i].text {
            "(" => i = close_of(tokens, i),
            "," => {
                parts.push(&tokens[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    parts.push(tokens.get(begin..).unwrap_or_default());
    parts.retain(|p| !p.is_empty());
    parts
}

/// The index behind the item, statement, field or match arm that begins at `begin`.
fn item_end(tokens: &[Token], begin: usize) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let mut i = begin;
    if text(i) == "pub" {
        i = if text(i + 1) == "(" { close_of(tokens, i + 1) + 1 } else { i + 1 };
    }
    let is_function = |i: usize| ["fn", "unsafe", "async", "extern"].contains(&text(i));
    let ends_with_block = match text(i) {
        "const" => is_function(i + 1),
        "extern" => text(i + 1) != "crate",
        "fn" | "mod" | "impl" | "trait" | "enum" | "struct" | "union" | "unsafe" | "async" | "{" | "if" | "for"
        | "while" | "loop" | "match" => true,
        _ => text(i + 1) == "!",
    };
    let is_whole_item = ends_with_block || ["const", "static", "use", "type", "let", "extern"].contains(&text(i));
    let mut angles = 0_usize;
    while i < tokens.len() {
        match text(i) {
            "{" if ends_with_block && text(close_of(tokens, i) + 1) != "else" => return close_of(tokens, i) + 1,
            "(" | "[" | "{" => i = close_of(tokens, i),
            ")" | "]" | "}" => return i,
            "<" => angles += 1,
            ">" => angles = angles.saturating_sub(1),
            "," if !is_whole_item && angles == 0 => return i + 1,
            ";" => return i + 1,
            _ => {}
        }
        i += 1;
    }
    i
}
