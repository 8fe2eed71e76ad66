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

pub mod args;
mod bench;
mod failures;
pub mod ltx;
pub mod restore;
mod restore_pattern;
mod session;
#[cfg(test)]
mod tests;
pub mod ui;

use crate::cancel::CancellationToken;
use crate::cli::args::argv::Argv;
use crate::cli::args::resolved::{BenchArgs, LtxArgs, RestoreArgs, RestorePatternArgs};
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
    Bench(BenchArgs),
}

/// Runs the program with the process's arguments and returns its exit code. The first of `args` is the
/// program's own name.
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
    let (log, ended) = match parse(args, env) {
        Ok(command) => execute(&command, env),
        Err(failure) => (Log::stderr(plain(env)), Err(failure)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Parses a command line. `args` do not include the program's name. Besides them only the environment `env`
/// is read: no file and nothing on the network.
///
/// # Errors
/// [`Failure::Usage`] if the command line is wrong.
pub fn parse(mut args: impl Iterator<Item = OsString>, env: &Env<'_>) -> Result<Command, Failure> {
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
    let args = match argv::normalise(&command, args)? {
        Argv::Help => return Ok(Command::Show(command.render_help().to_string())),
        Argv::Args(args) => args,
    };
    let matches = command.try_get_matches_from(args).map_err(|e| from_clap(&e))?;
    match name {
        "restore" => resolve::restore(typed(&matches)?, env).map(Command::Restore),
        "ltx" => {
            let default = matches.value_source("level") != Some(clap::parser::ValueSource::CommandLine);
            resolve::ltx(typed(&matches)?, default, env).map(Command::Ltx)
        }
        "bench" => resolve::bench(typed(&matches)?, env).map(Command::Bench),
        "restore-pattern" => resolve::restore_pattern(typed(&matches)?, env).map(Command::RestorePattern),
        "completions" => completions::script(&resolve::shell(&typed(&matches)?)?).map(Command::Show),
        "man" => man::page(resolve::man_command(&typed(&matches)?)?.as_deref()).map(Command::Show),
        other => Err(Failure::internal(&format!("the command {other} is defined and not handled"))),
    }
}

/// Converts clap's matches to the struct `T` that holds a command's flags.
fn typed<T: FromArgMatches>(matches: &clap::ArgMatches) -> Result<T, Failure> {
    T::from_arg_matches(matches).map_err(|e| from_clap(&e))
}

/// Converts an error of clap to a failure with the text that Go's package `flag` would print, because scripts
/// written for Litestream (a Go program) rely on it. Nearly all errors here are values that cannot be parsed:
/// `argv` has already refused unknown flags and missing values.
fn from_clap(error: &clap::Error) -> Failure {
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
            argv::invalid_value(context(ContextKind::InvalidValue), flag, &reason)
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
    let log = Log::stderr(match command {
        Command::Show(_) => plain(env),
        Command::Restore(args) => args.common.log,
        Command::Ltx(args) => args.common.log,
        Command::RestorePattern(args) => args.common.log,
        Command::Bench(args) => args.common.log,
    });
    events::show(&log);
    let ended = match command {
        Command::Show(text) => screen::print(text),
        Command::Restore(args) => with_signals(|cancel| {
            screen::print(&restore::run(args, env, &log, cancel, &session::OneDatabase::default())?)
        }),
        Command::Ltx(args) => with_signals(|cancel| screen::print(&ltx::run(args, env, &log, cancel)?)),
        Command::RestorePattern(args) => with_signals(|cancel| restore_pattern::run(args, env, &log, cancel)),
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

/// The log options for messages about a command line that could not be parsed, so that its own log flags are
/// not known: plain text, and colours unless `NO_COLOR` is set.
fn plain(env: &Env<'_>) -> LogOptions {
    LogOptions { no_color: resolve::no_color(env), ..LogOptions::default() }
}
