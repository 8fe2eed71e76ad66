//! Reads an LTX file from a local disk.
//!
//! Files are read with pread and never memory-mapped. pread returns an error if a sector cannot be read or if
//! the file became shorter. A memory mapping would hang on the bad sector, and would kill the process with
//! SIGBUS if the file became shorter.

use super::buffers::{BUFFER_BYTES, ReadBuffers};
use super::{StoreError, StoreErrorKind};
use crate::io::{FaultSeam, Step, text_of};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Errors that mean a lack of file descriptors or memory. The file itself may be intact.
const OUT_OF_RESOURCES: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
const CHUNK_BYTES: u64 = BUFFER_BYTES as u64;

/// A byte range of a file, which is read chunk by chunk.
#[derive(Debug)]
pub struct FileBody {
    file: OwnedFd,
    key: String,
    position: u64,
    end: u64,
    buffers: ReadBuffers,
    /// Whether the file was opened a second time because its NFS handle had become stale.
    is_reopened: bool,
    faults: FaultSeam,
}

impl FileBody {
    /// Opens the file `key`, which must be at least as long as the end of `range`. Chunks are read into
    /// `buffers`.
    pub(super) fn open(key: &str, range: Range<u64>, buffers: &ReadBuffers) -> Result<Self, StoreError> {
        let faults = FaultSeam::of(Path::new(key));
        Ok(Self {
            file: open(key, &faults, range.end)?,
            key: key.to_owned(),
            position: range.start,
            end: range.end,
            buffers: buffers.clone(),
            is_reopened: false,
            faults,
        })
    }

    /// Returns whether all bytes of the range were returned.
    pub const fn is_whole(&self) -> bool {
        self.position >= self.end
    }

    /// Reads the next chunk, at most 128 KiB ([`BUFFER_BYTES`]). Returns None at the end of the range.
    ///
    /// # Errors
    /// [`StoreErrorKind::SizeDiffers`] if the file became shorter; [`StoreErrorKind::Unreadable`] if a read
    /// fails.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let boundary = (self.position / CHUNK_BYTES).saturating_add(1).saturating_mul(CHUNK_BYTES);
        let next = boundary.min(self.end);
        let len = (next - self.position) as usize;
        let bytes = if len == BUFFER_BYTES {
            let mut buffer = self.buffers.take();
            self.fill(&mut buffer.bytes, len)?;
            Bytes::from_owner(buffer)
        } else {
            // The buffer has exactly the size of the chunk: a small file that waits to be decoded must not
            // occupy 128 KiB.
            let mut bytes = Vec::with_capacity(len);
            self.fill(&mut bytes, len)?;
            bytes.into()
        };
        self.position = next;
        Ok(Some(bytes))
    }

    /// Reads `len` bytes into `into`, which must be empty and have that capacity.
    fn fill(&mut self, into: &mut Vec<u8>, len: usize) -> Result<(), StoreError> {
        while into.len() < len {
            let at = self.position + into.len() as u64;
            match self.pread(into, at) {
                // The file was truncated after it was opened, or the file system reported a wrong length.
                Ok(0) => {
                    let length = rustix::fs::fstat(&self.file).map_or(at, |stat| length(&stat).min(at));
                    return Err(too_short(&self.key, length, self.end));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::STALE) if !self.is_reopened => {
                    self.is_reopened = true;
                    self.file = open(&self.key, &self.faults, self.end)?;
                }
                Err(errno) => return Err(refused("read", &self.key, Some(at), errno)),
            }
        }
        into.truncate(len);
        Ok(())
    }

    /// Appends the bytes of one pread to `into`. Returns their number, which is 0 at the end of the file.
    fn pread(&self, into: &mut Vec<u8>, at: u64) -> Result<usize, Errno> {
        let most = self.faults.pass(Step::Read)?;
        let before = into.len();
        let n = rustix::io::pread(&self.file, spare_capacity(into), at)?.min(most);
        into.truncate(before + n);
        Ok(n)
    }
}

