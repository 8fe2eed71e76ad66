//! Flags as typed → resolved arguments; help; messages; exit codes (CONTRACT).
//!
//! ```text
//! argv ─► argv (Go's rules) ─► flags (clap) ─► resolve ─► args ─► restore | ltx | restore_pattern | bench ─► output, log
//! ```
//! What is done with a database or a bucket is not here: `restore` hands it to a
//! [`restore::RestoreEngine`]. stdout holds what was asked for and nothing else; all the rest
//! goes to stderr through a [`log::Log`].

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
use crate::cli::args::{argv, help, resolve};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::{Log, LogOptions};
use crate::cli::ui::{screen, signal, suggest};
use crate::config::{self, Env};
use crate::io::signals::ignore_file_size_signal;
use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

/// A command line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To be printed on stdout; exit 0.
    Show(String),
    Restore(RestoreArgs),
    Ltx(LtxArgs),
    RestorePattern(RestorePatternArgs),
    Bench(BenchArgs),
}

/// The program: `args` with its own name first, as the process got them.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    ignore_file_size_signal();
    let env: &Env<'_> = &config::process_env;
    let mut args = args.skip(1).peekable();
    if args.peek().is_none() {
        // Not an answer to a question: stdout stays empty, and scripts see a failure.
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

/// What a command line without the program's name asks for; touches nothing but `env`.
pub fn parse(mut args: impl Iterator<Item = OsString>, env: &Env<'_>) -> Result<Command, Failure> {
    let first = args.next().unwrap_or_default();
    match first.to_str().unwrap_or_default() {
        "-h" | "-help" | "--help" => Ok(Command::Show(help::top())),
        "-V" | "-version" | "--version" | "version" => Ok(Command::Show(format!("{}\n", help::version()))),
        "help" => match args.next() {
            None => Ok(Command::Show(help::top())),
            Some(name) => help::of(&name.to_string_lossy()).map(Command::Show).ok_or_else(|| unknown_command(&name)),
        },
        name => match help::command(name) {
            Some(command) => parse_command(name, command, args, env),
            None => Err(unknown_command(&first)),
        },
    }
}

fn parse_command(
    name: &str,
    command: clap::Command,
    args: impl Iterator<Item = OsString>,
    env: &Env<'_>,
) -> Result<Command, Failure> {
    let args = match argv::normalise(&command, args)? {
        Argv::Help => return Ok(Command::Show(help::of(name).unwrap_or_default())),
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
        _ => resolve::restore_pattern(typed(&matches)?, env).map(Command::RestorePattern),
    }
}

fn typed<T: FromArgMatches>(matches: &clap::ArgMatches) -> Result<T, Failure> {
    T::from_arg_matches(matches).map_err(|e| from_clap(&e))
}

/// `argv` lets nothing through but values that do not parse; of those the messages are Go's.
fn from_clap(error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // As clap shows it: `--txid <HEX>`, `-o <PATH>`.
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

fn unknown_command(name: &OsString) -> Failure {
    let name = name.to_string_lossy();
    if name.starts_with('-') {
        return Failure::usage(format!("flag provided but not defined: {name}"))
            .try_call("hydrant COMMAND [flags] …: flags follow the command; hydrant -help shows the commands");
    }
    let failure = Failure::usage(format!("hydrant {name}: unknown command"));
    match (&*name, suggest::nearest(&name, help::COMMANDS.into_iter())) {
        ("wal", _) => failure.try_call("hydrant ltx"),
        (_, Some(near)) => failure.try_call(format!("hydrant {near}")),
        (_, None) => failure.try_call("hydrant -help"),
    }
}

/// Runs a command to its end, its output included.
fn execute(command: &Command, env: &Env<'_>) -> (Log, Result<(), Failure>) {
    let log = Log::stderr(match command {
        Command::Show(_) => plain(env),
        Command::Restore(args) => args.common.log,
        Command::Ltx(args) => args.common.log,
        Command::RestorePattern(args) => args.common.log,
        Command::Bench(args) => args.common.log,
    });
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

fn with_signals(work: impl FnOnce(&CancellationToken) -> Result<(), Failure>) -> Result<(), Failure> {
    let cancel = CancellationToken::new();
    signal::watch(&cancel)?;
    work(&cancel)
}

/// How a command line that could not be understood is answered.
fn plain(env: &Env<'_>) -> LogOptions {
    LogOptions { no_color: resolve::no_color(env), ..LogOptions::default() }
}
