//! Measures the code itself: type names, file sizes, import loops, file names, the limiter.

use crate::graph::{edges_of, inside, loops, of_files, without_facades};
use crate::lex::{Kind, Token, close_of};
use crate::limits;
use crate::modules::{Tree, Type};
use crate::source::{File, Line, Page, folder_of};
use std::collections::{BTreeMap, BTreeSet};

/// The result of one measurement: a title, lines to print, and findings.
#[derive(Debug, Default)]
pub struct Section {
    /// The name for `--check`. Empty for a measurement that is only printed.
    pub item: &'static str,
    pub title: String,
    pub lines: Vec<String>,
    /// The violations of a limit, one line each.
    pub findings: Vec<String>,
}

impl Section {
    pub fn new(item: &'static str, title: String) -> Self {
        Self { item, title, ..Self::default() }
    }

    fn at_most(&mut self, count: usize, limit: usize, what: &str) {
        if count > limit {
            self.findings.push(format!("{count} {what}, at most {limit}"));
        }
    }
}

/// The type names in src that are defined more than once. The simulator is left out.
pub fn types(tree: &Tree, files: &[File]) -> Section {
    let path = |t: &Type| files[t.file].path;
    let mut by_name = BTreeMap::<&str, Vec<&Type>>::new();
    let alternatives = tree.alternatives();
    for one in &tree.types {
        let is_counted = path(one).starts_with("src/") && !path(one).starts_with("src/sim/");
        if is_counted && !alternatives.iter().any(|t| t.is(one)) {
            by_name.entry(&one.name).or_default().push(one);
        }
    }
    let all = by_name.len();
    by_name.retain(|_, places| places.len() > 1);
    let many = by_name.len();
    let mut section = Section::new("types", format!("{many} of {all} type names have more than one definition"));
    let place = |t: &Type| format!("{} {}:{}", t.kind, path(t), t.line);
    for (name, places) in &by_name {
        let shown: Vec<_> = places.iter().map(|t| place(t)).collect();
        section.lines.push(format!("{name} ×{}: {}", places.len(), shown.join(", ")));
    }
    section.at_most(many, limits::TYPE_NAMES, "type names with more than one definition");
    // For each file and type name: the definitions of that name which the file contains or imports.
    let mut met = BTreeMap::<(usize, &str), BTreeMap<usize, String>>::new();
    for one in by_name.values().flatten() {
        met.entry((one.file, &one.name)).or_default().insert(one.file, place(one));
    }
    for (id, module) in tree.modules.iter().enumerate() {
        let targets = module.imports.iter().filter_map(|import| tree.resolve(id, &import.path));
        for one in targets.filter_map(|target| tree.type_of(&target)) {
            if by_name.get(one.name.as_str()).is_some_and(|places| places.iter().any(|p| p.is(one))) {
                met.entry((module.file, &one.name)).or_default().insert(one.file, place(one));
            }
        }
    }
    for ((file, name), places) in met.into_iter().filter(|(_, places)| places.len() > 1) {
        let places: Vec<_> = places.into_values().collect();
        let finding = format!("{} has {name} beside its namesake: {}", files[file].path, places.join(", "));
        section.findings.push(finding);
    }
    section
}

pub fn lines(pages: &[Page]) -> Section {
    let is_code = |page: &&Page| {
        let top = page.path.split('/').next().unwrap_or("");
        let is_ours = page.path.ends_with(".rs") || top == "scripts" || page.path.ends_with(".py");
        ["src", "tests", "benches", "fuzz", "scripts"].contains(&top) && is_ours
    };
    let mut counted: Vec<_> = pages.iter().filter(is_code).map(|p| (p.text.lines().count(), &p.path)).collect();
    counted.sort_by(|a, b| b.cmp(a));
    let mut section = Section::new("lines", format!("{} files; the longest:", counted.len()));
    section.lines.extend(counted.iter().take(5).map(|(lines, path)| format!("{lines:>5} {path}")));
    let long = counted.iter().filter(|(lines, _)| *lines > limits::FILE_LINES);
    section.findings.extend(long.map(|(lines, path)| format!("{path}: {lines} lines, at most {}", limits::FILE_LINES)));
    section
}

