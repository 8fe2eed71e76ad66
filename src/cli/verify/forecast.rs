//! How long a restore of the fleet would take on this host, and on several.
//!
//! A verification does all of a restore but the writing. Writing takes time of the cores, which is added to the pace of
//! the verification, and time of the disk, which goes on beside all else. The restore takes the longer of both.

use super::disk_probe::{DiskSpeed, WriteCost};
use super::pace::{EndedDatabase, HOSTS, Pace};
use crate::fleet::Shard;
use crate::report::{RestoreForecast, ShardsForecast};

/// What the forecast knows of this host and of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    /// None: the disk was not measured, and writing is left out.
    pub disk: Option<DiskSpeed>,
    /// The number of cores that this process may use.
    pub cores: usize,
    /// Whether the store has asked for fewer requests.
    pub is_throttled: bool,
    /// The free space in bytes where databases would be restored, if it is known.
    pub bytes_free: Option<u64>,
}

/// The forecast from the pace of a run. `share`: the sample or shard that was verified, of the whole fleet. None if no
/// database has ended.
pub(super) fn forecast_of(pace: &Pace, host: &Host, share: Option<Shard>) -> Option<RestoreForecast> {
    let times = f64::from(share.map_or(1, |share| share.of.max(1)));
    let half = pace.ends.get(pace.ends.len().checked_sub(1)? / 2)?.seconds;
    let verifying = pace.seconds().max(0.001);
    let writing = host.disk.map_or_else(WriteCost::default, |disk| disk.cost_of(pace));
    let cores = host.cores.max(1) as f64;
    let restoring = (verifying + writing.cpu_seconds / cores).max(writing.seconds);
    // Writing is spread over the run as fetching is.
    let seconds = |verifying_it: f64| rounded(pace.listing_seconds + verifying_it * restoring / verifying * times);
    let of_hosts = |(hosts, shards): (u32, &Vec<(u64, u64)>)| ShardsForecast {
        hosts,
        all_seconds: seconds(seconds_of_share(pace, largest_share(shards))),
    };
    let cores_busy = (pace.cpu_seconds + writing.cpu_seconds) / cores / restoring;
    Some(RestoreForecast {
        half_seconds: seconds(half),
        all_seconds: seconds(verifying),
        limited_by: limited_by(writing.seconds / restoring, cores_busy, host.is_throttled),
        disk_bytes_per_second: host.disk.map(|disk| (1.0 / disk.byte.seconds.max(1e-12)).round()),
        bytes_needed: (pace.bytes as f64 * times) as u64,
        bytes_free: host.bytes_free,
        hosts: HOSTS.into_iter().zip(&pace.shards).map(of_hosts).collect(),
    })
}

impl DiskSpeed {
    /// What it takes to write all databases. Small files wait for their syncs while large ones take what the disk can
    /// write, so the disk takes the longer time of both. The cores take both in turn.
    fn cost_of(&self, pace: &Pace) -> WriteCost {
        let (files, bytes) = (pace.small_databases as f64, pace.bytes.saturating_sub(pace.small_bytes) as f64);
        WriteCost {
            seconds: (files * self.small_file.seconds).max(pace.bytes as f64 * self.byte.seconds),
            cpu_seconds: files * self.small_file.cpu_seconds + bytes * self.byte.cpu_seconds,
        }
    }
}

/// What a restore waits for most: the disk or the cores, whichever is busy for the greater part of the time. If neither
/// is for more than half of it, the store.
fn limited_by(disk_busy: f64, cores_busy: f64, is_throttled: bool) -> &'static str {
    match (disk_busy.max(cores_busy) > 0.5, disk_busy > cores_busy) {
        (true, true) => "disk",
        (true, false) => "cores",
        (false, _) if is_throttled => "requests/s",
        (false, _) => "network",
    }
}

/// The part of all work that the shard with the most has. The work is taken to be half by number and half by bytes.
fn largest_share(shards: &[(u64, u64)]) -> f64 {
    let databases: u64 = shards.iter().map(|(databases, _)| databases).sum();
    let bytes: u64 = shards.iter().map(|(_, bytes)| bytes).sum();
    shards.iter().map(|own| share_of(*own, (databases, bytes))).fold(0.0, f64::max)
}

