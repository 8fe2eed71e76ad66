//! The fuzz target for `checks/ltx_file.rs`.

#![no_main]

#[path = "../checks/ltx_file.rs"]
mod ltx_file;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ltx_file::check(data));
