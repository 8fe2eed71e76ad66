//! The command lines that errors suggest, made from the one that was typed. Each can be run as it is shown.

use crate::cli::args::call::Call;
use crate::cli::args::resolved::Source;
use crate::cli::args::{argv, help};
use crate::cli::ui::failure::{Advice, Failure};
use crate::config::{self, Env};
use crate::error::Class;
use crate::plan::{DatedGeneration, PlanError};
use crate::restore::{NothingFound, RestoreError};
use std::ffi::OsString;
use std::path::Path;

/// The number of names that are tried for an output beside one that is in use.
const MOST_NAMES: u32 = 9;

/// Adds to a usage error the command line that was probably meant, if there is one that `is_right`.
pub(super) fn for_usage(
    failure: Failure,
    args: &[OsString],
    env: &Env<'_>,
    is_right: impl Fn(&[OsString]) -> bool,
) -> Failure {
    let Failure::Usage { .. } = failure else { return failure };
    match candidates(args, env).into_iter().find(|call| is_right(&call.args())).and_then(|call| call.shown()) {
        Some(call) => failure.try_call(call),
        None => failure,
    }
}

/// Command lines that may have been meant by the wrong one `args`.
fn candidates(args: &[OsString], env: &Env<'_>) -> Vec<Call> {
    let Some((first, rest)) = args.split_first() else { return Vec::new() };
    let name = first.to_string_lossy();
    let Some((definition, _)) = help::definition(&name) else {
        let reordered = args.iter().position(|arg| arg.to_str().is_some_and(|arg| help::COMMANDS.contains(&arg)));
        if let Some(at) = reordered.filter(|_| name.starts_with('-')) {
            let mut args = args.to_vec();
            args.rotate_left(at);
            return Call::of(&args).into_iter().collect();
        }
        let called = |command: &str| {
            let args: Vec<OsString> = std::iter::once(OsString::from(command)).chain(rest.iter().cloned()).collect();
            Call::of(&args)
        };
        return match help::litestreams(&name)
            .map(|own| own.instead)
            .filter(|own| !own.is_empty())
            .or_else(|| help::nearest(&name))
        {
            Some("ltx") if name == "snapshots" => called("ltx").map(|call| call.with("level", "9")),
            Some("ltx") if name == "generations" => called("ltx").map(|call| call.with("level", "all")),
            Some(command) => called(command),
            None => None,
        }
        .into_iter()
        .collect();
    };
    let mut all: Vec<Call> = argv::corrected(&definition, rest)
        .and_then(|rest| Call::of(&[std::slice::from_ref(first), rest.as_slice()].concat()))
        .into_iter()
        .collect();
    if let Some(call) = Call::of(args) {
        all.extend(rearranged(&call, env));
    }
    all
}

/// The same words in another order, or as another kind of argument.
fn rearranged(call: &Call, env: &Env<'_>) -> Option<Call> {
    let is_url = |word: &str| config::is_replica_url(word);
    let home = |word: &str| Some(format!("{}/{}", env("HOME")?.trim_end_matches('/'), word.strip_prefix("~/")?));
    let tilde = ["o", "output-dir", "report", "error-log", "hlog"]
        .into_iter()
        .find_map(|flag| Some((flag, home(call.value_of(flag)?)?)));
    match (call.command(), call.positionals(), call.value_of("o")) {
        _ if tilde.is_some() => tilde.map(|(flag, path)| call.clone().with(flag, &path)),
        // The order of `cp`: source, then destination.
        ("restore", [url, path], None) | ("restore", [path, url], None) if is_url(url) && !is_url(path) => {
            Some(call.clone().with("o", path).from(url))
        }
        ("restore", [path], Some(url)) if is_url(url) && !is_url(path) => Some(call.clone().with("o", path).from(url)),
        ("bench", [path], _) if path.starts_with('/') => Some(call.clone().from(&format!("file://{path}"))),
        _ => None,
    }
}

/// The advice for a database that was not restored to `output`. None if no other call is known to help.
pub(super) fn of_restore(failure: &Failure, output: &Path) -> Option<Advice> {
    let Failure::Failed { class, message, try_call: None } = failure else { return None };
    match class {
        Class::OutputExists if message.ends_with("Use -force to overwrite") => Some(Advice::Switch("force")),
        Class::InUse => free_name(output).map(|path| Advice::Value("o", path)),
        _ => None,
    }
}

