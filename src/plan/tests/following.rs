//! Plans from a TXID, compared with a search of all chains; and whether files come from one writer.

use super::*;
use crate::error::Class;
use crate::ltx::PageSize;
use crate::ltx::header::{FLAG_NO_CHECKSUM, Header};
use crate::plan::continuity::{Continuity, OtherWriter, REMEMBERED, ReadFile};
use crate::plan::follow::{Continuation, FILE_COST_BYTES, NextFiles, continue_from};
use crate::store::Etag;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
struct Following {
    replica: Replica,
    from: Txid,
    blocked: Vec<usize>,
}

impl Following {
    fn excluded(&self) -> Excluded {
        let mut excluded = Excluded::new();
        self.blocked.iter().for_each(|&i| excluded.insert(i, Class::Malformed));
        excluded
    }

    /// The least cost of reaching each TXID, by trying every chain of `usable` files.
    fn costs(&self, usable: &dyn Fn(usize) -> bool) -> BTreeMap<u64, u64> {
        fn go(world: &Following, usable: &dyn Fn(usize) -> bool, at: u64, cost: u64, found: &mut BTreeMap<u64, u64>) {
            if found.get(&at).is_some_and(|&known| known <= cost) {
                return;
            }
            found.insert(at, cost);
            for (i, file) in world.replica.files.iter().enumerate() {
                if usable(i) && file.min_txid.0 <= at + 1 && file.max_txid.0 > at {
                    go(world, usable, file.max_txid.0, cost + file.size + FILE_COST_BYTES, found);
                }
            }
        }
        let mut found = BTreeMap::new();
        go(self, usable, self.from.0, 0, &mut found);
        found
    }
}

fn following() -> impl Strategy<Value = Following> {
    let raw = (0..10u8, 1..14u64, 0..6u64, 0..400_000u64, prop::bool::weighted(0.05));
    (prop::collection::vec(raw, 0..12), 0..16u64, prop::collection::vec(0..12usize, 0..3)).prop_map(
        |(raw, from, blocked)| {
            let files = raw.into_iter().map(|(level, min, length, size, archived)| {
                let mut f = file(level, min, if level == 0 { min } else { min + length }, 0);
                (f.size, f.archived) = (size, archived);
                f
            });
            Following { replica: replica(files.collect()), from: Txid(from), blocked }
        },
    )
}

