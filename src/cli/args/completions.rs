//! The command `hydrant completions`: prints scripts by which bash, zsh and fish complete command lines. The crate
//! clap_complete generates them from the clap definitions.
//!
//! clap knows a flag only as `--name`, but the program also accepts `-name`, as Go programs do. The generated
//! scripts are therefore edited line by line, so that they offer both forms.

use crate::cli::args::help;
use crate::cli::args::resolved::BenchStage;
use crate::cli::ui::failure::Failure;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::{Shell, generate};

/// The shells for which `hydrant completions` can print a script.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The completion script for `shell`, which is `bash`, `zsh` or `fish`.
///
/// # Errors
/// `shell` is another word.
pub fn script(shell: &str) -> Result<String, Failure> {
    match shell {
        "bash" => Ok(edited(&generated(Shell::Bash)?, bash)),
        "zsh" => Ok(edited(&generated(Shell::Zsh)?, zsh)),
        "fish" => Ok(edited(&generated(Shell::Fish)?, fish) + &fish_positionals()),
        _ => Err(Failure::usage(format!("unknown shell: {shell}: must be bash, zsh or fish"))
            .try_call("hydrant completions bash")),
    }
}

/// The completion script for `shell` as clap_complete generates it. It completes flags only in the form `--name`.
fn generated(shell: Shell) -> Result<String, Failure> {
    let mut out = Vec::new();
    generate(shell, &mut program(), "hydrant", &mut out);
    String::from_utf8(out).map_err(|_| Failure::internal("a completion script is not UTF-8"))
}

/// The clap definition that completion scripts are generated from. Beyond the program's own definition it has the
/// words that flags and positionals accept, and the arguments `help`, `version`, `-h` and `-V`, which `cli::parse`
/// handles without clap.
fn program() -> Command {
    let flag = |name, about| Arg::new(name).help(about).action(ArgAction::SetTrue);
    let commands = help::COMMANDS.into_iter().filter_map(help::definition).map(|(command, _)| completed(command));
    Command::new("hydrant")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .arg(flag("help", "Show the commands").short('h').long("help"))
        .arg(flag("version", "Show the version").short('V').long("version"))
        .subcommands(commands)
        .subcommand(
            Command::new("help")
                .about("Show the commands, or the flags of a command")
                .disable_help_flag(true)
                .arg(Arg::new("command").value_parser(PossibleValuesParser::new(help::COMMANDS))),
        )
        .subcommand(Command::new("version").about("Show the version").disable_help_flag(true))
}

/// The words that the flag or positional with the clap id `id` accepts. None if it accepts more than a few fixed
/// words.
fn words(id: &str) -> Option<Vec<&'static str>> {
    Some(match id {
        "integrity_check" => vec!["none", "quick", "full"],
        "io_engine" => vec!["auto", "uring", "pwrite"],
        "log_format" => vec!["text", "json"],
        "level" => vec!["all", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        "stage" => BenchStage::EACH.map(BenchStage::as_str).to_vec(),
        "shell" => SHELLS.to_vec(),
        "command" => help::COMMANDS.to_vec(),
        _ => return None,
    })
}

/// Prepares the clap definition of `command` for completion: tells clap_complete which words its flags and
/// positionals accept, and that other positionals are paths.
fn completed(command: Command) -> Command {
    command.mut_args(|arg| {
        let arg = match words(arg.get_id().as_str()) {
            Some(words) => arg.value_parser(PossibleValuesParser::new(words)),
            None => arg,
        };
        // Positionals are hidden in the definition, because the usage line of the help names them. Completion needs
        // them: it completes paths on disk.
        if arg.is_positional() { arg.hide(false).value_hint(ValueHint::AnyPath) } else { arg }
    })
}

/// Edits the completion script `script`: replaces each line by the line or lines that the function `line` returns for
/// it.
fn edited(script: &str, line: impl Fn(&str) -> String) -> String {
    script.lines().map(|text| line(text) + "\n").collect()
}

/// Edits a line of the bash script. To the list of flags, `opts="… --name"`, it adds `-name`. To the case label of
/// a flag's values, `--name)`, it adds the pattern `-name`.
fn bash(line: &str) -> String {
    let (indent, text) = line.split_at(line.len() - line.trim_start().len());
    if let Some(words) = text.strip_prefix("opts=\"").and_then(|rest| rest.strip_suffix('"')) {
        let both = words.split(' ').map(|word| match word.strip_prefix("--") {
            Some(name) => format!("{word} -{name}"),
            None => word.to_owned(),
        });
        return format!("{indent}opts=\"{}\"", both.collect::<Vec<_>>().join(" "));
    }
    match text.strip_suffix(')').and_then(|label| Some((label, label.strip_prefix('-')?))) {
        Some((label, name)) if name.starts_with('-') => format!("{indent}{label}|{name})"),
        Some((label, _)) => format!("{indent}{label}|-{label})"),
        None => line.to_owned(),
    }
}

/// Edits a line of the zsh script. A flag's line `'--name[…]'` is repeated as `'-name[…]'`. The option `-s` of
/// `_arguments` is removed: it would let flags of one letter be joined (`-ab`), which this program does not accept.
fn zsh(line: &str) -> String {
    for (long, short) in [("'--", "'-"), ("'*--", "'*-")] {
        let (indent, text) = line.split_at(line.len() - line.trim_start().len());
        if let Some(rest) = text.strip_prefix(long) {
            return format!("{line}\n{indent}{short}{rest}");
        }
    }
    line.replace("_arguments_options=(-s ", "_arguments_options=(")
}

