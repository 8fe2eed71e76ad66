//! Writes large files by io_uring, with O_DIRECT and from registered buffers
//! (docs/decisions/02-o-direct-by-io-uring.md).
//!
//! Only O_DIRECT writes go to the ring. For a buffered write the kernel would use a thread of its own, which costs
//! more CPU time than a pwrite here.

use super::buffer::{ALIGNMENT, Buffer, BufferPool};
use super::fault_seam::Step;
use super::writeback::Writeback;
use super::writer::{Writer, part};
use super::{IoError, OutputFile, sync};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use io_uring::{cqueue, opcode, squeue, types};
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use tokio_uring::buf::fixed::FixedBufPool;
use tokio_uring::buf::{IoBuf, IoBufMut};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

/// The shortest O_DIRECT write, in bytes. Shorter writes go through the page cache, because the disk takes about a
/// millisecond for each O_DIRECT write.
const MIN_DIRECT: usize = 64 << 10;

pub(super) struct UringWriter {
    file: Arc<OutputFile>,
    writeback: Rc<Writeback>,
    syncs: sync::Syncs,
}

impl UringWriter {
    pub(super) fn new(file: Arc<OutputFile>, syncs: sync::Syncs) -> Self {
        Self { file, writeback: Rc::default(), syncs }
    }
}

impl Writer for UringWriter {
    fn write(&self, buf: Buffer, len: usize, at: u64) -> LocalBoxFuture<'static, Result<(), IoError>> {
        write(Arc::clone(&self.file), Rc::clone(&self.writeback), buf, len, at).boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'static, Result<(), IoError>> {
        self.syncs.sync(&self.file)
    }
}

async fn write(
    file: Arc<OutputFile>,
    writeback: Rc<Writeback>,
    mut buf: Buffer,
    len: usize,
    at: u64,
) -> Result<(), IoError> {
    part(&file, &buf, 0, len, at)?;
    let aligned = if at.is_multiple_of(ALIGNMENT as u64) { len - len % ALIGNMENT } else { 0 };
    let mut done = 0;
    if aligned >= MIN_DIRECT {
        file.note_change();
        while done < aligned && done.is_multiple_of(ALIGNMENT) && file.direct().is_some() {
            let from = at.saturating_add(done as u64);
            let refused = |errno| IoError::refused_at("write", file.path(), from, aligned - done, errno);
            let most = file.fault(Step::Write).map_err(refused)?;
            let now = (aligned - done).min(most.max(ALIGNMENT));
            let (result, back) = write_direct(Arc::clone(&file), buf, done, now - now % ALIGNMENT, from).await;
            buf = back;
            match result {
                Ok(0) => {
                    let (path, len) = (file.path().to_owned(), (aligned - done) as u64);
                    return Err(IoError::NoProgress { what: "write", path, at: from, len });
                }
                Ok(n) => done = done.saturating_add(n).min(aligned),
                // The rest of this buffer is written through the page cache.
                Err(Errno::INTR | Errno::AGAIN) => break,
                // ECANCELED: the kernel could not start a thread for the ring. Such threads count against the
                // limits of this process (`ulimit -u`, pids.max).
                Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP | Errno::CANCELED)) => file.refuse_direct(errno),
                Err(errno) => return Err(refused(errno)),
            }
        }
    }
    if done < len {
        let from = at.saturating_add(done as u64);
        file.pwrite_all(part(&file, &buf, done, len, at)?, from)?;
        writeback.add(&file, from, (len - done) as u64);
    }
    Ok(())
}

/// Writes `len` bytes of `buf`, from `skip` on, at offset `at` of the file. All three numbers must be multiples of
/// [`ALIGNMENT`], and `skip + len` must lie inside the buffer. The result is EINVAL if the file has no O_DIRECT
/// descriptor.
async fn write_direct(
    file: Arc<OutputFile>,
    buf: Buffer,
    skip: usize,
    len: usize,
    at: u64,
) -> (Result<usize, Errno>, Buffer) {
    debug_assert!(at.is_multiple_of(ALIGNMENT as u64));
    debug_assert!(skip.is_multiple_of(ALIGNMENT) && len.is_multiple_of(ALIGNMENT) && skip + len <= buf.len());
    let (Some(fd), Some(bytes), Ok(length)) =
        (file.direct().map(|fd| fd.as_raw_fd()), buf.get(skip..skip.saturating_add(len)), u32::try_from(len))
    else {
        return (Err(Errno::INVAL), buf);
    };
    let start = bytes.as_ptr();
    // Registration makes the whole pool resident and locks the address space until it is done. That takes tens of
    // milliseconds if the kernel must find huge pages. It is therefore done only after all buffers have been used,
    // when they are resident anyway.
    if buf.pool().registered().is_none() && buf.pool().was_drained() {
        register(buf.pool());
    }
    let entry = match buf.registered_index() {
        Some(index) => opcode::WriteFixed::new(types::Fd(fd), start, length, index).offset(at).build(),
        None => opcode::Write::new(types::Fd(fd), start, length).offset(at).build(),
    };
    let writing = UnsubmittedOneshot::new(InFlight { buf, _file: file }, TakeResult, entry).submit();
    flush();
    writing.await
}

