//! The process: threads for work that blocks, the limits of its control group, its CPU time, locks, pauses between
//! attempts, and the machine's users and groups.

pub(crate) mod accounts;
pub(crate) mod backoff;
pub(crate) mod cgroup;
pub(crate) mod cpu;
pub(crate) mod locks;
pub(crate) mod threads;
