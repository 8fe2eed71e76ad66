//! The fuzz target for `checks/versions_xml.rs`.

#![no_main]

#[path = "../checks/versions_xml.rs"]
mod versions_xml;

libfuzzer_sys::fuzz_target!(|data: &[u8]| versions_xml::check(data));
