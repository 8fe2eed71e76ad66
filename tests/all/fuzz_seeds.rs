//! Runs inputs through the checks of the fuzz targets: the seeds, and those that fuzzing has found on this machine.
//! `scripts/fuzz` searches for further ones.

#[path = "../../fuzz/checks/config.rs"]
mod config;
#[path = "../../fuzz/checks/list_xml.rs"]
mod list_xml;
#[path = "../../fuzz/checks/ltx_file.rs"]
mod ltx_file;
#[path = "../../fuzz/checks/lz4_frame_object.rs"]
mod lz4_frame_object;
#[path = "../../fuzz/checks/replica_url.rs"]
mod replica_url;
#[path = "../../fuzz/checks/versions_xml.rs"]
mod versions_xml;
#[path = "../../fuzz/checks/wal_segment.rs"]
mod wal_segment;

use std::path::Path;

/// All inputs of the target. `fuzz/seeds` must have some; `fuzz/corpus` and `fuzz/artifacts` may have some.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs = Vec::new();
    for folder in ["seeds", "corpus", "artifacts"] {
        let Ok(entries) = std::fs::read_dir(fuzz.join(folder).join(target)) else { continue };
        inputs.extend(entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()));
    }
    assert!(inputs.len() >= 4, "{target}: {} inputs", inputs.len());
    inputs
}

/// The beginning of an input that is valid UTF-8, which the fuzzer gives to targets that take text.
fn text(input: &[u8]) -> &str {
    match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&input[..error.valid_up_to()]).unwrap(),
    }
}

#[test]
fn ltx_files() {
    inputs("ltx_file").iter().for_each(|input| ltx_file::check(input));
}

#[test]
fn objects_of_0_3() {
    inputs("lz4_frame_object").iter().for_each(|input| lz4_frame_object::check(input));
}

#[test]
fn wals() {
    inputs("wal_segment").iter().for_each(|input| wal_segment::check(input));
}

#[test]
fn listings() {
    inputs("list_xml").iter().for_each(|input| list_xml::check(input));
}

#[test]
fn listings_of_versions() {
    inputs("versions_xml").iter().for_each(|input| versions_xml::check(input));
}

#[test]
fn replica_urls() {
    inputs("replica_url").iter().for_each(|input| replica_url::check(text(input)));
}

#[test]
fn configs() {
    inputs("config").iter().for_each(|input| config::check(text(input)));
}
