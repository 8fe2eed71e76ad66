//! The clap definitions of the program and of its commands. clap makes the help from these definitions and from
//! the texts in `examples`.

use crate::cli::args::examples::{self, HelpText};
use crate::cli::args::flags::{
    BenchFlags, CompletionsFlags, FindFlags, LtxFlags, ManFlags, PatternFlags, RestoreFlags, VerifyFlags,
};
use crate::cli::args::promote_flags::PromoteFlags;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::suggest;
use clap::{Command, CommandFactory};

/// The names of the commands, in the order in which help lists them.
pub const COMMANDS: [&str; 9] =
    ["restore", "ltx", "restore-pattern", "verify", "find", "promote", "bench", "completions", "man"];

/// The clap definition of the command `name`, and the help texts around its flags. None if there is no such
/// command.
pub fn definition(name: &str) -> Option<(Command, &'static HelpText)> {
    let (command, text) = match name {
        "restore" => (RestoreFlags::command(), &examples::RESTORE),
        "ltx" => (LtxFlags::command(), &examples::LTX),
        "restore-pattern" => (PatternFlags::command(), &examples::RESTORE_PATTERN),
        "verify" => (VerifyFlags::command(), &examples::VERIFY),
        "find" => (FindFlags::command(), &examples::FIND),
        "promote" => (PromoteFlags::command(), &examples::PROMOTE),
        "bench" => (BenchFlags::command(), &examples::BENCH),
        "completions" => (CompletionsFlags::command(), &examples::COMPLETIONS),
        "man" => (ManFlags::command(), &examples::MAN),
        _ => return None,
    };
    Some((command.no_binary_name(true), text))
}

/// The clap definition of the program with all its commands.
pub fn program() -> Command {
    Command::new("hydrant")
        .about("Restores SQLite databases from Litestream replicas, as fast as network and disk allow")
        .override_usage("hydrant COMMAND [flags] …")
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .subcommands(COMMANDS.into_iter().filter_map(definition).map(|(command, _)| command))
        .after_help(examples::TOP.after_help())
}

/// The text that `hydrant --help` prints.
pub fn top() -> String {
    program().render_help().to_string()
}

/// The text that `hydrant help COMMAND` prints, for the command `name`.
///
/// # Errors
/// There is no such command.
pub fn of(name: &str) -> Result<String, Failure> {
    let (mut command, _) = definition(name).ok_or_else(|| unknown(name))?;
    Ok(command.render_help().to_string())
}

/// A command of Litestream that Hydrant does not have.
pub struct Litestreams {
    /// What Hydrant has in its place.
    pub has: &'static str,
    /// The command that takes the same argument. None: there is none.
    pub instead: &'static str,
}

/// The command `name` of Litestream, if Hydrant does not have it.
pub fn litestreams(name: &str) -> Option<Litestreams> {
    let (has, instead) = match name {
        "wal" => ("hydrant ltx lists the files of a replica", "ltx"),
        "snapshots" => ("hydrant ltx -level 9 lists the snapshots", "ltx"),
        "generations" => ("hydrant ltx -level all lists LTX files and names the generations of Litestream 0.3", "ltx"),
        "databases" => ("hydrant restore-pattern -dry-run '/**' shows the configured databases", ""),
        "replicate" | "reset" | "sync" => ("Hydrant reads replicas and writes none: go on with litestream", ""),
        "start" | "stop" | "register" | "unregister" | "add" | "remove" | "list" | "info" | "status" => {
            ("it is about litestream replicate, which Hydrant does not replace", "")
        }
        _ => return None,
    };
    Some(Litestreams { has, instead })
}

/// The command with the name most similar to `name`.
pub fn nearest(name: &str) -> Option<&'static str> {
    suggest::nearest(name, COMMANDS.into_iter())
}

/// The failure for a first argument `name` that is not a command.
pub fn unknown(name: &str) -> Failure {
    if name.starts_with('-') {
        return Failure::usage(format!("flag provided but not defined: {name}")).try_call("hydrant -help");
    }
    let message = format!("hydrant {name}: unknown command");
    match (litestreams(name), nearest(name)) {
        (Some(Litestreams { has, instead: "" }), _) => {
            Failure::usage(format!("{message}: it is Litestream's. {has}")).try_call("hydrant -help")
        }
        (Some(Litestreams { has, instead }), _) => {
            Failure::usage(format!("{message}: it is Litestream's. {has}")).try_call(format!("hydrant {instead} -h"))
        }
        (None, Some(near)) => Failure::usage(message).try_call(format!("hydrant {near} -h")),
        (None, None) => Failure::usage(message).try_call("hydrant -help"),
    }
}

/// The name and version of the program, as `hydrant --version` prints them.
pub fn version() -> &'static str {
    concat!("hydrant ", env!("CARGO_PKG_VERSION"))
}
