//! How fast databases were verified, as far as a forecast needs it.

use crate::fleet::shard_of;
use crate::io::LARGE_BYTES;
use crate::process::cpu::cpu_time;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The numbers of hosts for which a forecast is made.
pub(super) const HOSTS: [u32; 3] = [2, 4, 16];

/// How a verification went on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    begun: Option<Instant>,
    cpu_before: Duration,
    /// Seconds from the start of the command to the end of the listing.
    pub listing_seconds: f64,
    /// Each database that has ended, in order.
    pub ends: Vec<EndedDatabase>,
    /// Seconds of CPU that this process took from the end of the listing to the last end, of all cores together.
    pub cpu_seconds: f64,
    /// The size of all databases in bytes.
    pub bytes: u64,
    /// The number of databases of less than 4 MiB, and what they have of `bytes`.
    pub small_databases: u64,
    pub small_bytes: u64,
    /// For each of [`HOSTS`] the number of databases and the bytes of files that each shard has.
    pub shards: [Vec<(u64, u64)>; HOSTS.len()],
}

/// A database that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndedDatabase {
    /// When it was begun and when it ended, in seconds from the end of the listing.
    pub begun: f64,
    pub seconds: f64,
    /// Size of the files that were fetched for it.
    pub bytes_fetched: u64,
}

impl Pace {
    /// Notes that all databases are known, and the first is begun. The command started at `start`.
    pub(super) fn begin(&mut self, start: Instant) {
        self.listing_seconds = start.elapsed().as_secs_f64();
        (self.begun, self.cpu_before) = (Some(Instant::now()), cpu_time());
    }

    /// Notes that the database `id` has ended just now, `elapsed` after it was begun. `bytes` is its size, `bytes_fetched`
    /// that of the files fetched for it.
    pub(super) fn add(&mut self, id: &str, elapsed: Duration, bytes: u64, bytes_fetched: u64) {
        let Some(begun) = self.begun else { return };
        let now = begun.elapsed().as_secs_f64();
        self.add_at((now - elapsed.as_secs_f64()).max(0.0)..now, id, bytes, bytes_fetched);
    }

    /// As [`Self::add`]. `times`: when the database was begun and when it ended, in seconds from the end of the listing.
    pub(super) fn add_at(&mut self, times: Range<f64>, id: &str, bytes: u64, bytes_fetched: u64) {
        self.ends.push(EndedDatabase { begun: times.start, seconds: times.end, bytes_fetched });
        self.bytes += bytes;
        if bytes < LARGE_BYTES {
            self.small_databases += 1;
            self.small_bytes += bytes;
        }
        for (shards, hosts) in self.shards.iter_mut().zip(HOSTS) {
            shards.resize(hosts as usize, (0, 0));
            if let Some((databases, bytes)) = shards.get_mut(shard_of(id, hosts) as usize) {
                *databases += 1;
                *bytes += bytes_fetched;
            }
        }
    }

    /// Notes that all databases have ended.
    pub(super) fn end(&mut self) {
        if self.begun.is_some() {
            self.cpu_seconds = cpu_time().saturating_sub(self.cpu_before).as_secs_f64();
        }
    }

    /// Seconds from the end of the listing to the end of the last database.
    pub(super) fn seconds(&self) -> f64 {
        self.ends.last().map_or(0.0, |end| end.seconds)
    }

    /// The mean size of databases of less than 4 MiB in bytes. 0: there is none.
    pub(super) fn mean_small_bytes(&self) -> u64 {
        self.small_bytes.checked_div(self.small_databases).unwrap_or(0)
    }
}
