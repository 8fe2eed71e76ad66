//! Reads the command line and converts it to the arguments of a command.
//!
//! - `argv` rewrites the command line from the notation of Go's package `flag` to that of clap.
//! - `flags` and `promote_flags` define the flags of each command for clap, `common_flags` those of all, `store_flags`
//!   those about the store. `values` parses the value of a single flag.
//! - `resolve` adds defaults and environment variables, and refuses flags that exclude each other.
//! - `resolved` has the structs of the result.
//! - `call` is a command line as typed, from which the one after `Try: ` is made. `repeat` is the one for a database
//!   of a pattern, and `shell` quotes words.
//! - `typed` takes a command line apart for both.
//! - `help`, `man` and `completions` are made from the same definitions, with texts from `examples`.
//! - `memory` computes the default of `-memory`.

pub mod argv;
pub mod call;
mod common_flags;
pub mod completions;
mod examples;
pub mod flags;
pub mod follow_flags;
pub mod help;
pub mod man;
pub mod memory;
pub mod promote_flags;
pub mod repeat;
pub mod resolve;
pub mod resolved;
pub mod shell;
mod store_flags;
mod typed;
pub mod values;
