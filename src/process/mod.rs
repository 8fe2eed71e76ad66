//! The process: threads for work that blocks, the limits of its control group, and locks.

pub mod cgroup;
pub mod locks;
pub mod threads;
