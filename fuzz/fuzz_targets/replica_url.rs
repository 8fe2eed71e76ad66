//! The fuzz target for `checks/replica_url.rs`.

#![no_main]

#[path = "../checks/replica_url.rs"]
mod replica_url;

libfuzzer_sys::fuzz_target!(|text: &str| replica_url::check(text));
