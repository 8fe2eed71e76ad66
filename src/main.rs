//! The program `hydrant`. [`hydrant::cli::run`] does everything.

fn main() -> std::process::ExitCode {
    hydrant::cli::run(std::env::args_os())
}
