//! A small disk for tests: a tmpfs that is mounted on a directory.

use std::path::Path;
use std::process::Command;

/// A mounted tmpfs. Dropping it unmounts it.
pub(crate) struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// Mounts a tmpfs of `size` (`64k`, `2m`) on `dir`. None if that is not possible here: only root may mount.
    pub(crate) fn on(dir: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(dir).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: no tmpfs can be mounted here");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
