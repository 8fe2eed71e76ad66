//! Tests of replicas in the format of Litestream 0.3 (docs/FORMAT.md, "Litestream 0.3"): what Litestream wrote, on
//! disk and in buckets, through the engine and through the program.

mod choice;
mod cli;
mod corpus;
mod faults;
mod fleet;
mod generation;
mod ltx_beside;
mod requests;
mod support;
mod wire;
