//! How long a restore of the fleet would take on this host, and on several.
//!
//! A verification does all of a restore but the writing. So its own pace is the forecast, unless the disk is slower: the
//! time to write all databases is what the disk's measured speed gives.

use super::record::DrillRecord;
use crate::cli::args::resolved::VerifyArgs;
use crate::cli::failures::absolute;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::Log;
use crate::commit::{FreeSpace, random_letters};
use crate::fleet::{Shard, shard_of};
use crate::report::{RestoreForecast, ShardsForecast};
use crate::restore::VerifyDepth;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// The probe of the disk writes 256 MiB.
const PROBE_BYTES: usize = 256 << 20;
/// It writes them in pieces of 1 MiB.
const PIECE_BYTES: usize = 1 << 20;
/// The numbers of hosts for which a forecast is made.
const HOSTS: [u32; 3] = [2, 4, 16];

/// When databases were verified.
#[derive(Default)]
pub(super) struct Pace {
    begun: Option<Instant>,
    /// Seconds since the beginning at which each database had ended.
    ends: Vec<f64>,
    bytes_fetched: u64,
    bytes: u64,
}

impl Pace {
    /// Notes that all databases are known, and the first is begun.
    pub(super) fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// Notes that a database has ended.
    pub(super) fn add(&mut self, bytes_fetched: u64, bytes: u64) {
        self.ends.extend(self.begun.map(|begun| begun.elapsed().as_secs_f64()));
        self.bytes_fetched += bytes_fetched;
        self.bytes += bytes;
    }
}

/// The forecast from a run that has verified `records`. `share`: the sample or shard that was verified, of the whole
/// fleet. `bytes_free`: the free space, if it is known. None if no database has ended.
pub(super) fn forecast_of(
    pace: &Pace,
    records: &[DrillRecord],
    disk: Option<f64>,
    share: Option<Shard>,
    bytes_free: Option<u64>,
) -> Option<RestoreForecast> {
    let times = f64::from(share.map_or(1, |share| share.of.max(1)));
    let mut ends = pace.ends.clone();
    ends.sort_by(f64::total_cmp);
    let (half, all) = (*ends.get(ends.len().checked_sub(1)? / 2)? * times, *ends.last()? * times);
    let writing = disk.filter(|speed| *speed > 0.0).map_or(0.0, |speed| pace.bytes as f64 * times / speed);
    let slower = (writing / all.max(0.001)).max(1.0);
    let of_hosts = |hosts| ShardsForecast { hosts, all_seconds: rounded(all * slower * largest_share(records, hosts)) };
    Some(RestoreForecast {
        half_seconds: rounded(half * slower),
        all_seconds: rounded(all * slower),
        limited_by: if writing > all { "disk" } else { "network and cores" },
        disk_bytes_per_second: disk.map(f64::round),
        bytes_needed: (pace.bytes as f64 * times) as u64,
        bytes_free,
        hosts: HOSTS.into_iter().map(of_hosts).collect(),
    })
}

/// The part of all work that the shard with the most has, if the fleet is divided among `hosts`. The work is taken to be
/// half by number and half by bytes.
fn largest_share(records: &[DrillRecord], hosts: u32) -> f64 {
    let mut work = vec![(0u64, 0u64); hosts as usize];
    for record in records {
        let shard = shard_of(record.key.as_deref().unwrap_or(&record.name), hosts);
        if let Some((databases, bytes)) = work.get_mut(shard as usize) {
            *databases += 1;
            *bytes += record.bytes_fetched;
        }
    }
    let bytes: u64 = work.iter().map(|(_, bytes)| bytes).sum();
    let part = |(databases, own): &(u64, u64)| {
        let by_number = *databases as f64 / records.len().max(1) as f64;
        let by_bytes = *own as f64 / bytes.max(1) as f64;
        by_number.midpoint(by_bytes)
    };
    work.iter().map(part).fold(0.0, f64::max)
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The directory that databases would be restored into: `-output-dir`, else `-scratch`. None: neither is given.
fn place(args: &VerifyArgs) -> Option<&Path> {
    args.output_dir.as_deref().or(args.scratch.as_deref())
}

/// The free space where databases would be restored, in bytes. None if it is not known.
pub(super) fn bytes_free(args: &VerifyArgs) -> Option<u64> {
    let dir = absolute(place(args)?).ok()?;
    FreeSpace::below(&dir).map(|free| free.available)
}

/// Measures what the disk of `-scratch` or `-output-dir` writes per second. None if neither is given, or no forecast is
/// made.
///
/// # Errors
/// The directory cannot be written to.
pub(super) fn probe(args: &VerifyArgs, log: &Log) -> Result<Option<f64>, Failure> {
    let Some(dir) = place(args) else { return Ok(None) };
    if args.depth < VerifyDepth::Full {
        return Ok(None);
    }
    let path = absolute(dir)?.join(format!("hydrant-probe-{}", random_letters()));
    let speed = write_probe(&path);
    let _ = std::fs::remove_file(&path);
    match speed {
        Ok(speed) => Ok(Some(speed)),
        Err(e) => {
            log.warn(&format!("the speed of the disk at {} was not measured: {e}", dir.display()));
            Ok(None)
        }
    }
}

fn write_probe(path: &Path) -> std::io::Result<f64> {
    let mut file = File::create_new(path)?;
    // Bytes that no file system compresses or stores once.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut piece = vec![0; PIECE_BYTES];
    let begun = Instant::now();
    for _ in 0..PROBE_BYTES / PIECE_BYTES {
        for bytes in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&piece)?;
    }
    file.sync_data()?;
    Ok(PROBE_BYTES as f64 / begun.elapsed().as_secs_f64().max(0.001))
}