/// Opens a regular file of at least `end` bytes. Retries once after ESTALE, which NFS returns when the server
/// has replaced the file.
fn open(key: &str, faults: &FaultSeam, end: u64) -> Result<OwnedFd, StoreError> {
    let once = || {
        faults.pass(Step::Open)?;
        // The type is checked before the file is opened, because opening a FIFO blocks until another process
        // writes to it.
        let stat = rustix::io::retry_on_intr(|| rustix::fs::stat(key))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::io::retry_on_intr(|| rustix::fs::open(key, flags, Mode::empty()))?;
        let length = length(&rustix::fs::fstat(&file)?);
        Ok(Some((file, length)))
    };
    let opened = match once() {
        Err(Errno::STALE) => once(),
        opened => opened,
    };
    match opened {
        Ok(Some((_, length))) if length < end => Err(too_short(key, length, end)),
        Ok(Some((file, _))) => Ok(file),
        Ok(None) => Err(not_regular(key)),
        Err(errno) => Err(refused("open", key, None, errno)),
    }
}

fn length(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn too_short(key: &str, size: u64, expected: u64) -> StoreError {
    let detail = format!("the file ends at byte {size}, before byte {expected}");
    error(StoreErrorKind::SizeDiffers, "read", key, detail)
}

pub(super) fn not_regular(key: &str) -> StoreError {
    error(StoreErrorKind::NotFound, "read", key, "not a regular file".to_owned())
}

/// Returns the error for a file that the kernel refused to open, or to read at the offset `at`.
fn refused(verb: &str, key: &str, at: Option<u64>, errno: Errno) -> StoreError {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => StoreErrorKind::NotFound,
        _ if OUT_OF_RESOURCES.contains(&errno) => StoreErrorKind::Io,
        _ => StoreErrorKind::Unreadable,
    };
    let mut detail = text_of(errno);
    if let Some(at) = at {
        detail.push_str(&format!(" at offset {at}"));
    }
    error(kind, verb, key, detail)
}

pub(super) fn error(kind: StoreErrorKind, verb: &str, path: &str, detail: String) -> StoreError {
    StoreError { kind, what: format!("{verb} {path}"), detail, request_id: None, hint: None, attempts: 1 }
}

