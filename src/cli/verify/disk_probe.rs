//! Measures the disk that databases would be restored to, before a verification: how fast it writes, and how long it
//! takes to make one small file durable beside others.

use crate::cli::args::resolved::VerifyArgs;
use crate::cli::failures::absolute;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::Log;
use crate::commit::{FreeSpace, random_letters};
use crate::restore::VerifyDepth;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// The probe writes 256 MiB into one file.
const PROBE_BYTES: usize = 256 << 20;
/// It writes them in pieces of 1 MiB.
const PIECE_BYTES: usize = 1 << 20;
/// Then it makes 256 small files durable, as a restore does with each database.
const SMALL_FILES: usize = 256;
/// 16 threads do so: a restore has about as many files in flight when it syncs.
const SMALL_THREADS: usize = 16;
/// A small file has 32 KiB.
const SMALL_BYTES: usize = 32 << 10;

/// What the disk can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DiskSpeed {
    /// Bytes written per second, synced.
    pub bytes_per_second: f64,
    /// Seconds for each small file, created, written, synced and renamed beside 15 others.
    pub seconds_per_file: f64,
}

/// The directory that databases would be restored into: `-output-dir`, else `-scratch`. None: neither is given.
fn place(args: &VerifyArgs) -> Option<&Path> {
    args.output_dir.as_deref().or(args.scratch.as_deref())
}

/// The free space where databases would be restored, in bytes. None if it is not known.
pub(super) fn bytes_free(args: &VerifyArgs) -> Option<u64> {
    let dir = absolute(place(args)?).ok()?;
    FreeSpace::below(&dir).map(|free| free.available)
}

/// Measures the disk of `-output-dir` or `-scratch`. None if neither is given, if no forecast is made, or if the disk
/// cannot be measured, of which a warning tells.
///
/// # Errors
/// The working directory is not known.
pub(super) fn probe(args: &VerifyArgs, log: &Log) -> Result<Option<DiskSpeed>, Failure> {
    let Some(dir) = place(args).filter(|_| args.depth >= VerifyDepth::Full) else { return Ok(None) };
    let path = absolute(dir)?.join(format!("hydrant-probe-{}", random_letters()));
    let speed = std::fs::create_dir(&path).and_then(|()| measure(&path));
    let _ = std::fs::remove_dir_all(&path);
    match speed {
        Ok(speed) => Ok(Some(speed)),
        Err(e) => {
            log.warn(&format!("the speed of the disk at {} was not measured: {e}", dir.display()));
            Ok(None)
        }
    }
}

/// Measures the disk of the empty directory `dir`, and leaves files in it.
fn measure(dir: &Path) -> io::Result<DiskSpeed> {
    let (mut noise, mut piece) = (Noise(0x9e37_79b9_7f4a_7c15), vec![0; PIECE_BYTES]);
    let mut file = File::create_new(dir.join("large"))?;
    let begun = Instant::now();
    for _ in 0..PROBE_BYTES / PIECE_BYTES {
        noise.fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_data()?;
    let bytes_per_second = PROBE_BYTES as f64 / begun.elapsed().as_secs_f64().max(0.001);

    let content = piece.get(..SMALL_BYTES).unwrap_or(&piece);
    let begun = Instant::now();
    let small = |thread: usize| {
        (0..SMALL_FILES / SMALL_THREADS).try_for_each(|n| write_small(dir, &format!("{thread}-{n}"), content))
    };
    std::thread::scope(|scope| {
        let start = |thread| std::thread::Builder::new().spawn_scoped(scope, move || small(thread));
        let threads = (0..SMALL_THREADS).map(start).collect::<io::Result<Vec<_>>>()?;
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| io::Error::other(crate::error::BUG))?)
    })?;
    File::open(dir)?.sync_all()?;
    let seconds_per_file = begun.elapsed().as_secs_f64() / SMALL_FILES as f64;
    Ok(DiskSpeed { bytes_per_second, seconds_per_file })
}

fn write_small(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let path = dir.join(name);
    let mut file = File::create_new(&path)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&path, dir.join(format!("{name}-done")))
}

/// Bytes that no file system compresses or stores once: Marsaglia's xorshift64.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for bytes in bytes.chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_a_speed() {
        let dir = tempfile::tempdir().unwrap();
        let speed = measure(dir.path()).unwrap();
        assert!(speed.bytes_per_second > 0.0 && speed.seconds_per_file > 0.0, "{speed:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1 + SMALL_FILES);
        assert!(measure(dir.path()).is_err());
    }
}
