//! Checks what documents and comments say about the code: citations of documents, and the table of which module
//! uses which. Also measures the size of the binary.

use crate::limits;
use crate::modules::Tree;
use crate::rules::Section;
use crate::source::{File, Page, folder_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Text that belongs together, with the line numbers of its parts.
struct Paragraph<'a> {
    path: &'a str,
    text: String,
    /// The offsets in `text` at which lines begin, and the number of each line.
    lines: Vec<(usize, usize)>,
    is_comment: bool,
}

impl Paragraph<'_> {
    fn place(&self, at: usize) -> String {
        let line = self.lines.iter().rev().find(|(begin, _)| *begin <= at).map_or(0, |(_, line)| *line);
        format!("{}:{line}", self.path)
    }

    fn add(&mut self, line: usize, text: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.lines.push((self.text.len(), line));
        self.text.push_str(text.trim());
    }
}

/// The paragraphs of comments and documents. Comments on consecutive lines form a paragraph. In documents a row of
/// a table and a block of code are paragraphs too.
fn paragraphs<'a>(pages: &'a [Page], files: &[File<'a>]) -> Vec<Paragraph<'a>> {
    let mut all = Vec::new();
    let new = |path, is_comment| Paragraph { path, text: String::new(), lines: Vec::new(), is_comment };
    for file in files {
        let mut last = 0;
        for comment in &file.comments {
            if last == 0 || comment.line > last + 1 || comment.text.is_empty() {
                all.push(new(file.path, true));
            }
            last = comment.line;
            all.last_mut().into_iter().for_each(|p| p.add(comment.line, comment.text));
        }
    }
    for page in pages.iter().filter(|p| p.path.ends_with(".md")) {
        let mut is_open = false;
        for (i, line) in page.text.lines().enumerate() {
            let goes_on = is_open && !line.is_empty() && !line.starts_with(['|', '#']);
            if !goes_on {
                all.push(new(&page.path, false));
            }
            is_open = !line.is_empty() && !line.starts_with('#');
            all.last_mut().into_iter().for_each(|p| p.add(i + 1, line));
        }
    }
    all
}

/// The parts of a document that a citation may name: headings, anchors and numbered rows.
#[derive(Default)]
struct Document {
    headings: BTreeSet<String>,
    anchors: BTreeSet<String>,
    /// The numbers with which rows of tables begin.
    numbers: BTreeSet<String>,
}

fn document(text: &str) -> Document {
    let mut found = Document::default();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if !in_code && heading.len() < line.len() && heading.starts_with(' ') {
            let heading = plain(heading);
            let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
            found.anchors.insert(heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"));
            found.headings.insert(heading);
        }
        if let Some(cell) = line.strip_prefix('|').and_then(|row| row.split('|').next()) {
            found.numbers.insert(cell.trim().to_owned());
        }
    }
    found
}

fn plain(heading: &str) -> String {
    heading.trim().chars().filter(|c| !"`*".contains(*c)).collect()
}

pub fn citations(root: &Path, pages: &[Page], files: &[File]) -> Section {
    let is_document = |p: &&Page| p.path.ends_with(".md");
    let documents: BTreeMap<_, _> =
        pages.iter().filter(is_document).map(|p| (p.path.as_str(), document(&p.text))).collect();
    let mut section = Section::new("citations", String::new());
    let mut bare = BTreeMap::<&str, usize>::new();
    let mut cited = 0;
    for paragraph in paragraphs(pages, files) {
        for citation in cited_in(&paragraph.text, paragraph.is_comment) {
            cited += 1;
            let place = paragraph.place(citation.at);
            if !root.join(citation.path).exists() {
                section.findings.push(format!("{place}: there is no {}", citation.path));
                continue;
            }
            let Some(document) = documents.get(citation.path) else { continue };
            for heading in citation.headings.iter().filter(|h| !document.headings.contains(&plain(h))) {
                section.findings.push(format!("{place}: {} has no heading \"{heading}\"", citation.path));
            }
            for number in citation.numbers.iter().filter(|n| !document.numbers.contains(**n)) {
                section.findings.push(format!("{place}: {} has no row {number}", citation.path));
            }
        }
        if paragraph.is_comment {
            for (at, name) in bare_names(&paragraph.text) {
                *bare.entry(paragraph.path.split('/').next().unwrap_or("")).or_default() += 1;
                let around: String = paragraph.text[at..].chars().take(30).collect();
                let place = paragraph.place(at);
                section.findings.push(format!("{place}: {name} is no page of this repository (\"{around}…\")"));
            }
        } else {
            section.findings.extend(broken_links(root, &paragraph, &documents));
        }
    }
    let by_folder: Vec<_> = bare.iter().map(|(folder, count)| format!("{count} in {folder}")).collect();
    let bare: usize = bare.values().sum();
    section.title = format!("{cited} citations, {} findings", section.findings.len());
    section.lines.push(format!("{bare} bare names of documents ({})", by_folder.join(", ")));
    section
}

struct Citation<'a> {
    at: usize,
    path: &'a str,
    headings: Vec<&'a str>,
    numbers: Vec<&'a str>,
}

