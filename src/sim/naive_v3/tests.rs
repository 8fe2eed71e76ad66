//! Tests of the naive restorer.