fn check(world: &Following) -> Result<(), TestCaseError> {
    let Following { replica, from, .. } = world;
    let excluded = world.excluded();
    let is_usable = |i: usize| !excluded.contains(i) && !replica.files[i].archived;
    let goal = world.costs(&|_| true).into_keys().next_back().unwrap();
    let newest = replica.max_txid();
    match continue_from(replica, *from, &excluded) {
        Continuation::UpToDate => prop_assert_eq!(newest, Some(*from)),
        Continuation::Behind { newest: found } => {
            prop_assert!(found == newest && newest < Some(*from).max(Some(Txid(1))))
        }
        Continuation::Hole { next, newest: found } => {
            prop_assert!(goal == from.0 && Some(found) == newest && found > *from && next.0 > from.0 + 1);
        }
        Continuation::Blocked { txid, keys } => {
            prop_assert!(txid.0 == goal && !keys.is_empty());
            prop_assert!(!world.costs(&is_usable).contains_key(&goal));
        }
        Continuation::Chain(NextFiles { files, txid, newest: found }) => {
            prop_assert!(txid.0 == goal && goal > from.0 && Some(found) == newest);
            let (mut at, mut cost) = (from.0, 0);
            for i in files {
                let f = &replica.files[i];
                prop_assert!(is_usable(i) && f.min_txid.0 <= at + 1 && f.max_txid.0 > at);
                (at, cost) = (f.max_txid.0, cost + f.size + FILE_COST_BYTES);
            }
            prop_assert_eq!(at, goal);
            prop_assert_eq!(Some(cost), world.costs(&is_usable).remove(&goal));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cheapest_chain_to_the_newest_txid_is_planned(world in following()) {
        check(&world)?;
    }
}

/// The planned files as (level, min TXID, max TXID).
fn chain(files: Vec<LtxFile>, from: u64) -> Vec<(u8, u64, u64)> {
    let replica = replica(files);
    let Continuation::Chain(next) = continue_from(&replica, Txid(from), &Excluded::new()) else { return Vec::new() };
    next.files.iter().map(|&i| &replica.files[i]).map(|f| (f.level.get(), f.min_txid.0, f.max_txid.0)).collect()
}

#[test]
fn one_transaction_is_not_fetched_as_a_whole_database() {
    let sized = |level, min, max, size| LtxFile { size, ..file(level, min, max, 0) };
    let files = || vec![sized(9, 1, 8, 1 << 30), sized(1, 5, 8, 1 << 29), sized(0, 8, 8, 4096), sized(0, 7, 7, 4096)];
    assert_eq!(chain(files(), 7), [(0, 8, 8)]);
    assert_eq!(chain(files(), 6), [(0, 7, 7), (0, 8, 8)]);
    // Nothing else bridges the gap: the compaction, then the snapshot.
    assert_eq!(chain(files(), 4), [(1, 5, 8)]);
    assert_eq!(chain(files(), 3), [(9, 1, 8)]);
}

fn read(txid: u64, salts: (u32, u32), offset: i64, size: i64) -> ReadFile {
    ReadFile {
        key: format!("a.db/0000/{:016x}-{:016x}.ltx", txid, txid),
        level: Level::new(0).unwrap(),
        etag: Etag::parse(&format!("\"{txid}-{}\"", salts.0)),
        size: 100,
        header: Header {
            flags: FLAG_NO_CHECKSUM,
            page_size: PageSize::SMALLEST,
            commit: 1,
            min_txid: Txid(txid),
            max_txid: Txid(txid),
            timestamp_ms: 0,
            pre_apply_checksum: 0,
            wal_offset: offset,
            wal_size: size,
            wal_salt1: salts.0,
            wal_salt2: salts.1,
            node_id: 0,
        },
    }
}

#[test]
fn files_of_one_writer_continue_its_wal_or_begin_a_new_one() {
    let first = Continuity::default().after(&[read(1, (7, 8), 32, 4120), read(2, (7, 8), 4152, 8240)]).unwrap();
    let second = first.after(&[read(3, (7, 8), 12392, 4120)]).unwrap();
    second.after(&[read(4, (8, 99), 32, 4120)]).unwrap();
    // A file of a higher level says nothing about the WAL, and neither does a file after a gap.
    second.after(&[read(9, (1, 1), 5000, 4120)]).unwrap();
    let compacted = ReadFile { level: Level::new(1).unwrap(), ..read(4, (0, 0), 0, 0) };
    second.after(&[compacted, read(5, (3, 3), 77, 1)]).unwrap();
    for broken in [read(4, (7, 9), 16512, 4120), read(4, (7, 8), 12392, 4120), read(4, (9, 9), 9000, 1)] {
        let error = second.after(std::slice::from_ref(&broken)).unwrap_err();
        assert!(matches!(&error, OtherWriter::Break { key, .. } if *key == broken.key), "{error}");
        assert!(error.to_string().contains("expected 00000007 00000008 at offset 16512 or a new WAL"), "{error}");
    }
}

#[test]
fn a_file_that_was_replaced_after_it_was_applied_is_found() {
    let files: Vec<_> = (1..=100).map(|txid| read(txid, (7, 8), 32, 0)).collect();
    let known = Continuity::default().after(&files).unwrap();
    assert_eq!(known.oldest(), Some(Txid(101 - REMEMBERED as u64)));
    let listed = |txid: u64, etag: &str, size| {
        let etag = Etag::parse(&format!("\"{etag}\""));
        replica(vec![LtxFile { etag, size, ..file(0, txid, txid, 0) }])
    };
    known.check_listing(&listed(100, "100-7", 100)).unwrap();
    known.check_listing(&listed(101, "101-9", 100)).unwrap();
    // Files that are no longer remembered cannot be compared.
    known.check_listing(&listed(1, "other", 100)).unwrap();
    for replaced in [listed(100, "100-8", 100), listed(37, "37-7", 101)] {
        let error = known.check_listing(&replaced).unwrap_err();
        assert!(error.to_string().ends_with(".ltx was replaced after it was applied"), "{error}");
    }
}
