//! Tests of the format as a whole; `samples` makes files and reads the real ones.

mod corpus;
mod damage;
mod parts;
pub(super) mod samples;
mod segments;
