//! Everything a person sees: messages, progress, tables, failures. Knows nothing of `args`.

pub mod events;
pub mod failure;
pub mod human;
pub mod latency_table;
pub mod log;
pub mod progress;
pub mod redact;
pub mod screen;
pub mod signal;
pub mod suggest;
