//! The default of `-memory`: 256 MiB, or less in a container with a small memory limit.

use crate::catalogue::CatalogueLimit;

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

/// How much memory the lists of files may take. A budget that was given with `-memory` is the limit. Without one, it is
/// half of what the cgroup and the machine allow, if that is more than the budget.
pub fn catalogue_limit(budget_bytes: u64, is_given: bool) -> CatalogueLimit {
    if is_given {
        return CatalogueLimit { budget_bytes, limit_bytes: budget_bytes };
    }
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
    let allowed = crate::process::cgroup::MEMORY.tightest().into_iter().chain(machine).min();
    CatalogueLimit { budget_bytes, limit_bytes: allowed.map_or(u64::MAX, |most| (most / 2).max(budget_bytes)) }
}

/// The machine's memory, by the text of /proc/meminfo.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn budget_for(limit_bytes: Option<u64>) -> u64 {
    limit_bytes.map_or(MOST_BYTES, |limit| (limit / 2).clamp(LEAST_BYTES, MOST_BYTES))
}

#[cfg(test)]
mod tests {
    use crate::cli::args::memory::*;

    #[test]
    fn lists_may_take_more_than_a_budget_that_nobody_gave() {
        let given = catalogue_limit(1 << 20, true);
        assert_eq!(given.limit_bytes, 1 << 20);
        let own = catalogue_limit(1 << 20, false);
        assert!(own.limit_bytes > 1 << 20, "{own:?}");
        assert_eq!(total_bytes("MemFree: 1 kB\nMemTotal:       16 kB\n"), Some(16 << 10));
        assert_eq!(total_bytes("MemTotal: much\n"), None);
    }

    #[test]
    fn half_of_the_tightest_limit_within_bounds() {
        assert_eq!(budget_for(None), 256 << 20);
        assert_eq!(budget_for(Some(1 << 40)), 256 << 20);
        assert_eq!(budget_for(Some(200 << 20)), 100 << 20);
        assert_eq!(budget_for(Some(1 << 20)), LEAST_BYTES);
    }
}