/// The advice for a replica from which no database was restored. None if no other call is known to help.
pub(super) fn of_replica(error: &RestoreError) -> Option<Advice> {
    let newest = |known: &[DatedGeneration]| known.iter().max_by_key(|g| (g.last, g.name)).map(|g| g.name);
    let generation = match error {
        RestoreError::Plan(PlanError::UnknownGeneration { known, .. }) => newest(known),
        RestoreError::Plan(PlanError::NoSnapshot { instead, .. }) => *instead,
        _ => None,
    };
    if let Some(generation) = generation {
        return Some(Advice::Value("generation", generation.to_string()));
    }
    // What `hydrant ltx` lists says nothing about files of Litestream 0.3.
    let is_of_ltx = match error {
        RestoreError::File { key, .. } | RestoreError::Chain { key, .. } | RestoreError::Unreadable { key, .. } => {
            key.ends_with(".ltx")
        }
        RestoreError::Wal { .. } | RestoreError::Ahead { .. } => false,
        RestoreError::Plan(
            PlanError::NoSnapshot { .. }
            | PlanError::Prerelease { .. }
            | PlanError::UnknownGeneration { .. }
            | PlanError::WalHole { .. }
            | PlanError::SnapshotNotReached { .. }
            | PlanError::DamagedWal { .. }
            | PlanError::PageHole { .. }
            | PlanError::CutOff { .. }
            | PlanError::NoOtherSnapshot { .. }
            | PlanError::ArchivedFiles { .. },
        ) => false,
        _ => true,
    };
    match error.class() {
        Class::Hole
        | Class::ChainDoesNotBeginAtOne
        | Class::TargetNotReachable
        | Class::Truncated
        | Class::Malformed
        | Class::ChecksumMismatch
        | Class::NameAndHeaderDisagree
            if is_of_ltx =>
        {
            Some(Advice::ListFiles)
        }
        _ => None,
    }
}

/// The advice for a place `found` without backups that `source` names: the database that lies there instead, or all
/// of them, below a directory beside `output`. None for a database of a configuration file, whose settings no URL has.
pub(super) fn of_nothing(
    found: &NothingFound,
    source: &Source,
    output: Option<&Path>,
    env: &Env<'_>,
) -> Option<Advice> {
    let Source::Url(url) = source else { return None };
    // Not every key can be named by a URL.
    let names = |key: &str| {
        let other = config::url_with_path(url, key)?;
        let is_right = config::parse_replica_url(&other, env).is_ok_and(|location| location.path == key);
        is_right.then_some(Advice::Source(other))
    };
    match found {
        NothingFound::Inside { root, .. } => names(root),
        NothingFound::Below { count: 1, roots, .. } => names(roots.first()?.trim_end_matches('/')),
        NothingFound::Below { .. } => {
            let path = config::parse_replica_url(url, env).ok()?.path;
            let dir = if path == "." { "" } else { path.as_str() };
            let pattern = below(url, dir)?;
            let into = match output {
                None => None,
                Some(output) => Some(free_directory(output)?),
            };
            Some(Advice::All { pattern, into })
        }
        NothingFound::Empty { .. } | NothingFound::NoDirectory { .. } => None,
    }
}

/// The URL of the pattern that everything below the directory `dir` of the store matches.
fn below(url: &str, dir: &str) -> Option<String> {
    // In a pattern these are no characters of a name.
    if dir.contains(['*', '?', '[', ']', '{', '}', '\\']) {
        return None;
    }
    let pattern = if dir.is_empty() { "**".to_owned() } else { format!("{dir}/**") };
    of_pattern(url, pattern.strip_prefix('/').unwrap_or(&pattern))
}

/// The URL of another pattern in the store that `url` names. None if no URL can name it.
pub(super) fn of_pattern(url: &str, pattern: &str) -> Option<String> {
    let other = config::url_with_path(url, pattern)?;
    // The pattern does not depend on the environment.
    let is_right = config::parse_pattern_url(&other, &|_| None).is_ok_and(|(_, parsed)| parsed == pattern);
    is_right.then_some(other)
}

