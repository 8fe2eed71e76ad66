//! Tests of the whole format. The module `samples` makes test files and reads real ones.

mod corpus;
mod damage;
mod parts;
pub(crate) mod samples;
mod segments;
