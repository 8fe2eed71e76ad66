//! Measures the structure of this repository. scripts/house compiles and runs this program, and its head says how
//! to use it.
//!
//! The program needs only the standard library. It reads Rust as tokens, not as a compiler does: macros are not
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
    /// The largest number of type names in src with more than one definition. A name should mean one thing. A few
    /// usual words (`Options`, `Progress`) are needed twice; their modules distinguish them.
    pub const TYPE_NAMES: usize = 5;
    /// The largest number of lines of a file. That much can be read in one sitting.
    pub const FILE_LINES: usize = 600;
    /// The largest number of pairs of a mod.rs and a file of its folder that use each other. A mod.rs should either
    /// define what its folder shares (`StoreError`) or use what its folder has (`Store`), not both. The limit is
    /// the present number, so that it does not grow.
    pub const FACADES: usize = 14;
    /// The folder with the request limiter of the S3 client, whose size is limited below.
    pub const LIMITER: &str = "src/store/s3/limiter/";
    /// The largest number of tuned numbers in the limiter. Whoever changes it must understand and measure each of
    /// them.
    pub const LIMITER_NUMBERS: usize = 25;
    /// The largest number of lines of the limiter without tests. It serves a restore and is not the purpose of
    /// Hydrant.
    pub const LIMITER_LINES: usize = 900;
    /// Names of documents that are not part of the repository. Comments must cite a page and a heading instead.
    pub const BARE_NAMES: [&str; 5] = ["FORMAT", "CONTRACT", "DESIGN", "PROMISES", "V3"];
    /// The document with the table of which module uses which.
    pub const USES_PAGE: &str = "docs/ARCHITECTURE.md";
    /// The largest size of the stripped release binary in bytes. It is copied to hosts and into container images.
    pub const BINARY_BYTES: u64 = 22_500_000;
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
