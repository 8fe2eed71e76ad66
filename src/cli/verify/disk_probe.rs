//! Measures the disk that databases would be restored to, after a verification: what it takes to write files as a
//! restore does, large ones and small ones of the fleet's mean size.

use crate::cli::args::resolved::VerifyArgs;
use crate::cli::failures::absolute;
use crate::cli::ui::log::Log;
use crate::commit::{CommitContext, Destination, FreeSpace, OutputRoot, Replace, random_letters, sync_dirs};
use crate::error::BUG;
use crate::process::cpu::cpu_time;
use crate::restore::{RestoreError, Workers, write_probe};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Large files are measured with 2 at once, as a restore has no more in flight (`Workers`).
const LARGE_FILES: u64 = 2;
/// Each of them has 64 MiB.
const LARGE_FILE_BYTES: u64 = 64 << 20;
/// Small files take 128 MiB together. With the large ones that is 256 MiB.
const SMALL_TOTAL_BYTES: u64 = 128 << 20;
/// There are at most 512 of them.
const SMALL_FILES: u64 = 512;
/// A restore writes and syncs about this many files at once, while others are fetched.
const AT_ONCE: usize = 16;
/// The content of the files, again and again: 1 MiB, which is more than file systems compress at once.
const NOISE_BYTES: usize = 1 << 20;

/// What the disk can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DiskSpeed {
    /// What a byte of a large file takes.
    pub byte: WriteCost,
    /// What a small file takes, from its creation to its durable name, beside others.
    pub small_file: WriteCost,
}

/// What it takes to write something.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct WriteCost {
    /// Seconds of the disk.
    pub seconds: f64,
    /// Seconds of CPU, of one core.
    pub cpu_seconds: f64,
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

/// Measures the disk of `-output-dir` or `-scratch`. `small_bytes`: the mean size of the fleet's small databases, 0 if it
/// has none. None if neither flag is given, or if the disk cannot be measured, of which a warning tells.
pub(super) fn probe(args: &VerifyArgs, workers: &Workers, small_bytes: u64, log: &Log) -> Option<DiskSpeed> {
    let dir = place(args)?;
    let cannot = |what: &str| log.warn(&format!("the speed of the disk at {} was not measured: {what}", dir.display()));
    let path = match absolute(dir) {
        Ok(dir) => dir.join(format!("hydrant-probe-{}", random_letters())),
        Err(failure) => {
            cannot(failure.message());
            return None;
        }
    };
    let speed =
        std::fs::create_dir(&path).map_err(|e| e.to_string()).and_then(|()| measure(workers, &path, small_bytes));
    let _ = std::fs::remove_dir_all(&path);
    speed.inspect_err(|what| cannot(what)).ok()
}

/// Measures the disk of the empty directory `dir`, and leaves files in it. The error is a text.
fn measure(workers: &Workers, dir: &Path, small_bytes: u64) -> Result<DiskSpeed, String> {
    let noise: Arc<[u8]> = noise().into();
    let large = write(workers, dir, ("large", LARGE_FILES, LARGE_FILE_BYTES), &noise)?;
    let count = SMALL_TOTAL_BYTES.checked_div(small_bytes).unwrap_or(0).clamp(1, SMALL_FILES);
    let small = match small_bytes {
        0 => WriteCost::default(),
        _ => write(workers, dir, ("small", count, small_bytes), &noise)?.shared_by(count),
    };
    Ok(DiskSpeed { byte: large.shared_by(LARGE_FILES * LARGE_FILE_BYTES), small_file: small })
}

impl WriteCost {
    fn shared_by(self, parts: u64) -> Self {
        Self { seconds: self.seconds / parts as f64, cpu_seconds: self.cpu_seconds / parts as f64 }
    }
}

/// Writes files of one size as a fleet is restored: all at once, and while one batch is made durable, the next is
/// written. Returns what that took.
fn write(
    workers: &Workers,
    dir: &Path,
    (name, count, bytes): (&'static str, u64, u64),
    noise: &Arc<[u8]>,
) -> Result<WriteCost, String> {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let root = Arc::new(OutputRoot::open(&CommitContext::default(), dir).map_err(|e| e.to_string())?);
    let start = |number| {
        let (root, name, noise) = (Arc::clone(&root), format!("{name}-{number}"), Arc::clone(noise));
        workers.submit(move |worker| {
            Box::pin(async move {
                let destination = Arc::new(Destination::prepare_beneath(&root, &name, Replace::Never)?);
                write_probe(&worker, &destination, bytes, &noise, number * bytes).await
            })
        })
    };
    let (mut numbers, mut files) = (0..count, Vec::new());
    // This loop terminates, because each turn takes at least one file.
    loop {
        let free = AT_ONCE.saturating_sub(files.len());
        files.extend(numbers.by_ref().take(free).map(start));
        let Some(file) = files.pop() else { break };
        let mut ended = vec![file.blocking_recv().map_err(|_| BUG.to_owned())?];
        files.retain_mut(|file| file.try_recv().map(|file| ended.push(file)).is_err());
        let published = ended.into_iter().collect::<Result<Vec<_>, RestoreError>>().map_err(|e| e.to_string())?;
        sync_dirs(published).into_iter().collect::<Result<(), _>>().map_err(|e| e.to_string())?;
    }
    let cpu_seconds = cpu_time().saturating_sub(cpu).as_secs_f64();
    Ok(WriteCost { seconds: begun.elapsed().as_secs_f64(), cpu_seconds })
}

/// Bytes that no file system compresses: Marsaglia's xorshift64.
fn noise() -> Vec<u8> {
    let mut noise = vec![0; NOISE_BYTES];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for bytes in noise.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.copy_from_slice(&state.to_le_bytes());
    }
    noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancellationToken;
    use crate::io::IoBackend;
    use crate::restore::{SEGMENT_BYTES, WorkersOptions};

    #[test]
    fn a_disk_has_a_speed() {
        let options = WorkersOptions {
            workers: 2,
            kind: IoBackend::Pwrite,
            memory_bytes: 64 << 20,
            tasks: 8,
            segment_bytes: SEGMENT_BYTES,
            checks: false,
            catalogue: Default::default(),
        };
        let workers = Workers::start(&options, Arc::default(), CancellationToken::new()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let is_real = |cost: WriteCost| cost.seconds > 0.0 && cost.cpu_seconds > 0.0;
        // 1,000,000 bytes fit 134 times.
        let speed = measure(&workers, dir.path(), 1_000_000).unwrap();
        assert!(is_real(speed.byte) && is_real(speed.small_file), "{speed:?}");
        let sizes = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort_unstable();
        assert_eq!(sizes.split_off(134), [LARGE_FILE_BYTES; LARGE_FILES as usize]);
        assert_eq!(sizes, [1_000_000; 134]);
        // A restore does not replace files, and neither does the probe.
        assert!(measure(&workers, dir.path(), 0).unwrap_err().contains("exists"));
    }
}