/// A directory for the databases of which one was to be restored to `output`: the same path without its extension.
fn free_directory(output: &Path) -> Option<String> {
    let dir = output.with_extension("");
    if std::fs::symlink_metadata(&dir).is_ok() { free_name(output) } else { dir.to_str().map(str::to_owned) }
}

/// A name beside `output` that is free.
fn free_name(output: &Path) -> Option<String> {
    let output = output.to_str()?;
    let number = |n: u32| if n == 1 { String::new() } else { format!("-{n}") };
    let mut names = (1..=MOST_NAMES).map(|n| format!("{output}.restored{}", number(n)));
    names.find(|name| std::fs::symlink_metadata(name).is_err())
}

/// Replaces the advice of a failure by the command line that it stands for.
pub(super) fn resolved(failure: Failure, args: &[OsString]) -> Failure {
    let Some(advice) = failure.advice().cloned() else { return failure };
    let call = match (advice, Call::of(args)) {
        (Advice::Call(call), _) => Some(call),
        (_, None) => None,
        (Advice::Switch(flag), Some(call)) => call.switched(flag).shown(),
        (Advice::Value(flag, value), Some(call)) => call.with(flag, &value).shown(),
        (Advice::Source(url), Some(call)) => of_source(&call, &url).and_then(|call| call.shown()),
        (Advice::ListFiles, Some(call)) => call.into_command("ltx").with("level", "all").shown(),
        // The flag -txid is one of a single database.
        (Advice::All { into: Some(_), .. }, Some(call)) if call.value_of("txid").is_some() => None,
        (Advice::All { pattern, into }, Some(call)) => {
            let call = call.into_command("restore-pattern").from(&pattern);
            match into {
                Some(dir) => call.with("output-dir", &dir).shown(),
                None => call.switched("dry-run").shown(),
            }
        }
    };
    failure.advised(call.map(Advice::Call))
}

