//! Compares README.md with the program. Its tables must name every flag that `-h` shows and no other, with the same
//! kind of value. Every command line in it must be one that the program accepts.

use hydrant::cli;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::Command;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// The text below the heading `### name`, up to the next heading.
fn section<'a>(readme: &'a str, name: &str) -> &'a str {
    let heading = format!("\n### {name}\n");
    let (_, rest) = readme.split_once(&heading).unwrap_or_else(|| panic!("README.md has no section {name}"));
    rest.split("\n#").next().unwrap()
}

/// The flags in the tables of `text`, in the form `name VALUE` or `name`.
fn documented(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `-")?.split_once('`'));
    rows.map(|(flag, _)| flag.trim_start_matches('-').to_owned()).collect()
}

/// The flags that `hydrant COMMAND -h` shows: its own, and those that all commands have.
fn shown(command: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_hydrant")).args([command, "-h"]).env_clear().output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (own, common) = help.split_once("\nFlags of all commands:\n").expect("two groups of flags");
    // Lines with flags look like `  -o <PATH>  …`, `      --txid <HEX>  …` or `  -v...  …`. Lines of text are
    // indented further.
    let flags = |text: &str| {
        let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let flag = |line: &str| {
            let shown = line.split("  ").next().unwrap().trim_start_matches('-');
            shown.replace("...", "").replace(['<', '>'], "")
        };
        lines.map(flag).collect()
    };
    (flags(own), flags(common.split_once("\n\n").map_or(common, |(flags, _)| flags)))
}

#[test]
fn every_flag_is_in_the_readme_and_no_other() {
    let readme = readme();
    for command in ["restore", "ltx", "restore-pattern", "verify", "find", "promote", "bench"] {
        let (own, common) = shown(command);
        assert!(own.len() > 3 && common.len() > 3, "{own:?} {common:?}");
        assert_eq!(documented(section(&readme, command)), own, "{command}");
        assert_eq!(documented(section(&readme, "all commands")), common, "{command}");
    }
}

/// The words of a shell's command line up to its end. Quotes are handled, backslashes are not.
fn words(line: &str) -> Vec<OsString> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | ';' | '&' | '>') if word.is_none() => break,
            (None, ' ') => words.extend(word.take().map(OsString::from)),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.map(OsString::from));
    words
}

#[test]
fn every_command_line_of_the_readme_is_understood() {
    let readme = readme();
    let mut seen = BTreeSet::new();
    for line in readme.lines().filter(|line| line.starts_with("    ")) {
        // YAML examples write a command as a list, which is converted to a command line.
        let line = if line.contains("[hydrant, ") { line.replace(", ", " ").replace(']', "") } else { line.to_owned() };
        let line = line.replace("$JOB_COMPLETION_INDEX", "0");
        for command in ["restore", "ltx", "restore-pattern", "verify", "find", "promote", "bench", "completions", "man"]
        {
            let Some((_, arguments)) = line.split_once(&format!("hydrant {command} ")) else { continue };
            let arguments = std::iter::once(OsString::from(command)).chain(words(arguments));
            if let Err(failure) = cli::parse(arguments, &|_| None) {
                panic!("{line}: {}", failure.message());
            }
            seen.insert(command);
        }
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}
