//! How long a restore of the fleet would take on this host, and on several.
//!
//! A verification does all of a restore but the writing. So the forecast is its own pace, or the time that the disk
//! takes for all bytes if that is longer; and on top of it the time to list, and the time to make each database
//! durable, which a restore does when the pages of a database are there.

use super::disk_probe::DiskSpeed;
use crate::fleet::{Shard, shard_of};
use crate::report::{RestoreForecast, ShardsForecast};
use std::time::Instant;

/// The numbers of hosts for which a forecast is made.
const HOSTS: [u32; 3] = [2, 4, 16];

/// When databases were verified.
#[derive(Default)]
pub(super) struct Pace {
    listing_begun: Option<Instant>,
    begun: Option<Instant>,
    listing_seconds: f64,
    /// Seconds since the beginning at which each database had ended.
    ends: Vec<f64>,
    bytes: u64,
    /// For each of [`HOSTS`] the number of databases and the bytes of files that each shard has.
    shards: [Vec<(u64, u64)>; HOSTS.len()],
}

impl Pace {
    /// Notes that the listing begins.
    pub(super) fn begin_listing(&mut self) {
        self.listing_begun = Some(Instant::now());
    }

    /// Notes that all databases are known, and the first is begun.
    pub(super) fn begin(&mut self) {
        self.listing_seconds = self.listing_begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        self.begun = Some(Instant::now());
    }

    /// Notes that the database `id` has ended. `bytes` is its size, `bytes_fetched` that of the files fetched for it.
    pub(super) fn add(&mut self, id: &str, bytes: u64, bytes_fetched: u64) {
        self.ends.extend(self.begun.map(|begun| begun.elapsed().as_secs_f64()));
        self.bytes += bytes;
        for (shards, hosts) in self.shards.iter_mut().zip(HOSTS) {
            shards.resize(hosts as usize, (0, 0));
            if let Some((databases, bytes)) = shards.get_mut(shard_of(id, hosts) as usize) {
                *databases += 1;
                *bytes += bytes_fetched;
            }
        }
    }
}

/// The forecast from the pace of a run. `share`: the sample or shard that was verified, of the whole fleet.
/// `bytes_free`: the free space, if it is known. None if no database has ended.
pub(super) fn forecast_of(
    pace: &Pace,
    disk: Option<DiskSpeed>,
    share: Option<Shard>,
    bytes_free: Option<u64>,
) -> Option<RestoreForecast> {
    let times = f64::from(share.map_or(1, |share| share.of.max(1)));
    let mut ends = pace.ends.clone();
    ends.sort_by(f64::total_cmp);
    let (half, all) = (*ends.get(ends.len().checked_sub(1)? / 2)? * times, *ends.last()? * times);
    let writing = disk.map_or(0.0, |disk| pace.bytes as f64 * times / disk.bytes_per_second.max(1.0));
    let durable = disk.map_or(0.0, |disk| ends.len() as f64 * times * disk.seconds_per_file);
    let slower = (writing / all.max(0.001)).max(1.0);
    let (half, all_work) = (half * slower + durable / 2.0, all * slower + durable);
    let seconds = |work: f64| rounded(pace.listing_seconds + work);
    let of_hosts = |(hosts, shards): (u32, &Vec<(u64, u64)>)| ShardsForecast {
        hosts,
        all_seconds: seconds(all_work * largest_share(shards)),
    };
    Some(RestoreForecast {
        half_seconds: seconds(half),
        all_seconds: seconds(all_work),
        limited_by: if writing.max(durable) > all { "disk" } else { "network and cores" },
        disk_bytes_per_second: disk.map(|disk| disk.bytes_per_second.round()),
        bytes_needed: (pace.bytes as f64 * times) as u64,
        bytes_free,
        hosts: HOSTS.into_iter().zip(&pace.shards).map(of_hosts).collect(),
    })
}

/// The part of all work that the shard with the most has. The work is taken to be half by number and half by bytes.
fn largest_share(shards: &[(u64, u64)]) -> f64 {
    let databases: u64 = shards.iter().map(|(databases, _)| databases).sum();
    let bytes: u64 = shards.iter().map(|(_, bytes)| bytes).sum();
    let part = |(own_databases, own_bytes): &(u64, u64)| {
        let by_number = *own_databases as f64 / databases.max(1) as f64;
        let by_bytes = *own_bytes as f64 / bytes.max(1) as f64;
        by_number.midpoint(by_bytes)
    };
    shards.iter().map(part).fold(0.0, f64::max)
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_shard_decides_for_several_hosts() {
        let mut pace = Pace::default();
        pace.begin();
        (0..1000).for_each(|n| pace.add(&format!("bucket/{n}.db"), 10, if n == 0 { 1000 } else { 1 }));
        let share = |hosts: usize| largest_share(&pace.shards[hosts]);
        // Half by number, half by bytes: one database has half of the bytes.
        assert!((0.60..0.70).contains(&share(0)) && (0.28..0.40).contains(&share(2)), "{} {}", share(0), share(2));
        let hosts = forecast_of(&pace, None, None, None).unwrap().hosts;
        assert_eq!(hosts.iter().map(|of| of.hosts).collect::<Vec<_>>(), HOSTS);
    }

    #[test]
    fn listing_disk_and_durable_files_are_added() {
        let pace = Pace { listing_seconds: 0.5, ends: vec![1.0, 2.0, 3.0, 4.0], bytes: 1000, ..Pace::default() };
        let times = |disk, share| {
            let forecast = forecast_of(&pace, disk, share, None).unwrap();
            (forecast.half_seconds, forecast.all_seconds, forecast.limited_by)
        };
        let disk = |bytes_per_second, seconds_per_file| Some(DiskSpeed { bytes_per_second, seconds_per_file });
        assert_eq!(times(None, None), (2.5, 4.5, "network and cores"));
        // Writing goes on beside the work, until it takes longer.
        assert_eq!(times(disk(1000.0, 0.5), None), (3.5, 6.5, "network and cores"));
        assert_eq!(times(disk(125.0, 0.5), None), (5.5, 10.5, "disk"));
        assert_eq!(times(disk(1000.0, 2.0), None), (6.5, 12.5, "disk"));
        // The listing is that of the whole fleet already.
        let tenth = Shard { index: 0, of: 10 };
        assert_eq!(times(disk(1000.0, 0.5), Some(tenth)), (30.5, 60.5, "network and cores"));
        assert_eq!(forecast_of(&Pace::default(), None, None, None), None);
    }
}
