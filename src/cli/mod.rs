//! The command line of the program: arguments, help, messages, exit codes. docs/CLI.md describes what users
//! and scripts may rely on.
//!
//! ```text
//! argv (Go's rules) ─► flags (clap) ─► resolve ─► restore | ltx | restore_pattern | bench ─► ui (screen, log)
//! ```
//! `args` reads the command line. `ui` writes to the terminal and does not depend on `args`. `session` is the
//! composition root: it starts the worker threads and opens the stores of a command.
//!
//! stdout gets only the output that the user asked for: a listing, a plan, JSON. Messages, warnings and
//! progress go to stderr through a [`Log`].

mod advice;
pub mod args;
mod bench;
mod failures;
mod find;
mod follow;
pub mod ltx;
mod metrics;
mod past;
mod permissions;
mod promote;
mod reported;
pub mod restore;
mod restore_pattern;
mod session;
mod slips;
mod standby_metrics;
#[cfg(test)]
mod tests;
pub mod ui;
mod verify;
mod versions;
mod warnings;

use crate::cancel::CancellationToken;
use crate::cli::args::argv::Argv;
use crate::cli::args::resolved::{
    BenchArgs, CommonArgs, FindArgs, LtxArgs, PromoteArgs, RestoreArgs, RestorePatternArgs, VerifyArgs,
};
use crate::cli::args::{argv, completions, help, man, resolve};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, LogOptions};
use crate::cli::ui::{events, screen, signal};
use crate::config::{self, Env};
use crate::io::signals::ignore_file_size_signal;
use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

/// A parsed and checked command line: one command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print this text on stdout and exit with 0. The text is help, the version, a completion script or a man
    /// page.
    Show(String),
    Restore(RestoreArgs),
    Ltx(LtxArgs),
    RestorePattern(RestorePatternArgs),
    Verify(VerifyArgs),
    Find(FindArgs),
    Promote(PromoteArgs),
    Bench(BenchArgs),
}

impl Command {
    /// The arguments that all commands have which read a store.
    fn common(&self) -> Option<&CommonArgs> {
        match self {
            Self::Show(_) => None,
            Self::Restore(args) => Some(&args.common),
            Self::Ltx(args) => Some(&args.common),
            Self::RestorePattern(args) => Some(&args.common),
            Self::Verify(args) => Some(&args.common),
            Self::Find(args) => Some(&args.common),
            Self::Promote(args) => Some(&args.common),
            Self::Bench(args) => Some(&args.common),
        }
    }

    /// What the command is about, as keys of its error in JSON.
    fn subject(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Restore(args) => {
                let output = args.output.as_ref().map(|output| ("path", output.display().to_string()));
                [("database", args.source_shown.clone())].into_iter().chain(output).collect()
            }
            Self::Ltx(args) => vec![("database", args.source_shown.clone())],
            Self::Find(args) => vec![("database", args.source_shown.clone())],
            Self::Promote(args) => vec![("database", args.source_shown.clone())],
            Self::Show(_) | Self::RestorePattern(_) | Self::Verify(_) | Self::Bench(_) => Vec::new(),
        }
    }
}

