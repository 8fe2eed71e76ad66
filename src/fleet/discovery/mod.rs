pub mod configured;
pub mod discover;
pub mod feed;
pub mod handover;
pub mod key_ranges;
pub mod listing;
pub mod pattern;
pub mod shard;
