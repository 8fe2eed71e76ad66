//! Ranges of files as bytes, mapped instead of copied.

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::Range;

/// Maps `range` of `file`, which must lie within it: `UnexpectedEof` where it does not. The
/// mapping lives as long as the bytes do.
///
/// For files that are never written again once they have their name, as those of a replica are:
/// Litestream writes under another name, renames, and later unlinks, which leaves mappings be.
/// A file that is truncated under a mapping nonetheless ends the process with SIGBUS when the
/// missing part is read; callers map little at a time and no longer than they need it.
pub fn map_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let out_of_file = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let len = range.end.checked_sub(range.start).ok_or_else(out_of_file)?;
    if range.end > file.metadata()?.len() {
        return Err(out_of_file());
    }
    if len == 0 {
        return Ok(Bytes::new());
    }
    let len = usize::try_from(len).map_err(|_| out_of_file())?;
    let mut options = MmapOptions::new();
    options.offset(range.start).len(len).populate();
    // SAFETY: the mapping is private and read-only, its range was within the file just now, and
    // replicas' files are immutable once named (see above), so nothing changes the bytes behind
    // the shared reference. `Bytes` owns the mapping and unmaps it after its last clone.
    let mapping: Mmap = unsafe { options.map(file)? };
    Ok(Bytes::from_owner(mapping))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn any_range_within_the_file_and_none_beyond() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&content).unwrap();
        for range in [0..10_000, 4095..4097, 9_999..10_000, 5000..5000, 10_000..10_000] {
            let expected = &content[range.start as usize..range.end as usize];
            assert_eq!(map_range(&file, range).unwrap(), expected);
        }
        #[allow(clippy::reversed_empty_ranges)]
        for range in [0..10_001, 10_001..10_001, 5..4, u64::MAX - 1..u64::MAX] {
            assert_eq!(map_range(&file, range).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