/// Sends submitted operations to the kernel. tokio-uring does that only when the thread parks or when the
/// submission queue is full, and a thread that decodes pages may not park for a long time. The queue has one entry,
/// so submitting a NOP pushes the write before it to the kernel (docs/decisions/03-ring-with-one-entry.md). The NOP
/// itself stays in the queue; nobody waits for it.
fn flush() {
    drop(UnsubmittedOneshot::new((), DropResult, opcode::Nop::new().build()).submit());
}

/// Ignores the result of an operation. Used for the NOP of [`flush`].
struct DropResult;

impl OneshotOutputTransform for DropResult {
    type Output = ();
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), _: cqueue::Entry) {}
}

/// The buffer and the file descriptor that the kernel works on. tokio-uring keeps them until the operation has
/// ended, even if the future or the runtime is dropped before.
struct InFlight {
    buf: Buffer,
    _file: Arc<OutputFile>,
}

/// Converts the kernel's result of a write to the number of bytes written, and gives the buffer back.
struct TakeResult;

impl OneshotOutputTransform for TakeResult {
    type Output = (Result<usize, Errno>, Buffer);
    type StoredData = InFlight;

    fn transform_oneshot_output(self, in_flight: InFlight, entry: cqueue::Entry) -> Self::Output {
        let result = match usize::try_from(entry.result()) {
            Ok(n) => Ok(n),
            Err(_) => Err(Errno::from_raw_os_error(entry.result().saturating_neg())),
        };
        (result, in_flight.buf)
    }
}

/// One buffer of a pool, in the form in which tokio-uring registers it.
struct Region {
    pool: Rc<BufferPool>,
    index: u16,
}

// SAFETY: the memory does not move while `pool` lives, and the region keeps `pool` alive. The memory is initialized
// from the start. It is only registered: no buffer is ever checked out of the FixedBufPool, so nobody reads or
// writes through the region.
unsafe impl IoBuf for Region {
    fn stable_ptr(&self) -> *const u8 {
        self.pool.start_of(self.index).as_ptr()
    }
    fn bytes_init(&self) -> usize {
        self.pool.buffer_bytes()
    }
    fn bytes_total(&self) -> usize {
        self.pool.buffer_bytes()
    }
}

// SAFETY: the same reasons as for `IoBuf`.
unsafe impl IoBufMut for Region {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.pool.start_of(self.index).as_ptr()
    }
    unsafe fn set_init(&mut self, _: usize) {}
}

/// Registers buffers of the pool with the ring. RLIMIT_MEMLOCK limits how many: if all are refused, half of them
/// are tried, then a quarter, and so on. Buffers that are not registered work too, but each write then costs a
/// little more CPU time.
fn register(pool: &Rc<BufferPool>) {
    let mut count = pool.count();
    while count > 0 {
        let regions = (0..count).map(|index| Region { pool: Rc::clone(pool), index });
        if FixedBufPool::new(regions).register().is_ok() {
            break;
        }
        count /= 2;
    }
    tracing::debug!(target: "hydrant::io", registered = count, of = pool.count(), "write buffers registered");
    pool.set_registered(count);
}

/// Why io_uring cannot be used in this process. None if it works. The function makes a ring, asks whether the
/// kernel supports the necessary operations, and runs one.
pub(super) fn refusal() -> Option<String> {
    let because = |step: &str, error: &std::io::Error| {
        let why = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                if disabled_by_sysctl() {
                    "kernel.io_uring_disabled is set"
                } else {
                    "not permitted, as in containers whose seccomp profile refuses it"
                }
            }
            Some(libc::ENOSYS) => "this kernel has none, or a seccomp profile hides it",
            Some(libc::ENOMEM) => "the limit on locked memory is too low, see ulimit -l",
            _ => "",
        };
        let colon = if why.is_empty() { "" } else { ": " };
        format!("{step}: {error}{colon}{why}")
    };
    let mut ring = match io_uring::IoUring::new(4) {
        Ok(ring) => ring,
        Err(error) => return Some(because("io_uring_setup", &error)),
    };
    let mut known = io_uring::Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut known) {
        return Some(because("io_uring_register", &error));
    }
    let needed = [opcode::Nop::CODE, opcode::WriteFixed::CODE, opcode::Write::CODE, opcode::AsyncCancel::CODE];
    if !needed.into_iter().all(|code| known.is_supported(code)) {
        return Some("this kernel's io_uring lacks operations that are needed (Linux 5.6 has them)".to_owned());
    }
    if !ring.params().is_feature_nodrop() {
        return Some("this kernel's io_uring may drop completions (Linux 5.5 does not)".to_owned());
    }
    let nop: squeue::Entry = opcode::Nop::new().build();
    // SAFETY: a NOP uses no memory and no file descriptor.
    if unsafe { ring.submission().push(&nop) }.is_err() {
        return Some("a new ring has no room".to_owned());
    }
    if let Err(error) = ring.submit_and_wait(1) {
        return Some(because("io_uring_enter", &error));
    }
    match ring.completion().next() {
        Some(entry) if entry.result() >= 0 => None,
        _ => Some("an operation did not complete".to_owned()),
    }
}

fn disabled_by_sysctl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() != "0")
}
