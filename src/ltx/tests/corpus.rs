//! Checks all valid files of the corpus, and that all damaged ones are refused.

use super::samples::{self, corpus};
use crate::error::Class;
use crate::ltx::decoder::verify_file;
use crate::ltx::name;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest size of a compressed file in these tests, in bytes. Larger files decode to too much data.
const MAX_BYTES: u64 = 4 << 20;

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.file_name().is_some_and(|name| name::parse(name.as_encoded_bytes()).is_some()) {
            found.push(path);
        }
    }
}

fn verify(path: &Path) -> Result<samples::Pages, crate::ltx::FormatError> {
    let name = name::parse(path.file_name().unwrap().as_encoded_bytes());
    let mut pages = Vec::new();
    verify_file(fs::read(path).unwrap().into(), name, |pgno, page| pages.push((pgno, page.to_vec())))?;
    Ok(pages)
}

#[test]
fn real_files_verify_in_one_piece_and_in_many() {
    let Some(corpus) = corpus() else { return };
    let mut found = Vec::new();
    files(&corpus.join("single"), &mut found);
    assert!(found.len() > 3000);
    let mut sizes = std::collections::BTreeSet::new();
    for (i, path) in found.iter().enumerate() {
        if fs::metadata(path).unwrap().len() > MAX_BYTES {
            continue;
        }
        let pages = verify(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        sizes.extend(pages.first().map(|(_, page)| page.len()));
        // The many small files of the directory `many-files` are alike, so only every tenth is checked in chunks
        // too.
        if i % 10 == 0 || !path.components().any(|part| part.as_os_str() == "many-files") {
            let (_, chunked) = samples::decode_chunked(&fs::read(path).unwrap(), &[1 + i % 999, 16384]).unwrap();
            assert!(chunked == pages, "{}", path.display());
        }
    }
    assert_eq!(sizes.len(), 8, "every page size: {sizes:?}");
}

#[test]
fn damaged_files_fail_with_their_class() {
    let Some(corpus) = corpus() else { return };
    let damaged = corpus.join("fleet/bucket/damaged");
    let newest = "0000/0000000000000004-0000000000000004.ltx";
    let snapshot = "0009/0000000000000001-0000000000000002.ltx";
    for (database, file, classes) in [
        ("truncated", newest, &[Class::Truncated][..]),
        ("empty-file", newest, &[Class::Truncated]),
        ("bit-in-page", snapshot, &[Class::ChecksumMismatch, Class::Malformed]),
        ("bit-in-only-snapshot", snapshot, &[Class::ChecksumMismatch, Class::Malformed]),
        ("bit-in-index", newest, &[Class::ChecksumMismatch, Class::Malformed]),
        ("bit-in-trailer", newest, &[Class::ChecksumMismatch]),
        ("magic", newest, &[Class::Malformed]),
        ("renamed", "0000/0000000000000004-0000000000000005.ltx", &[Class::NameAndHeaderDisagree]),
        ("trailing", newest, &[Class::Malformed]),
    ] {
        let error = verify(&damaged.join(database).join("app.db").join(file)).unwrap_err();
        assert!(classes.contains(&error.class()), "{database}: {}: {error}", error.class());
        println!("{database}: {}: {error}", error.class());
    }
    // All other files in the directory are valid.
    let mut found = Vec::new();
    files(&damaged, &mut found);
    let failing = found.iter().filter(|path| verify(path).is_err()).count();
    assert_eq!((found.len(), failing), (56, 9));
}
