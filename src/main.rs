//! Parses, runs, maps to an exit code.

fn main() -> std::process::ExitCode {
    hydrant::cli::run(std::env::args_os())
}
