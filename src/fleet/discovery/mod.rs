pub(super) mod configured;
pub(super) mod discover;
pub(super) mod feed;
pub(super) mod found;
pub(super) mod key_ranges;
pub(super) mod listing;
pub(super) mod pattern;
pub(super) mod shard;
