//! Reads the limits of this process's control group (cgroup), which container runtimes and systemd set.

use std::path::Path;

/// A kind of limit, and the names of its files in cgroup v1 and v2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// The name of the cgroup v1 controller that has this limit.
    controller: &'static str,
    v1: &'static str,
    v2: &'static str,
}

pub(crate) const MEMORY: Limit = Limit { controller: "memory", v1: "memory.limit_in_bytes", v2: "memory.max" };
pub(crate) const THREADS: Limit = Limit { controller: "pids", v1: "pids.max", v2: "pids.max" };

impl Limit {
    /// The smallest limit of this process's control group and of the groups above it, in cgroup v2 or v1. None if
    /// there is no limit, or none is visible to this process.
    pub(crate) fn tightest(self) -> Option<u64> {
        self.tightest_of(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"))
    }

    fn tightest_of(self, mount: &Path, own: &Path) -> Option<u64> {
        let own = std::fs::read_to_string(own).unwrap_or_default();
        let mut tightest = None::<u64>;
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let (root, file) = match controllers {
                "" => (mount.to_owned(), self.v2),
                v1 if v1.split(',').any(|name| name == self.controller) => (mount.join(self.controller), self.v1),
                _ => continue,
            };
            // A cgroup namespace may hide the upper part of the path. The root of the mount is then this process's
            // own group.
            let relative = Path::new(path.trim_start_matches('/'));
            for directory in relative.ancestors() {
                if let Some(limit) = read_limit(&root.join(directory).join(file)) {
                    tightest = Some(tightest.map_or(limit, |other| other.min(limit)));
                }
            }
        }
        tightest
    }
}

/// Reads the limit from a file. None if there is no limit, which v2 writes as `max`. v1 writes a number near 2^63
/// for memory, which needs no special case.
fn read_limit(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_in_both_hierarchies() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("cgroup");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(MEMORY.tightest_of(dir.path(), &own), None);
        write("cgroup", "0::/a/b\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(MEMORY.tightest_of(dir.path(), &own), None);
        write("a/memory.max", "1000\n");
        assert_eq!(MEMORY.tightest_of(dir.path(), &own), Some(1000));
        write("cgroup", "5:cpu,memory:/x\n4:cpuset:/y\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/x/memory.limit_in_bytes", "500\n");
        assert_eq!(MEMORY.tightest_of(dir.path(), &own), Some(500));
        // The limit on threads is found in v1 although a v2 hierarchy exists too, and then in v2.
        write("cgroup", "8:pids:/a/b\n0::/\n");
        write("pids/a/b/pids.max", "max\n");
        assert_eq!(THREADS.tightest_of(dir.path(), &own), None);
        write("pids/a/pids.max", "20\n");
        assert_eq!(THREADS.tightest_of(dir.path(), &own), Some(20));
        write("cgroup", "0::/a/b\n");
        write("a/b/pids.max", "7\n");
        assert_eq!(THREADS.tightest_of(dir.path(), &own), Some(7));
    }
}
