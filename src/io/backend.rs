//! Which engine, and the runtime that goes with it.

use crate::io::{IoError, uring};
use std::cell::Cell;
use std::str::FromStr;

/// `--io-engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// io_uring where it can be had, else pwrite.
    #[default]
    Auto,
    Uring,
    Pwrite,
}

/// The engine in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoBackend {
    Uring,
    Pwrite,
}

impl IoBackend {
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

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBackend {
    pub kind: IoBackend,
    /// One line for the operator, when io_uring would have been used but cannot be had.
    pub note: Option<String>,
}

/// Chooses the engine: makes a ring, runs an operation on it and asks for the operations that
/// are needed.
///
/// # Errors
/// [`IoError::NoUring`] when `choice` demands io_uring and it cannot be had.
pub fn probe(choice: BackendChoice) -> Result<ChosenBackend, IoError> {
    if choice == BackendChoice::Pwrite {
        return Ok(ChosenBackend { kind: IoBackend::Pwrite, note: None });
    }
    match uring::refusal() {
        None => Ok(ChosenBackend { kind: IoBackend::Uring, note: None }),
        Some(reason) if choice == BackendChoice::Uring => Err(IoError::NoUring { reason }),
        Some(reason) => Ok(ChosenBackend {
            kind: IoBackend::Pwrite,
            note: Some(format!("io_uring cannot be had ({reason}); writing with pwrite")),
        }),
    }
}

/// Entries of a worker's submission queue: with one, every submission pushes out the one before,
/// which is what `uring::flush` rests on.
const RING_ENTRIES: u32 = 1;
/// Room for completions: more than operations in flight, whatever the submission queue's length.
const RING_COMPLETIONS: u32 = 2048;

thread_local! {
    /// Whether this thread runs inside tokio-uring's runtime.
    static HAS_RING: Cell<bool> = const { Cell::new(false) };
}

/// Whether operations can be submitted to a ring of this thread.
pub(super) fn has_ring() -> bool {
    HAS_RING.get()
}

/// Runs `future` to its end on this thread, in the runtime that `kind` needs: tokio-uring's, or
/// tokio's for one thread. In both, timers and sockets work, and `tokio::task::spawn_local`.
/// Where this thread can have no ring after all, it is tokio's, and [`crate::io::Io`] knows.
///
/// # Errors
/// [`IoError::NoRuntime`] when the kernel refuses what every runtime needs (epoll, descriptors).
///
/// # Panics
/// Inside another runtime.
pub fn block_on<F: Future>(kind: IoBackend, future: F) -> Result<F::Output, IoError> {
    if kind == IoBackend::Uring {
        let mut ring = tokio_uring::uring_builder();
        ring.setup_cqsize(RING_COMPLETIONS);
        let mut builder = tokio_uring::builder();
        builder.entries(RING_ENTRIES).uring_builder(&ring);
        if let Ok(runtime) = tokio_uring::Runtime::new(&builder) {
            let _inside = Inside::new();
            return Ok(runtime.block_on(future));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| IoError::NoRuntime { reason: error.to_string() })?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}

/// While it lives, this thread has a ring.
struct Inside;

impl Inside {
    fn new() -> Self {
        HAS_RING.set(true);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        HAS_RING.set(false);
    }
}
