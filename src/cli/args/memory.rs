//! The default of `-memory`: 256 MiB, or less in a container with a small memory limit.

/// The default memory budget is at most 256 MiB.
const MOST_BYTES: u64 = 256 << 20;
/// The default memory budget is at least 32 MiB. In a container whose memory limit is below 64 MiB, budget and other
/// memory of the process may exceed the limit together. The operator then has to raise it.
const LEAST_BYTES: u64 = 32 << 20;

/// The default memory budget in bytes: 256 MiB, or half of the cgroup's memory limit if that is less. The other
/// half of the limit is for memory that the budget does not count: code, stacks, TLS, the allocator's overhead.
pub fn default_budget_bytes() -> u64 {
    budget_for(crate::process::cgroup::MEMORY.tightest())
}

fn budget_for(limit_bytes: Option<u64>) -> u64 {
    limit_bytes.map_or(MOST_BYTES, |limit| (limit / 2).clamp(LEAST_BYTES, MOST_BYTES))
}

#[cfg(test)]
mod tests {
    use crate::cli::args::memory::*;

    #[test]
    fn half_of_the_tightest_limit_within_bounds() {
        assert_eq!(budget_for(None), 256 << 20);
        assert_eq!(budget_for(Some(1 << 40)), 256 << 20);
        assert_eq!(budget_for(Some(200 << 20)), 100 << 20);
        assert_eq!(budget_for(Some(1 << 20)), LEAST_BYTES);
    }
}