pub fn import_loops(tree: &Tree, files: &[File]) -> Section {
    let all = of_files(tree, files);
    let plain = without_facades(&all);
    let mut section = Section::new("loops", String::new());
    let between_files = loops(&plain);
    for (i, component) in between_files.iter().enumerate() {
        section.lines.push(format!("loop {} of {} files: {}", i + 1, component.len(), component.join(", ")));
        section.lines.extend(edges_of(&plain, component).into_iter().map(|e| format!("    {e}")));
        section.findings.push(format!("{} files import each other: {}", component.len(), component.join(", ")));
    }
    let folders: BTreeSet<_> = files.iter().filter(|f| !f.is_test).map(|f| folder_of(f.path)).collect();
    let mut between_folders = 0;
    for folder in folders {
        let view = inside(&plain, &format!("{folder}/"));
        for component in loops(&view).into_iter().filter(|c| c.iter().any(|node| node.ends_with('/'))) {
            between_folders += 1;
            section.lines.push(format!("loop in {folder}/ through folders: {}", component.join(", ")));
            section.lines.extend(edges_of(&view, &component).into_iter().map(|e| format!("    {e}")));
            section
                .findings
                .push(format!("folders and files of {folder}/ import each other: {}", component.join(", ")));
        }
    }
    let facades: BTreeSet<_> = all
        .iter()
        .filter(|(from, _)| from.ends_with("/mod.rs"))
        .flat_map(|(from, edges)| edges.keys().map(move |to| (from, to)))
        .filter(|(from, to)| to.starts_with(folder_of(from)) && all.get(*to).is_some_and(|e| e.contains_key(*from)))
        .collect();
    for (from, to) in &facades {
        let names = |a: &String, b: &String| {
            let names = all.get(a).and_then(|edges| edges.get(b)).into_iter().flatten();
            names.map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        section.lines.push(format!("facade {from} ⇄ {to}: {} ⇄ {}", names(from, to), names(to, from)));
    }
    section.at_most(facades.len(), limits::FACADES, "pairs of a mod.rs and a file of its folder that use each other");
    section.title = format!(
        "{} loops between files, {between_folders} through folders; {} pairs of a mod.rs and a file below it",
        between_files.len(),
        facades.len()
    );
    section
}

/// The file names that occur twice below one top folder of src.
pub fn names(files: &[File]) -> Section {
    let mut places = BTreeMap::<(&str, &str), Vec<&str>>::new();
    for file in files {
        let name = file.path.rsplit('/').next().unwrap_or(file.path);
        if let Some(top) = file.top()
            && !["mod.rs", "error.rs", "tests.rs"].contains(&name)
        {
            places.entry((top, name)).or_default().push(file.path);
        }
    }
    let twice: Vec<_> = places.into_values().filter(|p| p.len() > 1).collect();
    let mut section = Section::new("names", format!("{} file names stand twice in one folder tree", twice.len()));
    section.findings.extend(twice.into_iter().map(|paths| paths.join(", ")));
    section
}

/// Counts the tuned numbers and the lines of the limiter.
pub fn limiter(files: &[File]) -> Section {
    let mut section = Section::new("limiter", String::new());
    let (mut tuned, mut lines, mut loose) = (0, 0, 0);
    for file in files.iter().filter(|f| f.path.starts_with(limits::LIMITER) && !f.is_test) {
        let numbers = tuned_numbers(&file.tokens);
        let count: usize = numbers.iter().map(|(_, count)| count).sum();
        let here = file.lines.len() - file.count(Line::Test);
        let named: Vec<_> = numbers
            .iter()
            .map(|(name, count)| if *count > 1 { format!("{name} ×{count}") } else { (*name).to_owned() })
            .collect();
        section.lines.push(format!("{}: {here} lines, {count} numbers: {}", file.path, named.join(", ")));
        loose += file.tokens.iter().filter(|t| t.kind == Kind::Number && is_fraction(t.text)).count();
        (tuned, lines) = (tuned + count, lines + here);
    }
    section.title =
        format!("{tuned} tuned numbers in {lines} lines ({loose} fractions but 0.0, 0.5, 1.0 anywhere in them)");
    section.at_most(tuned, limits::LIMITER_NUMBERS, "tuned numbers");
    section.at_most(lines, limits::LIMITER_LINES, "lines without tests");
    section
}

fn is_fraction(number: &str) -> bool {
    let is_plain = number.trim_end_matches("_f64").trim_end_matches("f64");
    number.contains('.') && !["0.0", "0.5", "1.0"].contains(&is_plain)
}

/// The constants, and the fields of `LimiterPolicy`'s default, each with the number of numbers in it. A tuple of
/// two counts as two.
fn tuned_numbers<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, usize)> {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    let mut found = Vec::new();
    let (mut default_ends, mut i) = (0, 0);
    while i < tokens.len() {
        if text(i) == "impl" && (text(i + 1), text(i + 2), text(i + 3)) == ("Default", "for", "LimiterPolicy") {
            default_ends = close_of(tokens, i + 4);
        }
        let is_generic = i > 0 && ["<", ","].contains(&text(i - 1));
        let is_constant = ["const", "static"].contains(&text(i)) && text(i + 2) == ":" && !is_generic;
        let is_field = i < default_ends && tokens[i].kind == Kind::Ident && text(i + 1) == ":";
        if is_constant || is_field {
            // The value of a constant begins behind its type, so that the length of an array type is not counted.
            let equals = || tokens[i..].iter().position(|t| t.text == "=").map_or(tokens.len(), |at| i + at + 1);
            let (name, value) = if is_constant { (text(i + 1), equals()) } else { (text(i), i + 2) };
            let (count, length) = numbers_of(tokens.get(value..).unwrap_or_default());
            if count > 0 {
                found.push((name, count));
            }
            i = value + length;
        } else {
            i += 1;
        }
    }
    found
}

