//! What the commits of one run know in common.

use crate::commit::Notice;
use crate::commit::journal::KnownDevices;
use crate::commit::parents::{NewDirectories, UnsyncedNames};
use crate::commit::permissions::Permissions;
use crate::commit::sweep::SweptDirectories;
use crate::commit::sys::UnnamedLinks;
use std::path::Path;
use std::sync::Arc;

/// The memory of a run: which directories were swept, which new directories are not durable yet, and what file
/// systems and the kernel were found to do. Each command makes one. Clones share it.
///
/// Two contexts behave towards each other like two processes: nothing is lost, but work is done twice.
#[derive(Debug, Clone, Default)]
pub struct CommitContext(Arc<Memory>);

#[derive(Debug, Default)]
struct Memory {
    swept: SweptDirectories,
    unsynced: UnsyncedNames,
    devices: KnownDevices,
    links: UnnamedLinks,
    permissions: Permissions,
}

impl CommitContext {
    /// A context whose outputs get `permissions`.
    pub fn with_permissions(permissions: Permissions) -> Self {
        Self(Arc::new(Memory { permissions, ..Memory::default() }))
    }

    /// Puts right what killed runs left in the directory of `output`, once per context and directory. Other callers
    /// wait until that is done. To be called before every decision that depends on what is at `output`. Files that
    /// cannot be put right stay where they are.
    ///
    /// Returns notices for the operator.
    pub fn sweep_beside(&self, output: &Path) -> Vec<Notice> {
        self.swept().sweep_beside(output)
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
}
