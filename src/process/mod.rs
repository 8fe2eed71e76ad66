//! The process: threads for work that blocks, the limits of its control group, locks, and pauses
//! between attempts.

pub(crate) mod backoff;
pub(crate) mod cgroup;
pub(crate) mod locks;
pub(crate) mod threads;
