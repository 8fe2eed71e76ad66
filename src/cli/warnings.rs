//! Warnings about URLs and litestream.yml, each text once; and about disks.

use crate::cli::ui::human;
use crate::cli::ui::log::Log;
use crate::commit::Notice;
use crate::config::{Config, Location};
use crate::error::escaped;
use crate::fleet::LittleSpace;
use std::collections::HashSet;

/// Shows the warnings about the location that a command reads from.
pub(super) fn of_location(log: &Log, location: &Location) {
    show(log, &location.warnings);
}

/// Shows the warnings about the whole file: of every entry, as each may be restored.
pub(super) fn of_config(log: &Log, config: &Config) {
    let of_urls = config.databases.iter().filter_map(|entry| entry.replica.as_ref().ok());
    show(log, config.warnings.iter().chain(of_urls.flat_map(|location| &location.warnings)));
}

/// For commands other than `restore-pattern`: what is wrong with its section is no error of theirs.
pub(super) fn of_other_section(log: &Log, config: &Config) {
    show(log, &config.warnings);
    if let Some(Err(error)) = &config.restore_pattern {
        log.warn(&format!("{error}; restore-pattern would refuse this file"));
    }
}

/// Shows a message about files that were put right, left or staged.
pub(super) fn of_notice(log: &Log, notice: &Notice) {
    let text = notice.to_string();
    if notice.is_warning() { log.warn(&text) } else { log.info(&text) }
}

/// Shows that files are larger than the free space where their databases go.
pub(super) fn of_little_space(log: &Log, little: &LittleSpace) {
    log.warn(&format!(
        "about {} of files, {} free below {}",
        human::bytes(little.estimated_bytes),
        human::bytes(little.free_bytes),
        escaped(&little.below.to_string_lossy())
    ));
}

fn show<'a>(log: &Log, warnings: impl IntoIterator<Item = &'a String>) {
    let mut shown = HashSet::new();
    for warning in warnings.into_iter().filter(|warning| shown.insert(warning.as_str())) {
        log.warn(warning);
    }
}
