//! Owner and modes of what is restored, from the flags, else from the configuration file.

use crate::cli::args::argv::invalid_value;
use crate::cli::args::resolved::PermissionArgs;
use crate::cli::ui::failure::Failure;
use crate::commit::Permissions;
use crate::config::RestorePattern;
use crate::error::Class;
use crate::process::accounts::{self, Owner};

/// # Errors
/// There is no such user or group.
pub(super) fn permissions(args: &PermissionArgs, section: &RestorePattern) -> Result<Permissions, Failure> {
    let owner = match (&args.owner, &section.owner) {
        (Some(owner), _) => accounts::owner(owner).map_err(|e| invalid_value(owner, "owner", &e.to_string()))?,
        (None, Some(owner)) => accounts::owner(owner)
            .map_err(|e| Failure::failed(Class::Config, format!("restore-pattern: owner: {e}")))?,
        (None, None) => Owner::default(),
    };
    Ok(Permissions {
        user: owner.user,
        group: owner.group,
        mode: args.mode.or(section.mode),
        dir_mode: args.dir_mode.or(section.dir_mode),
    })
}
