//! The place where file operations ask whether a test has injected a fault. In builds without the feature `sim` it
//! is empty and costs nothing.

#[cfg(any(test, feature = "sim"))]
pub(crate) use super::fault::{Faults as FaultSeam, Step};

#[cfg(not(any(test, feature = "sim")))]
pub(crate) use nothing::{FaultSeam, Step};

#[cfg(not(any(test, feature = "sim")))]
mod nothing {
    use rustix::io::Errno;
    use std::path::Path;

    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Step {
        Create,
        Probe,
        Reserve,
        Truncate,
        Write,
        Sync,
        Publish,
        SyncInode,
        SyncDir,
        Stat,
        Open,
        Read,
    }

    #[derive(Debug)]
    pub(crate) struct FaultSeam;

    impl FaultSeam {
        pub(crate) fn of(_: &Path) -> Self {
            Self
        }

        pub(crate) fn pass(&self, _: Step) -> Result<usize, Errno> {
            Ok(usize::MAX)
        }
    }
}

/// Applies the faults for the file at `path` to one operation of kind `step`, before the file is open.
/// [`FaultSeam::pass`] is for open files.
pub(crate) fn fault_at(path: &std::path::Path, step: Step) -> Result<usize, rustix::io::Errno> {
    FaultSeam::of(path).pass(step)
}
