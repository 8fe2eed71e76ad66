//! Finds the corpus of real replicas for tests. It lies in `$HYDRANT_CORPUS`, else in `../shared/corpus`.

use std::path::PathBuf;

/// The path of the corpus' file `name`. If there is no corpus, prints that the test is skipped and returns None.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus");
    let dir = std::env::var_os("HYDRANT_CORPUS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if !dir.is_dir() {
        println!("skipped: no corpus at {}", dir.display());
        return None;
    }
    Some(dir.join(name))
}

pub(crate) fn json(name: &str) -> Option<serde_json::Value> {
    let text = std::fs::read(path(name)?).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}