/// Edits a line of the fish script. `-l name` declares `--name`. The edit adds `-o name`, which declares `-name`
/// (what fish calls an old-style option).
fn fish(line: &str) -> String {
    let (flags, description) = line.split_at(line.find(" -d '").unwrap_or(line.len()));
    match flags.split_once(" -l ") {
        Some((before, rest)) if line.starts_with("complete ") => {
            let (name, after) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
            format!("{before} -l {name} -o {name}{after}{description}")
        }
        _ => line.to_owned(),
    }
}

/// Lines for the fish script that complete the words of positionals. clap_complete does not generate them for fish.
fn fish_positionals() -> String {
    let words = |id| words(id).unwrap_or_default().join(" ");
    [("completions", "shell"), ("man", "command"), ("help", "command")]
        .map(|(command, id)| {
            let condition = format!("__fish_hydrant_using_subcommand {command}");
            format!("complete -c hydrant -n \"{condition}\" -f -a \"{}\"\n", words(id))
        })
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command as Parsed, parse};
    use std::ffi::OsString;
    use std::path::Path;
    use std::process::Command;

    /// Runs the script `program` with `shell` in the directory `dir` and returns what it prints. If the shell is not
    /// installed, prints a note on stderr and returns None, and the test is skipped.
    fn run(shell: &str, args: &[&str], program: &str, dir: &Path) -> Option<String> {
        let output = match Command::new(shell).args(args).arg(program).env("HOME", dir).current_dir(dir).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: {shell} is not installed");
                return None;
            }
            output => output.unwrap(),
        };
        assert!(output.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// A temporary directory that holds the completion script for `shell` in the file `script`.
    fn dir(shell: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let Ok(Parsed::Show(script)) = parse(["completions", shell].iter().map(OsString::from), &|_| None) else {
            panic!("{shell}");
        };
        std::fs::write(dir.path().join("script"), script).unwrap();
        dir
    }

    /// Command lines whose last word is to be completed, each with all completions that are expected.
    const COMPLETED: [(&str, &[&str]); 8] = [
        ("hydrant restore -dry", &["-dry-run"]),
        ("hydrant restore --dry", &["--dry-run"]),
        ("hydrant restore -integrity-check qu", &["quick"]),
        ("hydrant restore --integrity-check qu", &["quick"]),
        ("hydrant restore-pattern -json -if-d", &["-if-db-not-exists"]),
        ("hydrant bench -stage fe", &["fetch"]),
        ("hydrant compl", &["completions"]),
        ("hydrant completions f", &["fish"]),
    ];

    #[test]
    fn bash_completes_both_forms() {
        let dir = dir("bash");
        for (line, expected) in COMPLETED {
            let program = format!(
                "source ./script; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
                 _hydrant hydrant \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
                 printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p hydrant"
            );
            let Some(out) = run("bash", &["--norc", "-c"], &program, dir.path()) else { return };
            let (words, registered) = out.trim_end().rsplit_once('\n').unwrap();
            assert_eq!(words.lines().collect::<Vec<_>>(), expected, "{line}");
            assert!(registered.contains("-F _hydrant"), "{registered}");
        }
    }

    #[test]
    fn fish_completes_both_forms() {
        let dir = dir("fish");
        for (line, expected) in COMPLETED {
            let program = format!("source ./script; complete -C '{line}'");
            let Some(out) = run("fish", &["--no-config", "-c"], &program, dir.path()) else { return };
            let words: Vec<_> = out.lines().map(|line| line.split('\t').next().unwrap()).collect();
            assert_eq!(words, expected, "{line}");
        }
    }

    #[test]
    fn zsh_completes_both_forms() {
        let dir = dir("zsh");
        // zsh completes only in a terminal, so the script opens a pseudo-terminal (zpty). In it each line is typed,
        // Tab is pressed, and the completed line is run. The function `hydrant` writes its arguments to the file
        // `ran`.
        let mut program = "zmodload zsh/zpty; zpty z zsh -f -i; \
            zpty -w z 'PROMPT=; autoload -Uz compinit; compinit -u -D; source ./script'; \
            zpty -w z 'hydrant() { print -r -- hydrant $* >> ran }'; "
            .to_owned();
        for (line, _) in COMPLETED {
            program.push_str(&format!("zpty -w z $'{line}\\t'; "));
        }
        program.push_str("zpty -w z exit; while zpty -r z _; do :; done");
        if run("zsh", &["-f", "-c"], &program, dir.path()).is_none() {
            return;
        }
        let ran = std::fs::read_to_string(dir.path().join("ran")).unwrap();
        let expected = COMPLETED.map(|(line, words)| format!("{} {}\n", line.rsplit_once(' ').unwrap().0, words[0]));
        assert_eq!(ran, expected.concat());
    }

    #[test]
    fn every_word_that_is_offered_is_understood() {
        for (id, flag, command, rest) in [
            ("integrity_check", "-integrity-check", "restore", "/a.db"),
            ("io_engine", "-io-engine", "restore", "/a.db"),
            ("log_format", "-log-format", "ltx", "/a.db"),
            ("level", "-level", "ltx", "/a.db"),
            ("stage", "-stage", "bench", "s3://bucket/**"),
        ] {
            for word in words(id).unwrap() {
                let dir: &[&str] = if word == "all" && id == "stage" { &["-output-dir", "d"] } else { &[] };
                let args = [&[command, flag, word], dir, &[rest]].concat();
                assert!(parse(args.iter().map(OsString::from), &|_| None).is_ok(), "{args:?}");
            }
        }
        for (id, command) in [("shell", "completions"), ("command", "man")] {
            for word in words(id).unwrap() {
                assert!(parse([command, word].iter().map(OsString::from), &|_| None).is_ok(), "{command} {word}");
            }
        }
    }
}
