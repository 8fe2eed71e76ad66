//! The process: threads for work that blocks, the limits of its control group, and locks.

pub(crate) mod cgroup;
pub(crate) mod locks;
pub(crate) mod threads;