fn share_of((own_databases, own_bytes): (u64, u64), (databases, bytes): (u64, u64)) -> f64 {
    let by_number = own_databases as f64 / databases.max(1) as f64;
    by_number.midpoint(own_bytes as f64 / bytes.max(1) as f64)
}

/// When this part of all work was done, in seconds. A host with a shard begins as this one did, slowly at first, and ends
/// when its part is done. The work of a database is spread over the time from its beginning to its end.
fn seconds_of_share(pace: &Pace, share: f64) -> f64 {
    let all = (pace.ends.len() as u64, pace.ends.iter().map(|end| end.bytes_fetched).sum());
    let done_at = |seconds: f64| -> f64 {
        let part_done = |end: &EndedDatabase| {
            let of_it = ((seconds - end.begun) / (end.seconds - end.begun).max(1e-9)).clamp(0.0, 1.0);
            share_of((1, end.bytes_fetched), all) * of_it
        };
        pace.ends.iter().map(part_done).sum()
    };
    let (mut before, mut after) = (0.0, pace.seconds());
    // Each turn halves the time in question: 20 turns leave a millionth of the run.
    for _ in 0..20 {
        let middle = f64::midpoint(before, after);
        if done_at(middle) < share { before = middle } else { after = middle }
    }
    after
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Databases of which one ends each second, with `bytes` and files of `fetched` bytes.
    fn pace(databases: usize, bytes: u64, fetched: u64) -> Pace {
        let mut pace = Pace::default();
        pace.listing_seconds = 0.5;
        (0..databases).for_each(|n| pace.add_at(n as f64..(n + 1) as f64, &format!("bucket/{n}.db"), bytes, fetched));
        pace
    }

    fn host(disk: Option<DiskSpeed>) -> Host {
        Host { disk, cores: 2, is_throttled: false, bytes_free: None }
    }

    /// A disk that takes these seconds for a gigabyte and for a small file, of the disk and of the CPU.
    fn disk(gigabyte: (f64, f64), small_file: (f64, f64)) -> Option<DiskSpeed> {
        let cost = |(seconds, cpu_seconds): (f64, f64), of: f64| WriteCost {
            seconds: seconds / of,
            cpu_seconds: cpu_seconds / of,
        };
        Some(DiskSpeed { byte: cost(gigabyte, 1e9), small_file: cost(small_file, 1.0) })
    }

    fn times(forecast: Option<RestoreForecast>) -> (f64, f64, &'static str) {
        forecast.map(|forecast| (forecast.half_seconds, forecast.all_seconds, forecast.limited_by)).unwrap()
    }

    #[test]
    fn cores_write_in_turn_and_the_disk_beside() {
        let small = |disk| times(forecast_of(&pace(4, 1000, 1000), &host(disk), None));
        assert_eq!(small(None), (2.5, 4.5, "network"));
        // The two cores write for 4 × 0.5 s, each for half of it.
        assert_eq!(small(disk((0.0, 0.0), (0.1, 0.5))), (3.0, 5.5, "network"));
        // The disk takes as long as the rest, and then longer.
        assert_eq!(small(disk((0.0, 0.0), (1.25, 0.5))), (3.0, 5.5, "disk"));
        assert_eq!(small(disk((0.0, 0.0), (2.0, 0.5))), (4.5, 8.5, "disk"));
        assert_eq!(small(disk((0.0, 0.0), (0.1, 2.5))), (5.0, 9.5, "cores"));
        // Large databases cost by their bytes.
        let large = |disk| times(forecast_of(&pace(4, 500_000_000, 1000), &host(disk), None));
        assert_eq!(large(disk((1.0, 0.5), (9.0, 9.0))), (2.75, 5.0, "network"));
        assert_eq!(large(disk((4.0, 0.5), (9.0, 9.0))), (4.5, 8.5, "disk"));
    }

    #[test]
    fn what_holds_a_restore_back_is_named() {
        let limited_by = |cpu_seconds, is_throttled| {
            let mut pace = pace(4, 1000, 1000);
            pace.cpu_seconds = cpu_seconds;
            times(forecast_of(&pace, &Host { is_throttled, ..host(None) }, None)).2
        };
        // 4 s of two cores.
        assert_eq!([limited_by(3.9, false), limited_by(3.9, true)], ["network", "requests/s"]);
        assert_eq!([limited_by(4.1, false), limited_by(4.1, true)], ["cores", "cores"]);
    }

    #[test]
    fn a_sample_stands_for_the_fleet() {
        let tenth = Some(Shard { index: 0, of: 10 });
        let forecast = forecast_of(&pace(4, 1000, 1000), &host(disk((0.0, 0.0), (0.1, 0.5))), tenth);
        // The listing is that of the whole fleet already.
        assert_eq!(times(forecast.clone()), (25.5, 50.5, "network"));
        assert_eq!(forecast.unwrap().bytes_needed, 40_000);
        assert_eq!(forecast_of(&Pace::default(), &host(None), None), None);
    }

    #[test]
    fn the_largest_shard_decides_for_several_hosts() {
        let mut pace = Pace::default();
        let database = |n| (f64::from(n), format!("bucket/{n}.db"), if n == 0 { 999 } else { 1 });
        (0..1000).map(database).for_each(|(begun, id, fetched)| pace.add_at(begun..begun + 1.0, &id, 10, fetched));
        let share = |hosts: usize| largest_share(&pace.shards[hosts]);
        // Half by number, half by bytes: one database has half of the bytes.
        assert!((0.60..0.70).contains(&share(0)) && (0.28..0.40).contains(&share(2)), "{} {}", share(0), share(2));
        let hosts = forecast_of(&pace, &host(None), None).unwrap().hosts;
        assert_eq!(hosts.iter().map(|of| of.hosts).collect::<Vec<_>>(), HOSTS);
        // A quarter of all work is in the first database.
        assert!((450.0..600.0).contains(&hosts[0].all_seconds), "{hosts:?}");
        assert!(hosts[2].all_seconds < 150.0, "{hosts:?}");
    }

    #[test]
    fn a_giant_is_worked_on_until_it_ends() {
        let mut pace = Pace::default();
        (0..9).for_each(|n| pace.add_at(f64::from(n)..f64::from(n + 1), "bucket/small.db", 10, 10));
        // It has the tenth part of the number and the half of the bytes.
        pace.add_at(0.0..10.0, "bucket/giant.db", 90, 90);
        let rounded_seconds = |share| rounded(seconds_of_share(&pace, share));
        assert_eq!([0.09, 0.54, 0.81, 0.985].map(rounded_seconds), [0.835, 5.01, 7.515, 9.5]);
    }

    #[test]
    fn small_files_wait_beside_large_ones() {
        let mut pace = pace(2, 500_000_000, 1000);
        (2..4).for_each(|n| pace.add_at(f64::from(n)..f64::from(n + 1), "bucket/small.db", 1000, 1000));
        let all = |disk| times(forecast_of(&pace, &host(disk), None)).1;
        assert_eq!(all(disk((6.0, 0.5), (2.0, 0.5))), 6.5);
        assert_eq!(all(disk((6.0, 0.5), (4.0, 0.5))), 8.5);
    }

    #[test]
    fn a_host_begins_as_slowly_as_this_one_did() {
        let mut pace = Pace::default();
        let ends = [10.0, 11.0, 12.0, 13.0];
        let mut begun = 0.0;
        for end in ends {
            pace.add_at(begun..end, "bucket/app.db", 10, 10);
            begun = end;
        }
        let rounded_seconds = |share| rounded(seconds_of_share(&pace, share));
        assert_eq!(
            [0.0, 0.125, 0.25, 0.5, 0.625, 1.0, 2.0].map(rounded_seconds),
            [0.0, 5.0, 10.0, 11.0, 11.5, 13.0, 13.0]
        );
    }
}
