//! The fuzz target for `checks/list_xml.rs`.

#![no_main]

#[path = "../checks/list_xml.rs"]
mod list_xml;

libfuzzer_sys::fuzz_target!(|data: &[u8]| list_xml::check(data));
