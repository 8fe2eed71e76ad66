//! What all restores of one command remember in common while they write their outputs.

use crate::commit::Notice;
use crate::commit::devices::KnownDevices;
use crate::commit::parents::{NewDirectories, UnsyncedNames};
use crate::commit::permissions::Permissions;
use crate::commit::space::SpaceMemory;
use crate::commit::staging::Staging;
use crate::commit::sweep::SweptDirectories;
use crate::commit::sys::UnnamedLinks;
use crate::process::locks::lock;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The memory of one command: which directories were cleaned up after killed runs, which new directories are
/// not durable yet, and which features file systems and the kernel were found to have. Each command makes one.
/// Clones share the same memory.
///
/// Two contexts in one process behave like two processes: both are safe, but each repeats the other's work.
#[derive(Debug, Clone, Default)]
pub struct CommitContext(Arc<Memory>);

#[derive(Debug, Default)]
struct Memory {
    swept: SweptDirectories,
    unsynced: UnsyncedNames,
    devices: KnownDevices,
    links: UnnamedLinks,
    space: SpaceMemory,
    notices: Mutex<Vec<Notice>>,
    permissions: Permissions,
    staging: Staging,
}

impl CommitContext {
    /// A context whose outputs get `permissions`. Outputs on file systems that take bytes in order only are staged in
    /// the directory `staging`. None: they are refused.
    pub fn new(permissions: Permissions, staging: Option<PathBuf>) -> Self {
        Self(Arc::new(Memory { permissions, staging: Staging::in_directory(staging), ..Memory::default() }))
    }

    /// Puts right what killed runs left in the directory of `output`, once per context and directory. Other callers
    /// wait until that is done. To be called before every decision that depends on what is at `output`. Files that
    /// cannot be put right stay where they are.
    ///
    /// Returns messages for the operator about what was put back and what was left.
    pub fn sweep_beside(&self, output: &Path) -> Vec<Notice> {
        self.swept().sweep_beside(output)
    }

    /// Returns what the operator is to know about files of this run since the last call: temporary files that could
    /// not be removed.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *lock(&self.0.notices))
    }

    pub(super) fn note(&self, notice: Notice) {
        lock(&self.0.notices).push(notice);
    }

    pub(super) fn swept(&self) -> &SweptDirectories {
        &self.0.swept
    }

    pub(super) fn permissions(&self) -> Permissions {
        self.0.permissions
    }

    /// How missing directories are made.
    pub(super) fn new_directories(&self) -> NewDirectories<'_> {
        NewDirectories { unsynced: self.unsynced(), permissions: self.permissions() }
    }

    pub(super) fn unsynced(&self) -> &UnsyncedNames {
        &self.0.unsynced
    }

    pub(super) fn devices(&self) -> &KnownDevices {
        &self.0.devices
    }

    pub(super) fn links(&self) -> &UnnamedLinks {
        &self.0.links
    }

    pub(super) fn staging(&self) -> &Staging {
        &self.0.staging
    }

    pub(super) fn space(&self) -> &SpaceMemory {
        &self.0.space
    }
}
