//! Help texts, built from the definitions in `flags` and the texts in `examples`.

use crate::cli::args::examples;
use crate::cli::args::flags::{BenchFlags, LtxFlags, PatternFlags, RestoreFlags};
use clap::{Command, CommandFactory};

/// The commands, in the order in which help shows them.
pub const COMMANDS: [&str; 4] = ["restore", "ltx", "restore-pattern", "bench"];

/// The clap definition of one of [`COMMANDS`].
pub fn command(name: &str) -> Option<Command> {
    let command = match name {
        "restore" => RestoreFlags::command(),
        "ltx" => LtxFlags::command(),
        "restore-pattern" => PatternFlags::command(),
        "bench" => BenchFlags::command(),
        _ => return None,
    };
    Some(command.no_binary_name(true))
}

/// `hydrant --help`.
pub fn top() -> String {
    Command::new("hydrant")
        .about("Restores SQLite databases from Litestream replicas, as fast as network and disk allow")
        .override_usage("hydrant COMMAND [flags] …")
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .subcommands(COMMANDS.iter().filter_map(|name| command(name)))
        .after_help(examples::TOP)
        .render_help()
        .to_string()
}

/// `hydrant COMMAND -h`.
pub fn of(name: &str) -> Option<String> {
    Some(command(name)?.render_help().to_string())
}

/// `hydrant --version`.
pub fn version() -> &'static str {
    concat!("hydrant ", env!("CARGO_PKG_VERSION"))
}
