//! Everything that a person sees: messages, progress, tables, failures. Nothing in here depends on the folder
//! `args`, which parses the command line.

pub mod events;
pub mod failure;
pub mod latency_table;
pub mod log;
pub mod planned;
pub mod progress;
pub mod redact;
pub mod screen;
pub mod signal;
pub mod suggest;
pub mod systemd;
pub mod table;

pub use crate::human;
