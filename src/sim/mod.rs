//! An S3 simulator, a generator of replicas, and a naive restorer, for tests, benches and scripts (only with the
//! feature `sim`). A restore uses nothing of this module. Mistakes of the caller, such as a folder that does not
//! exist, are errors and not panics.

#![allow(clippy::indexing_slicing, reason = "what is indexed was generated here, not read")]

pub mod generate;
pub mod naive;
pub mod naive_v3;
pub mod random;
pub mod server;
pub mod sqlite;