/// The call that reads from `url` in place of a path. A database that had no output gets one in the current
/// directory, if its name is free.
fn of_source(call: &Call, url: &str) -> Option<Call> {
    let better = call.clone().without("config").without("no-expand-env").from(url);
    if call.command() != "restore" || call.value_of("o").is_some() {
        return Some(better);
    }
    let name = url.split('?').next()?.trim_end_matches('/').rsplit('/').next()?.to_owned();
    let is_free = !name.is_empty() && std::fs::symlink_metadata(&name).is_err();
    is_free.then(|| better.with("o", &name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Generation;
    use crate::cli::parse;
    use crate::ltx::{Pgno, Txid};
    use crate::restore::ChainError;
    use crate::timestamp::Timestamp;

    #[test]
    fn better_calls() {
        let home = |name: &str| (name == "HOME").then(|| "/home/me/".to_owned());
        let tried = |args: &[&str]| {
            parse(args.iter().map(OsString::from), &home).unwrap_err().tried().map(str::to_owned).unwrap_or_default()
        };
        for (args, better) in [
            (&["restore", "s3://b/p"][..], "hydrant restore -o /path/to/db s3://b/p"),
            (&["restore", "s3://b/p?region=x", "-force"], "hydrant restore -force -o /path/to/db 's3://b/p?region=x'"),
            // A secret is not repeated, and without it the call would fail.
            (&["restore", "s3://AK:SECRET@b/p?endpoint=h&region=x"], ""),
            (
                &["restore", "-time-stamp", "2026-01-01T00:00:00Z", "db"],
                "hydrant restore -timestamp 2026-01-01T00:00:00Z db",
            ),
            (&["restore", "-time-stamp", "x", "db"], "hydrant restore -h"),
            (&["restore", "-quux", "db"], "hydrant restore -h"),
            (&["restor"], "hydrant restore -h"),
            (&["restor", "-o", "x", "s3://b/p"], "hydrant restore -o x s3://b/p"),
            (&["-force", "restore", "db"], "hydrant restore -force db"),
            (&["-force", "nothing"], "hydrant -help"),
            (&["wal"], "hydrant ltx -h"),
            (&["wal", "-config", "c", "db"], "hydrant ltx -config c db"),
            (&["snapshots", "db"], "hydrant ltx -level 9 db"),
            (&["generations", "s3://b/p"], "hydrant ltx -level all s3://b/p"),
            (&["replicate", "-config", "c"], "hydrant -help"),
            (&["databases"], "hydrant -help"),
            // The order of `cp`, and -o and source swapped.
            (&["restore", "s3://b/p", "x.db"], "hydrant restore -o x.db s3://b/p"),
            (&["restore", "x.db", "s3://b/p"], "hydrant restore -o x.db s3://b/p"),
            (&["restore", "-o", "s3://b/p", "x.db"], "hydrant restore -o x.db s3://b/p"),
            (&["restore", "-o", "s3://b/p", "s3://b/q"], ""),
            (&["restore", "-o", "~/x.db", "s3://b/p"], "hydrant restore -o /home/me/x.db s3://b/p"),
            (&["restore-pattern", "-report", "~/r", "x"], "hydrant restore-pattern -report /home/me/r x"),
            (&["restore", "-o", "-", "s3://b/p"], ""),
            (&["bench", "/data/**"], "hydrant bench 'file:///data/**'"),
            (&["bench", "-stage", "all", "s3://b/**"], "hydrant bench -stage all -output-dir . 's3://b/**'"),
            (&["restore-pattern", "a", "b"], "hydrant restore-pattern -h"),
        ] {
            assert_eq!(tried(args), better, "{args:?}");
            if !better.is_empty() {
                let words = better.replace('\'', "");
                let again = words.split(' ').skip(1).map(OsString::from);
                assert!(parse(again, &home).is_ok(), "{better}");
            }
        }
    }

    #[test]
    fn replicas_of_litestream_0_3() {
        let generation = |name, seconds: i64| DatedGeneration {
            name: Generation(name),
            first: Timestamp::from_millis(0),
            last: Timestamp::from_millis(seconds * 1000),
        };
        let named = |name: u64| Some(Advice::Value("generation", format!("{name:016x}")));
        let unknown = |known: &[DatedGeneration]| {
            of_replica(&PlanError::UnknownGeneration { generation: Generation(9), known: known.to_vec() }.into())
        };
        assert_eq!(unknown(&[generation(3, 7), generation(1, 8), generation(2, 5)]), named(1));
        assert_eq!(unknown(&[]), None);
        let no_snapshot =
            |instead| of_replica(&PlanError::NoSnapshot { generation: Generation(9), files: 2, instead }.into());
        assert_eq!(no_snapshot(Some(Generation(5))), named(5));
        assert_eq!(no_snapshot(None), None);
        // `hydrant ltx` lists LTX files alone.
        let wal_hole = PlanError::WalHole { generation: Generation(9), after: "k".to_owned(), index: 1, offset: 0 };
        assert_eq!(of_replica(&wal_hole.into()), None);
        assert_eq!(of_replica(&PlanError::Hole { have: Txid(1), next: Txid(3) }.into()), Some(Advice::ListFiles));
        for (name, listed) in [("0000/1-1.ltx", true), ("wal/00000000_00000000.wal.lz4", false)] {
            let error = ChainError::PageMissing { pgno: Pgno(1), commit: 2 };
            let error = RestoreError::Chain { key: format!("a.db/{name}"), error };
            assert_eq!(of_replica(&error).is_some(), listed, "{name}");
        }
    }

    #[test]
    fn litestreams_own_commands_are_named_as_such() {
        for (command, has) in [
            ("replicate", "Hydrant reads replicas and writes none"),
            ("databases", "hydrant restore-pattern -dry-run '/**'"),
            ("snapshots", "hydrant ltx -level 9"),
            ("generations", "hydrant ltx -level all"),
            ("wal", "hydrant ltx"),
            ("status", "litestream replicate"),
            ("sync", "Hydrant reads replicas"),
        ] {
            let failure = parse([command, "x"].map(OsString::from).into_iter(), &|_| None).unwrap_err();
            let begin = format!("hydrant {command}: unknown command: it is Litestream's. ");
            assert!(failure.message().starts_with(&begin) && failure.message().contains(has), "{}", failure.message());
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
