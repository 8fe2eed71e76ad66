//! The default memory budget: 256 MiB, or less in a small container.

const MOST_BYTES: u64 = 256 << 20;
/// Nothing can be restored with less. In a container that allows less than twice this, the operator
/// has to raise the limit.
const LEAST_BYTES: u64 = 32 << 20;

/// 256 MiB, or half of the cgroup's memory limit if that is less. The other half is for memory that
/// the budget does not count: code, stacks, TLS, the allocator's overhead.
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