/// Finds citations: paths of documents and of code, with the headings and numbers behind them. Example:
/// `docs/FORMAT.md, "Page frames"`.
fn cited_in(text: &str, is_comment: bool) -> Vec<Citation<'_>> {
    let mut found = Vec::new();
    // In a comment a path may be relative to the comment's own file, so only documents are checked there. In a
    // document, paths are relative to the repository.
    let folders: &[&str] = if is_comment { &["docs/"] } else { &["docs/", "src/", "tests/", "benches/", "scripts/"] };
    for (at, _) in folders.iter().flat_map(|folder| text.match_indices(folder)) {
        let is_inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || "/_-.".contains(c));
        let length = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && !"/_-.".contains(c));
        let path = text[at..].get(..length.unwrap_or(text.len() - at)).unwrap_or_default().trim_end_matches('.');
        if is_inside || !(path.ends_with(".md") || path.ends_with(".rs")) {
            continue;
        }
        let rest = text[at + path.len()..].trim_start_matches(['`', ')']);
        let (headings, numbers) = (headings_in(rest), numbers_in(rest));
        found.push(Citation { at, path, headings, numbers });
    }
    found
}

/// The headings in quotes at the beginning of `rest`: `, "A" and "B"` or ` ("A")`.
fn headings_in(mut rest: &str) -> Vec<&str> {
    let mut headings = Vec::new();
    let joints = [", and \"", ", \"", " and \"", " or \"", " (\"", " \""];
    while let Some(inside) = joints.iter().find_map(|joint| rest.strip_prefix(joint)) {
        let Some((heading, behind)) = inside.split_once('"') else { break };
        headings.push(heading);
        rest = behind;
    }
    headings
}

/// The numbers of table rows at the beginning of `rest`: `, 6 and 7` or `, number 10`.
fn numbers_in(rest: &str) -> Vec<&str> {
    let mut numbers = Vec::new();
    let Some(mut rest) = rest.strip_prefix(", ") else { return numbers };
    rest = ["numbers ", "number "].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
    loop {
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if length == 0 {
            return numbers;
        }
        numbers.push(&rest[..length]);
        let behind = &rest[length..];
        match [", ", " and ", " to "].iter().find_map(|joint| behind.strip_prefix(joint)) {
            Some(next) => rest = next,
            None => return numbers,
        }
    }
}

/// The names of documents that the repository does not have. Code in backticks is not searched.
fn bare_names(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for name in limits::BARE_NAMES {
        for (at, _) in text.match_indices(name) {
            let (before, behind) = (&text[..at], &text[at + name.len()..]);
            let is_part = before.ends_with(|c: char| c.is_alphanumeric() || "_/".contains(c))
                || behind.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                || behind.starts_with(".md");
            let in_code = before.matches('`').count() % 2 == 1;
            if !is_part && !in_code {
                found.push((at, name));
            }
        }
    }
    found
}

