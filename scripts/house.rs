//! Measures the structure of this repository. scripts/house compiles and runs it; its head says how to use it.
//!
//! It needs nothing but the standard library. It reads Rust as tokens, not as a compiler does: macros are not
//! expanded, and methods are not followed to the file of their `impl`.

#[path = "house.d/graph.rs"]
mod graph;
#[path = "house.d/lex.rs"]
mod lex;
#[path = "house.d/modules.rs"]
mod modules;
#[path = "house.d/pages.rs"]
mod pages;
#[path = "house.d/rules.rs"]
mod rules;
#[path = "house.d/source.rs"]
mod source;
#[cfg(test)]
#[path = "house.d/tests.rs"]
mod tests;

use rules::Section;
use std::path::Path;
use std::process::ExitCode;

/// Every limit, with its reason.
mod limits {
    /// Type names of src that may have more than one definition. One name means one thing; a few words of the
    /// field (`Options`, `Progress`) are needed twice and are told apart by their module.
    pub const TYPE_NAMES: usize = 5;
    /// Lines of a file: what can be read in one sitting.
    pub const FILE_LINES: usize = 600;
    /// Pairs of a mod.rs and a file of its folder that use each other. A mod.rs should hold what its folder shares
    /// (`StoreError`) or use what its folder has (`Store`), not both. This is today's number: it must not grow.
    pub const FACADES: usize = 14;
    /// Where the limiter is.
    pub const LIMITER: &str = "src/store/s3/limiter/";
    /// Tuned numbers of the limiter: each must be understood and measured by whoever changes it.
    pub const LIMITER_NUMBERS: usize = 25;
    /// Lines of the limiter without tests: it serves a restore and is not what Hydrant is about.
    pub const LIMITER_LINES: usize = 900;
    /// Names of documents that are not part of the repository. Comments cite a page and a heading instead.
    pub const BARE_NAMES: [&str; 5] = ["FORMAT", "CONTRACT", "DESIGN", "PROMISES", "V3"];
    /// The page with the table of who uses whom.
    pub const USES_PAGE: &str = "docs/ARCHITECTURE.md";
    /// Bytes of the stripped release binary: it is copied to hosts and into images.
    pub const BINARY_BYTES: u64 = 20_000_000;
}

const ITEMS: [&str; 8] = ["types", "lines", "loops", "names", "limiter", "citations", "size", "uses"];
const FOLDERS: [&str; 10] = [
    "src",
    "tests",
    "benches",
    "fuzz",
    "scripts",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let checked = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--check"] | ["--check", "all"] => Some(ITEMS.to_vec()),
        ["--check", items] if items.split(',').all(|item| ITEMS.contains(&item)) => Some(items.split(',').collect()),
        _ => {
            eprintln!("usage: scripts/house [--check all|ITEM,… | --self-test]\nitems: {}", ITEMS.join(", "));
            return ExitCode::from(2);
        }
    };
    let sections = match measure(Path::new("."), &std::env::var("CARGO_TARGET_DIR").unwrap_or("target".into())) {
        Ok(sections) => sections,
        Err(error) => {
            eprintln!("scripts/house: cannot read the repository: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(checked) = checked else {
        sections.iter().for_each(print);
        return ExitCode::SUCCESS;
    };
    let mut failed = Vec::new();
    for section in sections.iter().filter(|s| checked.contains(&s.item)) {
        if section.findings.is_empty() {
            println!("{}: ok, {}", section.item, section.title);
        } else {
            print(section);
            failed.push(format!("{} ({})", section.item, section.findings.len()));
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("scripts/house: findings in {}", failed.join(", "));
    ExitCode::FAILURE
}

fn measure(root: &Path, target: &str) -> std::io::Result<Vec<Section>> {
    let pages = source::read(root, &FOLDERS)?;
    let files = source::parse(&pages);
    let tree = modules::Tree::of(&files);
    Ok(vec![
        rules::types(&tree, &files),
        rules::lines(&pages),
        rules::import_loops(&tree, &files),
        rules::names(&files),
        rules::limiter(&files),
        pages::citations(root, &pages, &files),
        pages::size(Path::new(target)),
        pages::uses(&tree, &files, &pages),
        rules::table(&files),
    ])
}

fn print(section: &Section) {
    let name = if section.item.is_empty() { "table" } else { section.item };
    println!("== {name}: {}", section.title);
    section.lines.iter().for_each(|line| println!("  {line}"));
    section.findings.iter().for_each(|finding| println!("  ! {finding}"));
    println!();
}
