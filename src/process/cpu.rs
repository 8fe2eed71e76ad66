//! The CPU time that the process has taken.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The CPU time of all threads of this process since it started.
pub(crate) fn cpu_time() -> Duration {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(cpu.tv_sec.try_into().unwrap_or(0), cpu.tv_nsec.try_into().unwrap_or(0))
}
