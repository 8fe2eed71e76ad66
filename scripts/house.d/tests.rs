//! Tests of the measurements, on small repositories in a temporary folder, and tests of reading Rust text.

use crate::lex::{Kind, close_of, lex};
use crate::rules::Section;
use crate::source::split_tests;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A repository in a temporary folder, which is removed when this is dropped.
struct Repository(PathBuf);

impl Repository {
    fn of(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("house-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn section(&self, item: &str) -> Section {
        let target = self.0.join("target").display().to_string();
        let sections = crate::measure(&self.0, &target).unwrap();
        sections.into_iter().find(|s| s.item == item).unwrap()
    }

    fn findings(&self, item: &str) -> Vec<String> {
        self.section(item).findings
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn words(text: &str) -> Vec<&str> {
    lex(text).tokens.iter().map(|t| t.text).collect()
}

fn kept(text: &str) -> String {
    split_tests(&lex(text).tokens).kept.iter().map(|t| t.text).collect::<Vec<_>>().join(" ")
}

#[test]
fn strings_characters_and_comments_hide_what_is_inside() {
    let text = "a /* b /* c */ d */ \"e // \\\" f\" r#\"g \" h\"# b'i' 'j' '\\'' 'k br\"l\" r#type // m\nn";
    let expected = ["a", "\"e // \\\" f\"", "r#\"g \" h\"#", "b'i'", "'j'", "'\\''", "'k", "br\"l\"", "type", "n"];
    assert_eq!(words(text), expected);
    assert_eq!(lex(text).tokens.last().unwrap().line, 2);
    assert_eq!(lex("r##\"a\n\"# b\"## c").tokens.iter().map(|t| t.line).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_does_not_end_is_read_to_the_end() {
    for text in ["\"a", "r#\"a\"", "/* a /* b */", "'\\", "b'", "'", "r#", "1e", "é::ü"] {
        let lexed = lex(text);
        assert!(lexed.tokens.len() + lexed.comments.len() > 0, "{text}");
    }
    assert_eq!(close_of(&lex("( [ )").tokens, 0), 3);
}

#[test]
fn numbers_are_one_token_and_ranges_are_not() {
    assert_eq!(
        words("1.5e-3 0..5 x.0.1 0xfe-1 1_000u64 2.max(3)"),
        [
            "1.5e-3", "0", ".", ".", "5", "x", ".", "0", ".", "1", "0xfe", "-", "1", "1_000u64", "2", ".", "max", "(",
            "3", ")"
        ]
    );
    let kinds: Vec<_> = lex("a 'b' 'c 1 ->").tokens.iter().map(|t| t.kind).collect();
    assert_eq!(kinds, [Kind::Ident, Kind::Text, Kind::Lifetime, Kind::Number, Kind::Punct]);
}

#[test]
fn comments_lose_their_markers_and_keep_their_lines() {
    let comments = lex("//! one\n/// two\n/* three\n * four */ code // five").comments;
    let seen: Vec<_> = comments.iter().map(|c| (c.line, c.text)).collect();
    assert_eq!(seen, [(1, "one"), (2, "two"), (3, "three"), (4, "four"), (4, "five")]);
}

#[test]
fn test_code_is_taken_out_and_nothing_else() {
    assert_eq!(kept("#[cfg(test)] mod t { fn a() {} } fn b() {}"), "fn b ( ) { }");
    assert_eq!(kept("#[cfg(test)] use a::{b, c}; fn b() {}"), "fn b ( ) { }");
    assert_eq!(kept("#[cfg(test)] const A: [u8; 2] = [1, 2]; x"), "x");
    assert_eq!(kept("struct A { #[cfg(test)] b: M<u8, u8>, c: u8 }"), "struct A { c : u8 }");
    assert_eq!(kept("match a { #[cfg(test)] B => {} , C => {} }"), "match a { C => { } }");
    assert_eq!(kept("#[cfg(all(test, unix))] fn a() {} b"), "b");
    assert_eq!(kept("#[doc(hidden)] #[test] #[ignore] fn a() {} b"), "b");
    assert_eq!(kept("#[tokio::test(flavor = \"x\")] async fn a() {} b"), "b");
    assert_eq!(kept("#[cfg(test)] pub(crate) struct A(u8); b"), "b");
    for text in ["#[cfg(any(test, feature = \"sim\"))] fn a() {}", "#[cfg(not(test))] fn a() {}", "#[derive(A)] b"] {
        assert_eq!(kept(text), words(text).join(" "));
    }
    let split = split_tests(&lex("a\n#[cfg(test)]\n#[path = \"b_c.rs\"]\nmod c;\n").tokens).modules;
    assert_eq!(split, [("c", Some("b_c.rs"))]);
}

const LIBRARY: &str = "mod a;\nmod b;\n";

#[test]
fn names_are_counted_once_per_definition_outside_tests_and_simulator() {
    let one = "pub struct One; impl T for One { type Two = u8; } fn f() { struct Three; }";
    let two = "// struct One;\nconst S: &str = \"struct One;\"; enum Two {} #[cfg(test)] mod t { struct One; }";
    let sim = "pub struct Two;";
    let files =
        [("src/lib.rs", "mod a; mod b; mod sim;"), ("src/a.rs", one), ("src/b.rs", two), ("src/sim/mod.rs", sim)];
    let section = Repository::of(&files).section("types");
    assert_eq!(section.title, "0 of 3 type names have more than one definition");
    let six: String = (0..6).map(|i| format!("struct S{i}; ")).collect();
    let repository = Repository::of(&[("src/lib.rs", LIBRARY), ("src/a.rs", &six), ("src/b.rs", &six)]);
    assert_eq!(repository.findings("types"), ["6 type names with more than one definition, at most 5"]);
    assert_eq!(repository.section("types").lines[0], "S0 ×2: struct src/a.rs:1, struct src/b.rs:1");
}

#[test]
fn a_name_imported_beside_its_namesake_is_found_through_re_exports_and_aliases() {
    let files = |b| {
        [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a/mod.rs", "mod x;\npub use x::*;"),
            ("src/a/x.rs", "pub struct Limits;"),
            ("src/c.rs", "pub enum Limits {}"),
            ("src/b.rs", b),
        ]
    };
    let alias = Repository::of(&files("use crate::{a::Limits, c::{self, Limits as Others}};"));
    let found = alias.findings("types");
    assert_eq!(found, ["src/b.rs has Limits beside its namesake: struct src/a/x.rs:1, enum src/c.rs:1"]);
    assert_eq!(Repository::of(&files("use crate::a::Limits; fn f(_: crate::c::Limits) {}")).findings("types").len(), 0);
    // The two imports have opposite `cfg` conditions, so the compiler never sees both.
    let either = "#[cfg(x)] use crate::a::Limits; #[cfg(not(x))] use crate::c::Limits;";
    assert_eq!(Repository::of(&files(either)).findings("types").len(), 0);
}

#[test]
fn a_module_and_a_function_of_one_name_are_told_apart_and_binaries_name_the_library() {
    let files = [
        ("src/lib.rs", "pub mod a; mod go; pub use go::go;"),
        ("src/go.rs", "use crate::a::A; pub struct Kind; pub fn go() {}"),
        ("src/a.rs", "use super::go; pub use super::go::Kind; pub struct A;"),
        ("src/bin/b.rs", "use hydrant::a::Kind as K; enum Kind {}"),
    ];
    let repository = Repository::of(&files);
    let found = repository.findings("types");
    assert_eq!(found, ["src/bin/b.rs has Kind beside its namesake: enum src/bin/b.rs:1, struct src/go.rs:1"]);
    assert!(repository.section("loops").lines.contains(&"    src/a.rs → src/go.rs: Kind, go".to_owned()));
}

#[test]
fn long_files_are_named() {
    let (long, short) = ("\n".repeat(601), "\n".repeat(600));
    let files = [("tests/a.rs", &*long), ("src/b.rs", &short), ("scripts/c", &long), ("tests/fixtures/d.rs", &long)];
    let found = Repository::of(&files).findings("lines");
    assert_eq!(found, ["tests/a.rs: 601 lines, at most 600", "scripts/c: 601 lines, at most 600"]);
}

#[test]
fn loops_are_found_through_re_exports_modules_and_inline_paths() {
    let files = |a, b, c| {
        [
            ("src/lib.rs", "mod f;"),
            ("src/f/mod.rs", "mod a; mod b; mod c; pub(crate) use {a::A, b::*, c::go};"),
            ("src/f/a.rs", a),
            ("src/f/b.rs", b),
            ("src/f/c.rs", c),
        ]
    };
    let a = "use super::B; pub struct A(B);";
    let b = "use crate::f::c; pub struct B; fn f() { B::new(c::go()) }";
    let looped = Repository::of(&files(a, b, "pub fn go() { let _ = super::A::new(); }"));
    let section = looped.section("loops");
    assert_eq!(section.findings, ["3 files import each other: src/f/a.rs, src/f/b.rs, src/f/c.rs"]);
    let edges = ["src/f/a.rs → src/f/b.rs: B", "src/f/b.rs → src/f/c.rs: go", "src/f/c.rs → src/f/a.rs: A"];
    assert_eq!(section.lines[1..].iter().map(|l| l.trim()).collect::<Vec<_>>(), edges);
    // A path in a comment, in a test, or used only as a module's name is not an import.
    for c in [
        "// super::A\npub fn go() {}",
        "pub fn go() {} #[cfg(test)] mod t { use super::super::A; }",
        "use super::a::{self}; pub fn go() {}",
    ] {
        assert_eq!(Repository::of(&files(a, b, c)).findings("loops").len(), 0, "{c}");
    }
}

#[test]
fn a_folder_and_its_neighbour_make_a_loop_and_a_facade_is_counted() {
    let files = [
        ("src/lib.rs", "mod f; mod g;"),
        ("src/f/mod.rs", "mod x; mod y; use x::X; pub use y::Y; pub struct F(X);"),
        ("src/f/x.rs", "use crate::g::G; use super::F; pub struct X;"),
        ("src/f/y.rs", "use super::F; pub struct Y;"),
        ("src/g.rs", "use crate::f::y::Y; pub struct G;"),
    ];
    let section = Repository::of(&files).section("loops");
    assert_eq!(section.findings, ["folders and files of src/ import each other: src/f/, src/g.rs"]);
    let facades: Vec<_> = section.lines.iter().filter(|l| l.starts_with("facade")).collect();
    assert_eq!(facades, ["facade src/f/mod.rs ⇄ src/f/x.rs: X ⇄ F"]);
}

#[test]
fn modules_are_found_by_path_inline_and_in_binaries() {
    let files = [
        ("src/lib.rs", "#[path = \"odd.rs\"] pub mod a; pub mod b { pub mod c; pub fn f() { super::a::g() } }"),
        ("src/odd.rs", "use crate::b::c::C; pub fn g() {}"),
        ("src/b/c.rs", "pub struct C; fn f() { super::super::a::g() }"),
        ("src/main.rs", "fn main() { hydrant::a::g(); hydrant::b::f() }"),
        ("benches/one.rs", "mod common; use common::{x::X, y};"),
        ("benches/common/mod.rs", "pub mod x; pub mod y;"),
        ("benches/common/x.rs", "use super::y::Y; pub struct X;"),
        ("benches/common/y.rs", "use super::x::X; pub struct Y;"),
        ("docs/ARCHITECTURE.md", "| folder | what it is | uses |\n|---|---|---|\n| b | the b | a |\n"),
    ];
    let repository = Repository::of(&files);
    let loops = repository.findings("loops");
    assert!(
        loops.contains(&"2 files import each other: benches/common/x.rs, benches/common/y.rs".to_owned()),
        "{loops:?}"
    );
    assert!(loops.contains(&"2 files import each other: src/b/c.rs, src/odd.rs".to_owned()), "{loops:?}");
    assert!(repository.section("uses").lines.contains(&"main       a, b".to_owned()));
}

#[test]
fn file_names_stand_once_in_a_tree() {
    let names = [
        "src/f/x.rs",
        "src/f/g/x.rs",
        "src/g/x.rs",
        "src/f/error.rs",
        "src/f/g/error.rs",
        "src/f/mod.rs",
        "src/f/g/mod.rs",
    ];
    let found = Repository::of(&names.map(|name| (name, ""))).findings("names");
    assert_eq!(found, ["src/f/g/x.rs, src/f/x.rs"]);
}

#[test]
fn tuned_numbers_are_counted_one_by_one() {
    let code = "const A: [f64; 2] = [1.0, 2.0]; pub const B: u64 = 32 << 10; const C: Name = OTHER; const fn f<const N: u8>() {}
        impl Default for LimiterPolicy { fn default() -> Self { Self { wait: Duration::from_millis(5), both: (1, 2),
            rate: Rate { first: 3, second: D }, name: OTHER } } }
        impl Default for Other { fn default() -> Self { Self { a: 1 } } }
        #[cfg(test)] mod tests { const E: u8 = 1; }";
    let section = Repository::of(&[("src/store/s3/limiter/mod.rs", code)]).section("limiter");
    let counted = "src/store/s3/limiter/mod.rs: 4 lines, 7 numbers: A ×2, B, wait, both ×2, rate";
    assert_eq!((section.lines, section.findings.len()), (vec![counted.to_owned()], 0));
    let many: String = (0..26).map(|i| format!("const A{i}: u8 = {i};\n")).collect::<String>() + &"\n".repeat(900);
    let found = Repository::of(&[("src/store/s3/limiter/a.rs", &many)]).findings("limiter");
    assert_eq!(found, ["26 tuned numbers, at most 25", "926 lines without tests, at most 900"]);
}

#[test]
fn citations_name_pages_headings_and_rows_that_exist() {
    let pages = [
        ("docs/A.md", "# Top\n\n```\n# No heading\n```\n## The `code` way\n\n| 7 | row |\n"),
        ("docs/d/B.md", "See [A](../A.md#top), [none](../C.md), [no](../A.md#bottom), [web](https://a.b)."),
    ];
    let cite = |text: &str| {
        let comment = format!("//! {}\nfn f() {{}}\n", text.replace('\n', "\n//! "));
        let all = [pages[0], ("src/lib.rs", &comment), ("README.md", text)];
        let found = Repository::of(&all).findings("citations");
        assert!(found.iter().all(|f| f.starts_with("src/lib.rs:") || f.starts_with("README.md:")), "{found:?}");
        found.iter().map(|f| f.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    for good in [
        "docs/A.md, \"Top\" and \"The code way\"",
        "(docs/A.md,\n\"The `code` way\").",
        "docs/A.md.",
        "`docs/A.md`, 7",
        "docs/A.md,\n\n\"Tip\"",
    ] {
        assert_eq!(cite(good).len(), 0, "{good}");
    }
    assert_eq!(cite("docs/A.md, \"Top\" and\n\"Tip\"")[0], "docs/A.md has no heading \"Tip\"");
    assert_eq!(cite("docs/A.md, \"No heading\"").len(), 2);
    assert_eq!(cite("docs/A.md, 7 and 8")[1], "docs/A.md has no row 8");
    assert_eq!(cite("x docs/N.md.")[0], "there is no docs/N.md");
    let links = Repository::of(&pages).findings("citations");
    assert_eq!(
        links,
        ["docs/d/B.md:1: the link ../C.md leads nowhere", "docs/d/B.md:1: the link ../A.md#bottom leads nowhere"]
    );
    let moved = Repository::of(&[("README.md", "`src/gone.rs`: `Type`")]).findings("citations");
    assert_eq!(moved, ["README.md:1: there is no src/gone.rs"]);
}

#[test]
fn bare_names_of_documents_are_found_in_comments_only() {
    let code = "//! a\n//! (FORMAT §3)\n/// `V3` and docs/FORMAT.md\nconst FORMAT: &str = \"DESIGN\"; // CONTRACT's\n// FORMATS\n";
    let found = Repository::of(&[("src/lib.rs", code), ("docs/FORMAT.md", "PROMISES 1")]).findings("citations");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("src/lib.rs:2: FORMAT is no page of this repository (\"FORMAT §3) "), "{found:?}");
    assert!(found[1].starts_with("src/lib.rs:4: CONTRACT is no page of this repository (\"CONTRACT's "), "{found:?}");
}

#[test]
fn the_table_of_uses_must_equal_the_imports() {
    let table = "## Modules\n\n| folder | what it is | uses |\n|---|---|---|\n| a | x | b, c |\n| b | y | nothing |\n| d | z | nothing |\n";
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c; mod e;"),
        ("src/a/mod.rs", "use crate::{b::B, e};"),
        ("src/b/mod.rs", "pub struct B; #[cfg(test)] mod t { use crate::a::A; }"),
        ("src/c/mod.rs", ""),
        ("src/e.rs", "use super::c::C;"),
        ("docs/ARCHITECTURE.md", table),
    ];
    let page = "docs/ARCHITECTURE.md";
    assert_eq!(
        Repository::of(&files).findings("uses"),
        [
            format!("src/a uses e; {page} does not say so"),
            format!("src/a does not use c; {page} says so"),
            format!("{page}: no row for src/c"),
            format!("src/e uses c; {page} does not say so"),
            format!("{page}: a row for d, but there is no such folder"),
        ]
    );
}

#[test]
fn the_binarys_size_is_that_of_its_segments() {
    let repository = Repository::of(&[("src/lib.rs", "")]);
    assert!(repository.section("size").title.starts_with("no release binary at "));
    // The header of an ELF file with one segment that ends at `end`. Debug information follows behind it.
    let sized = |end: u64| {
        let mut elf = vec![0_u8; 1000];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf[72..80].copy_from_slice(&2_000_000_u64.to_le_bytes());
        elf[96..104].copy_from_slice(&(end - 2_000_000).to_le_bytes());
        fs::create_dir_all(repository.0.join("target/release")).unwrap();
        fs::write(repository.0.join("target/release/hydrant"), elf).unwrap();
        repository.findings("size")
    };
    assert_eq!(sized(22_500_000).len(), 0);
    assert_eq!(sized(23_000_000), ["the release binary has 23.0 MB stripped, at most 22.5"]);
}
