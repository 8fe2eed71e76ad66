//! The command line: what was typed → what a command is to do.
//!
//! `argv` applies Go's rules, `flags` defines the flags for clap, `values` reads the value of a
//! single flag, `resolve` adds defaults and environment and checks what excludes what, `resolved`
//! is the result. `help`, `man` and `completions` are made from the same definitions, `examples`
//! holds their texts.

pub mod argv;
pub mod completions;
mod examples;
pub mod flags;
pub mod help;
pub mod man;
pub mod memory;
pub mod resolve;
pub mod resolved;
pub mod values;
