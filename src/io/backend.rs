//! Chooses between io_uring and pwrite for writing, and starts the async runtime that the choice needs.

use crate::io::{IoError, uring};
use std::cell::Cell;
use std::str::FromStr;

/// The value of the option `--io-engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// Use io_uring if it is available, else pwrite.
    #[default]
    Auto,
    /// Use io_uring. It is an error if it is not available.
    Uring,
    /// Use pwrite, and do not look for io_uring.
    Pwrite,
}

/// The way in which output files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoBackend {
    /// O_DIRECT writes go through io_uring, all others through pwrite.
    Uring,
    /// All writes go through pwrite.
    Pwrite,
}

impl IoBackend {
    /// The name in messages and reports: `uring` or `pwrite`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Pwrite => "pwrite",
        }
    }
}

impl FromStr for BackendChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "pwrite" => Ok(Self::Pwrite),
            other => Err(format!("unknown I/O engine {:?}: auto, uring or pwrite", other)),
        }
    }
}

/// The result of [`probe`]: the writer to use, and a note for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBackend {
    /// The writer that was chosen.
    pub kind: IoBackend,
    /// One line for the operator. Present if io_uring was preferred but is not available.
    pub note: Option<String>,
}

/// Chooses the writer. To find out whether io_uring is available, it makes a ring, asks the kernel which operations
/// it supports, and runs one operation.
///
/// # Errors
///
/// [`IoError::NoUring`] if `choice` demands io_uring and it is not available.
pub fn probe(choice: BackendChoice) -> Result<ChosenBackend, IoError> {
    if choice == BackendChoice::Pwrite {
        return Ok(ChosenBackend { kind: IoBackend::Pwrite, note: None });
    }
    let refusal = uring::refusal();
    tracing::debug!(target: "hydrant::io", refusal, "looked whether io_uring is available");
    match refusal {
        None => Ok(ChosenBackend { kind: IoBackend::Uring, note: None }),
        Some(reason) if choice == BackendChoice::Uring => Err(IoError::NoUring { reason }),
        Some(reason) => Ok(ChosenBackend {
            kind: IoBackend::Pwrite,
            note: Some(format!("io_uring cannot be had ({reason}); writing with pwrite")),
        }),
    }
}

/// The size of a worker's submission queue. With one entry, each submission pushes the one before it to the kernel,
/// which `uring::flush` relies on (docs/decisions/03-ring-with-one-entry.md).
const RING_ENTRIES: u32 = 1;
/// The size of a worker's completion queue. It is larger than the number of operations that can be in flight.
const RING_COMPLETIONS: u32 = 2048;

thread_local! {
    /// Whether this thread runs inside the runtime of tokio-uring.
    static HAS_RING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has an io_uring ring.
pub(super) fn has_ring() -> bool {
    HAS_RING.get()
}

/// Runs `future` to its end on this thread, in the runtime that `kind` needs: tokio-uring's, or the current-thread
/// runtime of tokio. Timers, sockets and `tokio::task::spawn_local` work in both. If the ring cannot be made on
/// this thread, tokio's runtime is used, and [`crate::io::Io`] then writes with pwrite.
///
/// # Errors
///
/// [`IoError::NoRuntime`] if the kernel refuses what both runtimes need (epoll, file descriptors).
///
/// # Panics
///
/// If it is called inside another async runtime.
pub fn block_on<F: Future>(kind: IoBackend, future: F) -> Result<F::Output, IoError> {
    if kind == IoBackend::Uring {
        let mut ring = tokio_uring::uring_builder();
        ring.setup_cqsize(RING_COMPLETIONS);
        let mut builder = tokio_uring::builder();
        builder.entries(RING_ENTRIES).uring_builder(&ring);
        match tokio_uring::Runtime::new(&builder) {
            Ok(runtime) => {
                let _scope = RingScope::new();
                return Ok(runtime.block_on(future));
            }
            Err(error) => {
                tracing::debug!(target: "hydrant::io", %error, "this thread gets no ring, and writes with pwrite");
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| IoError::NoRuntime { reason: error.to_string() })?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}

/// Sets `HAS_RING` for this thread. Dropping it clears `HAS_RING` again.
struct RingScope;

impl RingScope {
    fn new() -> Self {
        HAS_RING.set(true);
        Self
    }
}

impl Drop for RingScope {
    fn drop(&mut self) {
        HAS_RING.set(false);
    }
}
