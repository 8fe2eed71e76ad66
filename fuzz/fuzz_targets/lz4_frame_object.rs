//! The fuzz target for `checks/lz4_frame_object.rs`.

#![no_main]

#[path = "../checks/lz4_frame_object.rs"]
mod lz4_frame_object;

libfuzzer_sys::fuzz_target!(|data: &[u8]| lz4_frame_object::check(data));