/// Returns whether an error means a lack of file descriptors or memory. The file itself may be intact then.
pub(super) fn is_out_of_resources(e: &std::io::Error) -> bool {
    Errno::from_io_error(e).is_none_or(|errno| OUT_OF_RESOURCES.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::io::fault::{Effect, inject};
    use std::fs::File;

    fn content() -> Vec<u8> {
        (0..600_000u32).map(|i| (i % 253) as u8).collect()
    }

    /// Creates a test file with the bytes of [`content`]. Returns its folder and its key (its absolute path).
    fn file() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, content()).unwrap();
        let key = path.to_str().unwrap().to_owned();
        (dir, key)
    }

    fn open(key: &str, range: Range<u64>) -> Result<FileBody, StoreError> {
        FileBody::open(key, range, &ReadBuffers::default())
    }

    fn rest(mut body: FileBody) -> Result<Vec<u8>, StoreError> {
        let mut got = Vec::new();
        while let Some(bytes) = body.chunk()? {
            assert!(bytes.len() <= BUFFER_BYTES);
            got.extend_from_slice(&bytes);
        }
        assert!(body.is_whole());
        Ok(got)
    }

    fn whole(key: &str) -> Result<Vec<u8>, StoreError> {
        rest(open(key, 0..600_000)?)
    }

    #[test]
    fn any_range_within_the_file_and_none_beyond() {
        let (dir, key) = file();
        for range in [0..600_000u64, 5..17, 131_071..262_145, 7..7] {
            let got = rest(open(&key, range.clone()).unwrap()).unwrap();
            assert_eq!(got, content()[range.start as usize..range.end as usize]);
        }
        let kind = |key: &str, range| open(key, range).unwrap_err().kind;
        assert_eq!(kind(&key, 0..600_001), StoreErrorKind::SizeDiffers);
        assert_eq!(kind(&format!("{key}x"), 0..1), StoreErrorKind::NotFound);
        assert_eq!(kind(&format!("{key}/x"), 0..1), StoreErrorKind::NotFound);
        assert_eq!(kind(dir.path().to_str().unwrap(), 0..1), StoreErrorKind::NotFound);
    }

    #[test]
    fn a_chunk_keeps_its_bytes_when_the_file_is_truncated() {
        let (_dir, key) = file();
        let mut body = open(&key, 0..600_000).unwrap();
        let first = body.chunk().unwrap().unwrap();
        File::options().write(true).open(&key).unwrap().set_len(0).unwrap();
        assert_eq!(first, content()[..BUFFER_BYTES]);
        let error = body.chunk().unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::SizeDiffers);
        assert_eq!(error.to_string(), format!("read {key}: the file ends at byte 0, before byte 600000"));
    }

    #[test]
    fn what_the_kernel_refuses_is_damage_of_the_file() {
        let (_dir, key) = file();
        for (step, nth, errno, what) in [
            (Step::Open, 1, Errno::IO, format!("open {key}: input/output error")),
            (Step::Open, 1, Errno::ACCESS, format!("open {key}: permission denied")),
            (Step::Read, 1, Errno::IO, format!("read {key}: input/output error at offset 0")),
            (Step::Read, 3, Errno::IO, format!("read {key}: input/output error at offset 262144")),
            (Step::Read, 2, Errno::UCLEAN, format!("read {key}: structure needs cleaning at offset 131072")),
        ] {
            let fault = inject(Path::new(&key), Some(step), nth, Effect::Fail(errno));
            let error = whole(&key).unwrap_err();
            assert!(fault.struck());
            assert_eq!((error.to_string(), error.kind, error.class()), (what, StoreErrorKind::Unreadable, Class::Io));
        }
        for (errno, kind) in [(Errno::MFILE, StoreErrorKind::Io), (Errno::NOENT, StoreErrorKind::NotFound)] {
            let _fault = inject(Path::new(&key), Some(Step::Open), 1, Effect::Fail(errno));
            assert_eq!(whole(&key).unwrap_err().kind, kind);
        }
    }

    #[test]
    fn a_stale_handle_is_opened_again_once() {
        let (_dir, key) = file();
        let stale = |step, nth| inject(Path::new(&key), Some(step), nth, Effect::Fail(Errno::STALE));
        for (step, nth) in [(Step::Open, 1), (Step::Read, 1), (Step::Read, 3)] {
            let fault = stale(step, nth);
            assert_eq!(whole(&key).unwrap(), content());
            assert!(fault.struck());
        }
        for (step, nth, what) in [
            (Step::Open, 1, format!("open {key}: stale file handle")),
            (Step::Read, 2, format!("read {key}: stale file handle at offset 131072")),
        ] {
            // Two faults are injected at the same step. When the first one strikes, the second does not count that
            // call.
            let faults = [stale(step, nth), stale(step, nth)];
            let error = whole(&key).unwrap_err();
            assert!(faults.iter().all(|fault| fault.struck()));
            assert_eq!((error.to_string(), error.kind), (what, StoreErrorKind::Unreadable));
        }
    }

    #[test]
    fn a_stale_handle_of_a_file_that_is_gone_or_shorter_is_a_stale_listing() {
        for (left, kind) in [(None, StoreErrorKind::NotFound), (Some(300_000), StoreErrorKind::SizeDiffers)] {
            let (_dir, key) = file();
            let _fault = inject(Path::new(&key), Some(Step::Read), 2, Effect::Fail(Errno::STALE));
            let mut body = open(&key, 0..600_000).unwrap();
            body.chunk().unwrap();
            std::fs::remove_file(&key).unwrap();
            if let Some(left) = left {
                std::fs::write(&key, &content()[..left]).unwrap();
            }
            assert_eq!(body.chunk().unwrap_err().kind, kind);
        }
    }

    #[test]
    fn reads_cut_short_are_completed() {
        let (_dir, key) = file();
        for bytes in [1000, 4096, 70_001] {
            let fault = inject(Path::new(&key), Some(Step::Read), 1, Effect::Short(bytes));
            assert_eq!(whole(&key).unwrap(), content());
            assert!(fault.struck());
        }
    }

    #[test]
    fn a_length_that_the_file_does_not_have() {
        let (_dir, key) = file();
        let _fault = inject(Path::new(&key), Some(Step::Read), 2, Effect::EndOfFile);
        let error = whole(&key).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::SizeDiffers);
        assert_eq!(error.to_string(), format!("read {key}: the file ends at byte 131072, before byte 600000"));
    }
}
