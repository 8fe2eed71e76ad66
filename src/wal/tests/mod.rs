//! Tests of whole objects and WALs. The module `samples` makes them, and reads real ones.

mod objects;
mod real;
mod samples;
mod wals;