/// Counts the parts of the value at the beginning that hold a number, and the tokens of the value. Commas and
/// semicolons separate the parts.
fn numbers_of(value: &[Token]) -> (usize, usize) {
    let (mut depth, mut count, mut has_number) = (0_i32, 0, false);
    for (i, token) in value.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        let is_joint = token.text == "," || token.text == ";";
        let is_end = depth < 0 || (depth == 0 && is_joint);
        if is_end || is_joint {
            count += usize::from(std::mem::take(&mut has_number));
        }
        if is_end {
            return (count, i);
        }
        has_number |= token.kind == Kind::Number;
    }
    (count, value.len())
}

/// Prints a table with the number of lines per folder. It has no limit.
pub fn table(files: &[File]) -> Section {
    let mut folders = BTreeMap::<&str, Vec<&File>>::new();
    for file in files {
        folders.entry(folder_of(file.path)).or_default().push(file);
    }
    let mut section = Section::new("", "lines of Rust by folder".to_owned());
    let row = |name: &str, files: &[&File]| {
        let count = |line| files.iter().map(|f| f.count(line)).sum::<usize>();
        let [code, comment, blank, test] = [Line::Code, Line::Comment, Line::Blank, Line::Test].map(count);
        format!("{name:<28} {:>6} {code:>7} {comment:>9} {blank:>6} {test:>7}", files.len())
    };
    section
        .lines
        .push(format!("{:<28} {:>6} {:>7} {:>9} {:>6} {:>7}", "folder", "files", "code", "comments", "blank", "tests"));
    section.lines.extend(folders.iter().map(|(name, files)| row(name, files)));
    let all: Vec<_> = folders.into_values().flatten().collect();
    section.lines.push(row("all", &all));
    section
}
