//! The default memory budget: what a container allows, at most 256 MiB.

use std::path::Path;

const MOST_BYTES: u64 = 256 << 20;
/// Less than this and nothing could be restored; a smaller limit is the operator's to lift.
const LEAST_BYTES: u64 = 32 << 20;

/// 256 MiB, or half of the cgroup's limit where that is less: the other half is for what the
/// budget does not count (code, stacks, TLS, allocator).
pub fn default_budget_bytes() -> u64 {
    budget_for(cgroup_limit_bytes(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup")))
}

fn budget_for(limit_bytes: Option<u64>) -> u64 {
    limit_bytes.map_or(MOST_BYTES, |limit| (limit / 2).clamp(LEAST_BYTES, MOST_BYTES))
}

/// The tightest limit of this process's cgroup and those above it, v2 or v1; None: no limit,
/// or none that can be seen.
fn cgroup_limit_bytes(mount: &Path, own: &Path) -> Option<u64> {
    let own = std::fs::read_to_string(own).unwrap_or_default();
    let mut tightest = None::<u64>;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            v1 if v1.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // A namespace may hide the upper part of the path: the mount's root then is our own.
        let relative = Path::new(path.trim_start_matches('/'));
        for directory in relative.ancestors() {
            if let Some(limit) = read_limit(&root.join(directory).join(file)) {
                tightest = Some(tightest.map_or(limit, |other| other.min(limit)));
            }
        }
    }
    tightest
}

/// v1 writes a number near 2^63 for no limit, which budget_for caps; v2 writes `max`.
fn read_limit(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_tightest_limit_within_bounds() {
        assert_eq!(budget_for(None), 256 << 20);
        assert_eq!(budget_for(Some(1 << 40)), 256 << 20);
        assert_eq!(budget_for(Some(200 << 20)), 100 << 20);
        assert_eq!(budget_for(Some(1 << 20)), LEAST_BYTES);
    }

    #[test]
    fn limits_are_found_in_both_hierarchies() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("cgroup");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(cgroup_limit_bytes(dir.path(), &own), None);
        write("cgroup", "0::/a/b\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(cgroup_limit_bytes(dir.path(), &own), None);
        write("a/memory.max", "1000\n");
        assert_eq!(cgroup_limit_bytes(dir.path(), &own), Some(1000));
        write("cgroup", "5:cpu,memory:/x\n4:cpuset:/y\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/x/memory.limit_in_bytes", "500\n");
        assert_eq!(cgroup_limit_bytes(dir.path(), &own), Some(500));
    }
}
