//! Which engine, and the runtime that goes with it.

use super::IoError;
use std::str::FromStr;

/// `--io-engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// io_uring where it can be had, else pwrite.
    #[default]
    Auto,
    Uring,
    Pwrite,
}

/// The engine in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    Uring,
    Pwrite,
}

impl EngineKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Pwrite => "pwrite",
        }
    }
}

impl FromStr for EngineChoice {
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
pub struct Chosen {
    pub kind: EngineKind,
    /// One line for the operator, when io_uring would have been used but cannot be had.
    pub note: Option<String>,
}

/// Chooses the engine: makes a ring, runs an operation on it and asks for the operations that
/// are needed.
///
/// # Errors
/// [`IoError::NoUring`] when `choice` demands io_uring and it cannot be had.
pub fn probe(choice: EngineChoice) -> Result<Chosen, IoError> {
    let _ = choice;
    todo!()
}

/// Runs `future` to its end on this thread, in the runtime that `kind` needs: tokio-uring's, or
/// tokio's for one thread. In both, timers and sockets work, and `tokio::task::spawn_local`.
/// Where this thread can have no ring after all, it is tokio's, and [`super::Io`] knows.
///
/// # Errors
/// [`IoError::NoRuntime`] when the kernel refuses what every runtime needs (epoll, descriptors).
pub fn block_on<F: Future>(kind: EngineKind, future: F) -> Result<F::Output, IoError> {
    let _ = (kind, future);
    todo!()
}
