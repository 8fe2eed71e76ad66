//! Rewrites a command line from the notation of Go's package `flag` to that of clap (docs/CLI.md, "How flags are
//! written"). Litestream is a Go program, and Hydrant accepts the same command lines.
//!
//! Go accepts `-name`, `--name`, `-name value`, `-name=value`, `-switch=false`, and `--` before positionals that
//! begin with a dash. Beyond Go's rules, flags may also follow the positionals. If a flag is given more than once,
//! its last value counts, unless the flag may be repeated.
//!
//! The known flags are those of the [`clap::Command`]. Errors have Go's texts. Values are not parsed here, so a
//! value may begin with a dash (`-parallelism -1`).

use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::LogFormat;
use crate::config::Env;
use crate::error::escaped;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The result of rewriting a command line for clap.
#[derive(Debug, PartialEq, Eq)]
pub enum Argv {
    /// The command line has `-h` or `-help`, and no error before it. The caller prints the help.
    Help,
    /// The arguments for clap: one `--name` or `--name=value` per flag, then `--`, then the positionals.
    Args(Vec<OsString>),
}

/// Whether a flag takes a value, and what counts if it is given more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlagKind {
    /// A flag without a value (`-json`).
    Switch,
    /// A flag without a value of which the occurrences are counted (`-v -v`).
    Count,
    /// A flag with a value (`-o PATH`). If it is given more than once, the last value counts.
    Value,
    /// A flag with a value that may be given more than once (`-first A -first B`). All its values count.
    Repeatable,
}

struct Flag {
    kind: FlagKind,
    /// The long name of the flag. The rewritten command line uses it, whatever name or alias was typed.
    long: String,
    /// `HYDRANT_` and the flag's name in capitals: the variable that is its default.
    variable: String,
}

/// All flags of `command`, in a map from each of their names. A flag of one letter, such as `-o`, is found by its
/// long alias, which the module `flags` gives it for this purpose.
fn flags_of(command: &clap::Command) -> HashMap<String, Flag> {
    let mut flags = HashMap::new();
    // -h and -help are not in the map. As in Go, they show the help if the command has no flag of that name.
    for arg in command.get_arguments().filter(|arg| !arg.is_positional() && arg.get_id() != "help") {
        let kind = match arg.get_action() {
            clap::ArgAction::SetTrue | clap::ArgAction::SetFalse => FlagKind::Switch,
            clap::ArgAction::Count => FlagKind::Count,
            clap::ArgAction::Append => FlagKind::Repeatable,
            _ => FlagKind::Value,
        };
        let mut names: Vec<String> = arg.get_long().into_iter().map(str::to_owned).collect();
        names.extend(arg.get_all_aliases().into_iter().flatten().map(str::to_owned));
        let Some(long) = names.first().cloned() else {
            debug_assert!(false, "{} has no long name and no alias: nobody can type it", arg.get_id());
            continue;
        };
        let variable = format!("HYDRANT_{}", arg.get_id().as_str().to_uppercase());
        for name in names {
            flags.insert(name, Flag { kind, long: long.clone(), variable: variable.clone() });
        }
    }
    flags
}

/// Rewrites `args` by the rules of Go's package `flag`. A flag that is not among them gets the value
/// of its variable in `env`, if that is set and not empty.
pub fn normalise(
    command: &clap::Command,
    args: impl Iterator<Item = OsString>,
    env: &Env<'_>,
) -> Result<Argv, Failure> {
    let flags = flags_of(command);
    let mut given: Vec<(&Flag, Option<OsString>)> = Vec::new();
    let mut typed: HashSet<&str> = HashSet::new();
    let mut positionals = Vec::new();
    let mut args = args;
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes.len() < 2 || bytes.first() != Some(&b'-') {
            positionals.push(arg);
            continue;
        }
        if bytes == b"--" {
            positionals.extend(args);
            break;
        }
        let (name, value) = split(bytes).ok_or_else(|| Failure::usage(format!("bad flag syntax: {}", shown(bytes))))?;
        let Some(flag) = std::str::from_utf8(name).ok().and_then(|name| flags.get(name)) else {
            if matches!(name, b"h" | b"help") {
                return Ok(Argv::Help);
            }
            return Err(undefined(command, name));
        };
        typed.insert(&flag.long);
        let value = match (flag.kind, value) {
            (FlagKind::Switch | FlagKind::Count, None) => None,
            (FlagKind::Switch | FlagKind::Count, Some(value)) => match parse_bool(value) {
                Some(true) => None,
                Some(false) => {
                    given.retain(|(other, _)| other.long != flag.long);
                    continue;
                }
                None => return Err(invalid_value(&shown(value), &shown(name), "parse error")),
            },
            (FlagKind::Value | FlagKind::Repeatable, Some(value)) => Some(OsString::from_vec(value.to_vec())),
            (FlagKind::Value | FlagKind::Repeatable, None) => {
                Some(args.next().ok_or_else(|| Failure::usage(format!("flag needs an argument: -{}", shown(name))))?)
            }
        };
        if matches!(flag.kind, FlagKind::Switch | FlagKind::Value) {
            given.retain(|(other, _)| other.long != flag.long);
        }
        given.push((flag, value));
    }
    given.extend(from_environment(&flags, &typed, env)?);
    Ok(Argv::Args(for_clap(given, positionals)))
}

