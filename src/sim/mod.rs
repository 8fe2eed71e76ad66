//! S3 simulator, replica generator and naive restorer, for tests, benches and scripts (feature
//! `sim`). Nothing here is part of a restore; errors of the caller's own making (a folder that
//! is not there) are errors, never panics.

#![allow(clippy::indexing_slicing, reason = "what is indexed was generated here, not read")]

pub mod generate;
pub mod naive;
pub mod random;
pub mod server;
