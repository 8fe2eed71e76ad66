//! All integration tests in one program, so that SQLite, TLS and the AWS credentials chain are linked once.
//!
//! Tests run in parallel in one process. A test that needs its own environment variables, limits, working directory
//! or signals runs a child process. The child is the program (`common::binary::hydrant`) or one test of this test
//! program (`common::binary::only_test`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

mod as_of;
mod aws_chain;
mod bench;
mod cli_ltx;
mod cli_usage;
mod corpus;
mod engine;
mod engine_faults;
mod engine_wire;
mod find;
mod fleet;
mod fleet_discovery;
mod fleet_race;
mod fleet_retries;
mod fleet_run;
mod follow;
mod fuzz_seeds;
mod golden;
mod listings;
mod moto;
mod readme;
mod reports;
mod restore_cli;
mod s3_client;
mod s3_faults;
mod s3_foreign;
mod s3_tls;
mod s3_waits;
mod stages;
mod v3;
mod verify;
