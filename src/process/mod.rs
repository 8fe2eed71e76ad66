//! What this process may have: threads for work that blocks, and the limits of its control group.

pub mod cgroup;
pub mod locks;
pub mod threads;