/// The flags that were not `typed` and whose variable is set: `HYDRANT_MEMORY=1GiB` for `-memory`,
/// `HYDRANT_JSON=true` for `-json`, `HYDRANT_VERBOSE=2` for `-vv`.
fn from_environment<'a>(
    flags: &'a HashMap<String, Flag>,
    typed: &HashSet<&str>,
    env: &Env<'_>,
) -> Result<Vec<(&'a Flag, Option<OsString>)>, Failure> {
    let mut found = Vec::new();
    // A flag with several names is in the map under each of them.
    for flag in flags.iter().filter(|(name, flag)| **name == flag.long).map(|(_, flag)| flag) {
        // The variable of `-config` is LITESTREAM_CONFIG. HYDRANT_CONFIG is not read: if it were set for a whole
        // machine, every command line with a replica URL would fail, because a URL and `-config` exclude each other.
        if typed.contains(flag.long.as_str()) || flag.long == "config" {
            continue;
        }
        let Some(value) = env(&flag.variable).filter(|value| !value.is_empty()) else { continue };
        let invalid = |expected| invalid_variable(&flag.variable, &value, expected);
        match flag.kind {
            FlagKind::Value | FlagKind::Repeatable => found.push((flag, Some(OsString::from(value)))),
            FlagKind::Switch => {
                if parse_bool(value.as_bytes()).ok_or_else(|| invalid("true or false"))? {
                    found.push((flag, None));
                }
            }
            FlagKind::Count => {
                let times = value.parse::<u8>().ok().filter(|times| *times <= 2).ok_or_else(|| invalid("0, 1 or 2"))?;
                found.extend((0..times).map(|_| (flag, None)));
            }
        }
    }
    Ok(found)
}

/// The format of messages about a command line that cannot be parsed, as far as it can be read.
pub fn log_format(args: &[OsString], env: &Env<'_>) -> LogFormat {
    let named = |name: &[u8]| name == b"log-format";
    let mut format = env("HYDRANT_LOG_FORMAT").map(OsString::from);
    for (at, arg) in args.iter().enumerate() {
        match split(arg.as_bytes()) {
            Some((name, Some(value))) if named(name) => format = Some(OsString::from_vec(value.to_vec())),
            Some((name, None)) if named(name) => format = args.get(at + 1).cloned(),
            _ => {}
        }
    }
    if format.is_some_and(|format| format == "json") { LogFormat::Json } else { LogFormat::Text }
}

fn invalid_variable(variable: &str, value: &str, expected: &str) -> Failure {
    Failure::usage(format!("invalid value \"{}\" of {variable}: expected {expected}", escaped(value)))
}

/// The variable of a flag's long name.
pub fn variable_of(command: &clap::Command, long: &str) -> Option<String> {
    flags_of(command).remove(long).map(|flag| flag.variable)
}

/// All names of the flags of `command`.
pub fn names_of(command: &clap::Command) -> HashSet<String> {
    flags_of(command).into_keys().collect()
}

fn for_clap(given: Vec<(&Flag, Option<OsString>)>, positionals: Vec<OsString>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(given.len() + positionals.len() + 1);
    for (flag, value) in given {
        let mut arg = OsString::from(format!("--{}", flag.long));
        if let Some(value) = value {
            arg.push("=");
            arg.push(value);
        }
        out.push(arg);
    }
    out.push("--".into());
    out.extend(positionals);
    out
}

/// Splits `-name=value` or `--name=value` into the name and, if there is one, the value. Returns None for three
/// dashes or an empty name, which Go calls "bad flag syntax".
fn split(arg: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let rest = arg.strip_prefix(b"--").or_else(|| arg.strip_prefix(b"-"))?;
    if matches!(rest.first(), None | Some(b'-' | b'=')) {
        return None;
    }
    match rest.iter().position(|&b| b == b'=') {
        None => Some((rest, None)),
        Some(at) => Some((rest.get(..at)?, rest.get(at + 1..))),
    }
}

/// Parses a boolean in any of the spellings that Go's `strconv.ParseBool` accepts. None if it is none of them.
fn parse_bool(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

/// The failure with Go's text for a value that cannot be parsed: `invalid value "X" for flag -NAME: reason`.
pub fn invalid_value(value: &str, name: &str, reason: &str) -> Failure {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    Failure::usage(format!("invalid value \"{value}\" for flag -{name}: {reason}"))
}

/// The failure for an unknown flag.
fn undefined(command: &clap::Command, name: &[u8]) -> Failure {
    Failure::usage(format!("flag provided but not defined: -{}", shown(name)))
        .try_call(format!("hydrant {} -h", command.get_name()))
}

/// `args` with each unknown flag replaced by the one with the most similar name. None if there is nothing to replace.
pub fn corrected(command: &clap::Command, args: &[OsString]) -> Option<Vec<OsString>> {
    let flags = flags_of(command);
    let mut any = false;
    let correct = |arg: &OsString| {
        let Some((name, value)) = arg.to_str().filter(|arg| arg.len() > 1).and_then(|arg| split(arg.as_bytes())) else {
            return arg.clone();
        };
        let name = shown(name);
        if flags.contains_key(&name) {
            return arg.clone();
        }
        let Some(near) = crate::cli::ui::suggest::nearest(&name, flags.keys().map(String::as_str)) else {
            return arg.clone();
        };
        any = true;
        let value = value.map(|value| format!("={}", shown(value))).unwrap_or_default();
        OsString::from(format!("-{near}{value}"))
    };
    let args = args.iter().map(correct).collect();
    any.then_some(args)
}

/// Converts an argument to text for error messages. Bytes that are not UTF-8 are replaced by U+FFFD.
fn shown(bytes: &[u8]) -> String {
    OsStr::from_bytes(bytes).to_string_lossy().into_owned()
}
