//! Measures the time to plan the restore of one replica with many files. Usage: `cargo bench --bench plan [files]`
//! (100,000 files if not given).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use hydrant::catalogue::{Catalogue, Layout, Replica};
use hydrant::error::Class;
use hydrant::ltx::Txid;
use hydrant::plan::{Excluded, Plan, PlanOutcome, Target, Times, plan};
use hydrant::store::ObjectMeta;
use hydrant::timestamp::Timestamp;
use std::time::Instant;

const START_MS: i64 = 1_700_000_000_000;

/// A replica with one file per second, compactions of 30 and of 900 seconds, and a snapshot every 20,000 seconds.
/// If `copied`, all objects were uploaded later, as in a copied bucket.
fn replica(count: u64, copied: bool) -> Replica {
    let mut catalogue = Catalogue::new(Layout::Hex);
    let mut add = |level: u8, min: u64, max: u64| {
        let uploaded = if copied { START_MS + 10_000_000_000 } else { START_MS + max as i64 * 1000 + 40 };
        catalogue.insert(ObjectMeta {
            key: format!("app.db/{level:04x}/{min:016x}-{max:016x}.ltx"),
            size: 4096,
            last_modified: Timestamp::from_millis(uploaded),
            etag: None,
            archived: false,
        });
    };
    (1..=count).for_each(|t| add(0, t, t));
    (1..=count / 30).for_each(|n| add(1, (n - 1) * 30 + 1, n * 30));
    (1..=count / 900).for_each(|n| add(2, (n - 1) * 900 + 1, n * 900));
    (1..=count / 20_000).for_each(|n| add(9, 1, n * 20_000));
    catalogue.finish().remove(0)
}

fn report(what: &str, replica: &Replica, target: Target, excluded: &Excluded) -> Plan {
    let mut times = Times::new();
    let (mut looks, mut rounds) = (0, 0);
    let start = Instant::now();
    let found = loop {
        match plan(replica, &target, &times, excluded).expect("a plan") {
            PlanOutcome::Plan(found) => break found,
            PlanOutcome::NeedTimes(needed) => {
                looks += needed.len();
                rounds += 1;
                let time = |i: usize| START_MS + replica.files[i].max_txid.0 as i64 * 1000;
                needed.iter().for_each(|&i| times.set(i, Timestamp::from_millis(time(i))));
            }
        }
    };
    println!(
        "{what:44} {:7.2} ms, {looks:3} looks in {rounds} rounds, {} files planned of {}",
        start.elapsed().as_secs_f64() * 1e3,
        found.files.len(),
        replica.files.len()
    );
    found
}

fn main() {
    let count = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(100_000);
    let none = Excluded::new();
    let at = |t: u64| Target::Timestamp(Timestamp::from_millis(START_MS + t as i64 * 1000 + 1));
    let own = replica(count, false);
    let latest = report("latest", &own, Target::Latest, &none);
    assert_eq!(latest.txid, Txid(count));
    report("txid, before the first snapshot", &own, Target::Txid(Txid(count / 6)), &none);
    assert_eq!(report("timestamp, half-way", &own, at(count / 2), &none).txid, Txid(count / 2));
    let copied = replica(count, true);
    assert_eq!(report("timestamp, half-way, copied bucket", &copied, at(count / 2), &none).txid, Txid(count / 2));
    let mut damaged = Excluded::new();
    let compacted = own.files.iter().enumerate().filter(|(_, f)| f.level.get() > 0);
    compacted.for_each(|(i, _)| damaged.insert(i, Class::ChecksumMismatch));
    let long = report("latest, all but level 0 damaged", &own, Target::Latest, &damaged);
    assert_eq!(long.files.len() as u64, count);
}
