//! The default memory budget: what a container allows, at most 256 MiB.

const MOST_BYTES: u64 = 256 << 20;
/// Less than this and nothing could be restored; a smaller limit is the operator's to lift.
const LEAST_BYTES: u64 = 32 << 20;

/// 256 MiB, or half of the cgroup's limit where that is less: the other half is for what the
/// budget does not count (code, stacks, TLS, allocator).
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
