//! The fuzz target for `checks/wal_segment.rs`.

#![no_main]

#[path = "../checks/wal_segment.rs"]
mod wal_segment;

libfuzzer_sys::fuzz_target!(|data: &[u8]| wal_segment::check(data));
