//! The clap definitions of the program and its commands, and the help made from them and from the
//! texts in `examples`.

use crate::cli::args::examples::{self, HelpText};
use crate::cli::args::flags::{BenchFlags, CompletionsFlags, LtxFlags, ManFlags, PatternFlags, RestoreFlags};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::suggest;
use clap::{Command, CommandFactory};

/// The commands, in the order in which help shows them.
pub const COMMANDS: [&str; 6] = ["restore", "ltx", "restore-pattern", "bench", "completions", "man"];

/// The clap definition of one of [`COMMANDS`], and the texts around its flags.
pub fn definition(name: &str) -> Option<(Command, &'static HelpText)> {
    let (command, text) = match name {
        "restore" => (RestoreFlags::command(), &examples::RESTORE),
        "ltx" => (LtxFlags::command(), &examples::LTX),
        "restore-pattern" => (PatternFlags::command(), &examples::RESTORE_PATTERN),
        "bench" => (BenchFlags::command(), &examples::BENCH),
        "completions" => (CompletionsFlags::command(), &examples::COMPLETIONS),
        "man" => (ManFlags::command(), &examples::MAN),
        _ => return None,
    };
    Some((command.no_binary_name(true), text))
}

/// The clap definition of the program, all commands included.
pub fn program() -> Command {
    Command::new("hydrant")
        .about("Restores SQLite databases from Litestream replicas, as fast as network and disk allow")
        .override_usage("hydrant COMMAND [flags] …")
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .subcommands(COMMANDS.into_iter().filter_map(definition).map(|(command, _)| command))
        .after_help(examples::TOP.after_help())
}

/// `hydrant --help`.
pub fn top() -> String {
    program().render_help().to_string()
}

/// `hydrant help COMMAND`.
pub fn of(name: &str) -> Result<String, Failure> {
    let (mut command, _) = definition(name).ok_or_else(|| unknown(name))?;
    Ok(command.render_help().to_string())
}

/// What was typed in the place of a command is none.
pub fn unknown(name: &str) -> Failure {
    if name.starts_with('-') {
        return Failure::usage(format!("flag provided but not defined: {name}"))
            .try_call("hydrant COMMAND [flags] …: flags follow the command; hydrant -help shows the commands");
    }
    let failure = Failure::usage(format!("hydrant {name}: unknown command"));
    match (name, suggest::nearest(name, COMMANDS.into_iter())) {
        ("wal", _) => failure.try_call("hydrant ltx"),
        (_, Some(near)) => failure.try_call(format!("hydrant {near}")),
        (_, None) => failure.try_call("hydrant -help"),
    }
}

/// `hydrant --version`.
pub fn version() -> &'static str {
    concat!("hydrant ", env!("CARGO_PKG_VERSION"))
}
