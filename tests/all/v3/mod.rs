//! Tests of replicas in the format of Litestream 0.3 (docs/FORMAT-V3.md): what Litestream wrote, on
//! disk and in buckets, through the engine and through the program.

mod choice;
mod cli;
mod corpus;
mod faults;
mod fleet;
mod generation;
mod large;
mod ltx_beside;
mod random;
mod requests;
mod support;
mod wire;
