//! What a restore of the whole fleet would take, as a drill computes it.

use serde::Serialize;

/// A forecast of the time and the space that a restore takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RestoreForecast {
    /// Seconds until half of the databases are restored on this host.
    pub half_seconds: f64,
    /// Seconds until all are restored on this host.
    pub all_seconds: f64,
    /// What the restore waits for most: `requests/s`, `network`, `cores` or `disk`.
    pub limited_by: &'static str,
    /// What the disk writes per second in bytes. None: it was not measured, and the forecast leaves it out.
    pub disk_bytes_per_second: Option<f64>,
    /// The size of all databases in bytes.
    pub bytes_needed: u64,
    /// The free space in bytes where they would be restored. None: it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_free: Option<u64>,
    /// What several hosts with one shard each would take.
    pub hosts: Vec<ShardsForecast>,
}

/// The forecast for a number of hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ShardsForecast {
    /// The number of hosts.
    pub hosts: u32,
    /// Seconds until all of the largest shard are restored.
    pub all_seconds: f64,
}
