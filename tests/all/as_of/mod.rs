//! Tests of `-as-of`: restoring from the past of a versioned bucket. Histories that real services recorded
//! (`corpus`), random ones against a model of the bucket (`random`), and the command line (`cli`, `messages`).

mod cli;
mod corpus;
mod fleet;
mod long;
mod messages;
mod random;
mod support;
mod wire;