/// The relative links of a document that lead to no file or to no heading.
fn broken_links(root: &Path, paragraph: &Paragraph, documents: &BTreeMap<&str, Document>) -> Vec<String> {
    let mut broken = Vec::new();
    for (at, _) in paragraph.text.match_indices("](") {
        let Some((link, _)) = paragraph.text[at + 2..].split_once(')') else { continue };
        if link.contains(':') || link.contains(' ') {
            continue;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let folder = folder_of(paragraph.path);
        let path = if file.is_empty() { paragraph.path.to_owned() } else { joined(folder, file) };
        let has_anchor = || documents.get(path.as_str()).is_none_or(|d| d.anchors.contains(anchor));
        if !root.join(&path).exists() || (!anchor.is_empty() && !has_anchor()) {
            broken.push(format!("{}: the link {link} leads nowhere", paragraph.place(at)));
        }
    }
    broken
}

fn joined(folder: &str, file: &str) -> String {
    let mut parts: Vec<_> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Compares the table below "Modules" in docs/ARCHITECTURE.md with the real imports.
pub fn uses(tree: &Tree, files: &[File], pages: &[Page]) -> Section {
    let mut section = Section::new("uses", String::new());
    let mut real = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (id, module) in tree.modules.iter().enumerate() {
        let Some(top) = files[module.file].top() else { continue };
        let used = real.entry(top).or_default();
        let paths = module.imports.iter().map(|i| &i.path).chain(&module.paths);
        used.extend(paths.filter_map(|path| tree.names_top(id, path)).filter(|name| *name != top));
    }
    let table = pages.iter().find(|p| p.path == limits::USES_PAGE).map_or("", |p| &p.text);
    let drawn = uses_table(table);
    let is_folder = |name: &str| files.iter().any(|f| f.path.starts_with(&format!("src/{name}/")));
    for (name, used) in &real {
        let no_row = BTreeSet::new();
        let says = match drawn.get(*name) {
            Some(row) => row,
            None if is_folder(name) => {
                section.findings.push(format!("{}: no row for src/{name}", limits::USES_PAGE));
                continue;
            }
            // `lib` and `main` need no row: they use every module, and no module uses them.
            None if ["lib", "main"].contains(name) => continue,
            None => &no_row,
        };
        for extra in used.difference(says) {
            section.findings.push(format!("src/{name} uses {extra}; {} does not say so", limits::USES_PAGE));
        }
        for missing in says.difference(used) {
            section.findings.push(format!("src/{name} does not use {missing}; {} says so", limits::USES_PAGE));
        }
    }
    for name in drawn.keys().filter(|name| !is_folder(name)) {
        section.findings.push(format!("{}: a row for {name}, but there is no such folder", limits::USES_PAGE));
    }
    let show = |set: &BTreeSet<&str>| {
        if set.is_empty() { "nothing".to_owned() } else { Vec::from_iter(set.iter().copied()).join(", ") }
    };
    section.lines.extend(real.iter().map(|(name, used)| format!("{name:<10} {}", show(used))));
    section.title =
        format!("who uses whom: {} rows in {}, {} findings", drawn.len(), limits::USES_PAGE, section.findings.len());
    section
}

/// Reads the rows `| folder | what it is | uses |` below a header of these words. The uses are separated by commas.
fn uses_table(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let cells = |line: &str| line.trim().trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().len();
    let mut rows = BTreeMap::new();
    let below = text.lines().skip_while(|line| !(line.starts_with("| folder |") && line.ends_with("| uses |")));
    for line in below.skip(2).take_while(|line| line.starts_with('|') && cells(line) >= 3) {
        let mut cells = line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
        let (first, last) = (cells.next().unwrap_or(""), cells.next_back().unwrap_or(""));
        let used =
            last.split(',').map(|name| name.trim().trim_matches('`')).filter(|n| !n.is_empty() && *n != "nothing");
        rows.insert(first, used.collect());
    }
    rows
}

/// Measures the size of the release binary, if there is one.
pub fn size(target: &Path) -> Section {
    let path = target.join("release/hydrant");
    let mut section = Section::new("size", format!("no release binary at {}", path.display()));
    if let Ok(bytes) = std::fs::read(&path) {
        let loaded = loaded_bytes(&bytes).unwrap_or(bytes.len() as u64);
        let mb = |bytes: u64| bytes as f64 / 1e6;
        section.title = format!("release binary: {:.1} MB, stripped {:.1} MB", mb(bytes.len() as u64), mb(loaded));
        if loaded > limits::BINARY_BYTES {
            let limit = mb(limits::BINARY_BYTES);
            section.findings.push(format!("the release binary has {:.1} MB stripped, at most {limit:.1}", mb(loaded)));
        }
    }
    section
}

/// The number of bytes of a 64-bit little-endian ELF file that `strip` would leave: everything up to the end of its
/// last segment.
fn loaded_bytes(elf: &[u8]) -> Option<u64> {
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, each, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let ends = (0..count).map(|i| {
        let at = usize::try_from(table.checked_add(i * each)?).ok()?;
        number(at + 8, 8)?.checked_add(number(at + 32, 8)?)
    });
    ends.flatten().max()
}