/// Runs the program. `args` are the process's arguments, its own name first.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    ignore_file_size_signal();
    let env: &Env<'_> = &config::process_env;
    let mut args = args.skip(1).peekable();
    if args.peek().is_none() {
        // `hydrant` without arguments prints help on stderr and exits with 2. A script that forgot the
        // arguments sees a failure, and its stdout stays empty.
        Log::stderr(plain(env)).line(help::top().trim_end());
        return ExitCode::from(2);
    }
    let args: Vec<OsString> = args.collect();
    let format = argv::log_format(&args, env);
    let (subject, (log, ended)) = match parse(args.iter().cloned(), env) {
        Ok(command) => (command.subject(), execute(&command, env)),
        Err(failure) => (Vec::new(), (Log::stderr(LogOptions { format, ..plain(env) }), Err(failure))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = advice::resolved(failure, &args);
            let keys: Vec<_> = subject.iter().map(|(name, value)| (*name, value.as_str())).collect();
            log.failure(&failure, &keys);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Parses a command line. `args` do not include the program's name. Besides them only the environment `env`
/// is read: no file and nothing on the network.
///
/// # Errors
/// [`Failure::Usage`] if the command line is wrong.
pub fn parse(args: impl Iterator<Item = OsString>, env: &Env<'_>) -> Result<Command, Failure> {
    let args: Vec<OsString> = args.collect();
    let is_right = |args: &[OsString]| parse_args(args, env).is_ok();
    parse_args(&args, env).map_err(|failure| advice::resolved(advice::for_usage(failure, &args, env, is_right), &args))
}

/// As [`parse`], without a better call in the errors that it does not know itself.
fn parse_args(args: &[OsString], env: &Env<'_>) -> Result<Command, Failure> {
    let mut args = args.iter().cloned();
    let first = args.next().unwrap_or_default();
    match first.to_str().unwrap_or_default() {
        "-h" | "-help" | "--help" => Ok(Command::Show(help::top())),
        "-V" | "-version" | "--version" | "version" => Ok(Command::Show(format!("{}\n", help::version()))),
        "help" => match args.next() {
            None => Ok(Command::Show(help::top())),
            Some(name) => help::of(&name.to_string_lossy()).map(Command::Show),
        },
        name => match help::definition(name) {
            Some((command, _)) => parse_command(name, command, args, env),
            None => Err(help::unknown(&first.to_string_lossy())),
        },
    }
}

/// Parses the arguments `args` of the command `name`, whose flags are defined by `command`.
fn parse_command(
    name: &str,
    mut command: clap::Command,
    args: impl Iterator<Item = OsString>,
    env: &Env<'_>,
) -> Result<Command, Failure> {
    let args = match argv::normalise(&command, args, env)? {
        Argv::Help => return Ok(Command::Show(command.render_help().to_string())),
        Argv::Args(args) => args,
    };
    let definition = command.clone();
    let matches = command.try_get_matches_from(args.clone()).map_err(|e| from_clap(&e, &definition, env))?;
    match name {
        "restore" => resolve::restore(typed(&matches)?, env).map(Command::Restore),
        "ltx" => {
            let default = matches.value_source("level") != Some(clap::parser::ValueSource::CommandLine);
            resolve::ltx(typed(&matches)?, default, env).map(Command::Ltx)
        }
        "verify" => resolve::verify(typed(&matches)?, &args, env).map(Command::Verify),
        "promote" => resolve::promote(typed(&matches)?, env).map(Command::Promote),
        "find" => resolve::find(typed(&matches)?, env).map(Command::Find),
        "bench" => resolve::bench(typed(&matches)?, &args, env).map(Command::Bench),
        "restore-pattern" => resolve::restore_pattern(typed(&matches)?, &args, env).map(Command::RestorePattern),
        "completions" => completions::script(&resolve::shell(&typed(&matches)?)?).map(Command::Show),
        "man" => man::page(resolve::man_command(&typed(&matches)?)?.as_deref()).map(Command::Show),
        other => Err(Failure::internal(&format!("the command {other} is defined and not handled"))),
    }
}

/// Converts clap's matches to the struct `T` that holds a command's flags.
fn typed<T: FromArgMatches>(matches: &clap::ArgMatches) -> Result<T, Failure> {
    T::from_arg_matches(matches).map_err(|e| Failure::internal(&e.to_string()))
}

/// clap's error, in Go's words. Unknown flags and missing values were refused by `argv`; what
/// remains are values that cannot be parsed.
fn from_clap(error: &clap::Error, command: &clap::Command, env: &Env<'_>) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap gives the flag with its placeholder, as in `--txid <HEX>` or `-o <PATH>`. Only the name is wanted.
    let flag = context(ContextKind::InvalidArg).trim_start_matches('-');
    let flag = flag.split_once(' ').map_or(flag, |(name, _)| name);
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let reason = error.source().map_or_else(|| "parse error".to_owned(), ToString::to_string);
            let value = context(ContextKind::InvalidValue);
            // The value may have come from the environment.
            match argv::variable_of(command, flag).filter(|variable| env(variable).as_deref() == Some(value)) {
                Some(variable) => argv::invalid_value(value, flag, &format!("{reason} (from {variable})")),
                None => argv::invalid_value(value, flag, &reason),
            }
        }
        ErrorKind::InvalidUtf8 => Failure::usage("a flag's value is not UTF-8"),
        _ => {
            let text = error.to_string();
            Failure::usage(text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        }
    }
}

/// Runs a command and prints its output. Returns the result with the log by which the caller reports a
/// failure.
fn execute(command: &Command, env: &Env<'_>) -> (Log, Result<(), Failure>) {
    let log = Log::stderr(command.common().map_or_else(|| plain(env), |common| common.log));
    events::show(&log);
    let profile = command.common().and_then(|common| common.store.profile.clone());
    let env: &Env<'_> = &|name| with_profile(profile.as_deref(), env, name);
    let ended = match command {
        Command::Show(text) => screen::print(text),
        Command::Restore(args) => with_signals(|cancel| {
            let permissions = permissions::permissions(&args.permissions, &config::RestorePattern::default())?;
            // A standby is written to by SQLite, in any order.
            let staging = (!args.follow).then(std::env::temp_dir);
            let engine = session::OneDatabase::new(permissions, staging);
            match args.follow {
                true => screen::print(&follow::run(args, env, &log, cancel, &engine)?),
                false => screen::print(&restore::run(args, env, &log, cancel, &engine)?),
            }
        }),
        Command::Ltx(args) => with_signals(|cancel| screen::print(&ltx::run(args, env, &log, cancel)?)),
        Command::RestorePattern(args) => with_signals(|cancel| restore_pattern::run(args, env, &log, cancel)),
        Command::Verify(args) => with_signals(|cancel| verify::run(args, env, &log, cancel)),
        Command::Promote(args) => with_signals(|cancel| screen::print(&promote::run(args, env, &log, cancel)?)),
        Command::Find(args) => with_signals(|cancel| screen::print(&find::run(args, env, &log, cancel)?)),
        Command::Bench(args) => with_signals(|cancel| bench::run(args, env, &log, cancel)),
    };
    (log, ended)
}

/// Runs `work` with a cancellation token. The signals SIGHUP, SIGINT and SIGTERM cancel the token, so that `work` can
/// stop early.
fn with_signals(work: impl FnOnce(&CancellationToken) -> Result<(), Failure>) -> Result<(), Failure> {
    let cancel = CancellationToken::new();
    signal::watch(&cancel)?;
    work(&cancel)
}

/// The value of a variable. `-profile` stands in for `AWS_PROFILE`. That keys in the environment are then not used is
/// decided where stores are opened (`session`).
fn with_profile(profile: Option<&str>, env: &Env<'_>, name: &str) -> Option<String> {
    match (profile, name) {
        (Some(profile), "AWS_PROFILE") => Some(profile.to_owned()),
        _ => env(name),
    }
}

/// How a command line that could not be understood is answered.
fn plain(env: &Env<'_>) -> LogOptions {
    LogOptions { no_color: resolve::no_color(env), ..LogOptions::default() }
}
