//! Facilities of the process: threads for blocking work, the limits of its control group, and locks.

pub(crate) mod cgroup;
pub(crate) mod locks;
pub(crate) mod threads;
