//! Generates random histories of a database (transactions, compactions, deleted files). Tests restore them with two
//! restorers and compare the results.

use super::chain::{Chain, EPOCH_MS, FileStyle};
use super::{EncodingMix, GenerateError, GeneratedDatabase, fill_page};
use crate::catalogue::Layout;
use crate::ltx::PageSize;
use crate::sim::naive::{NaiveEntry, NaiveTarget, plan};
use crate::sim::random::Random;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The properties that a random history may have.
#[derive(Debug, Clone)]
pub struct HistoryParams {
    /// The prefix of the keys, with or without a slash at its end.
    pub root: String,
    /// The key layout of the LTX files.
    pub layout: Layout,
    /// The page size of the database.
    pub page_size: PageSize,
    /// The largest number of pages, at least 1.
    pub max_pages: u32,
    /// The largest number of transactions, at least 1.
    pub max_transactions: u32,
    /// The LZ4 form in which pages are stored.
    pub encoding: EncodingMix,
    /// The probability, 0 to 1, that a file tracks checksums of the database (docs/FORMAT.md, "Trailer and
    /// checksums").
    pub tracked: f64,
    /// Whether compactions and later snapshots are made. Compactions may overlap.
    pub compactions: bool,
    /// Whether files are deleted at random. Some states then cannot be restored any more, but the newest always
    /// can.
    pub retention: bool,
    /// Whether a transaction may empty the database (commit 0).
    pub may_empty: bool,
}

impl Default for HistoryParams {
    fn default() -> Self {
        Self {
            root: "random.db".into(),
            layout: Layout::Hex,
            page_size: const { PageSize::new(4096).unwrap() },
            max_pages: 64,
            max_transactions: 30,
            encoding: EncodingMix::Mixed,
            tracked: 0.2,
            compactions: true,
            retention: false,
            may_empty: true,
        }
    }
}

/// Generates a random history. The database grows, shrinks and grows again, files may hold few pages, and levels
/// may overlap. [`GeneratedDatabase::states`] of the result holds every state.
pub fn random_history(seed: u64, params: &HistoryParams) -> Result<GeneratedDatabase, GenerateError> {
    let mut random = Random::new(seed);
    let mut chain = Chain::new(params.page_size, params.tracked > 0.0);
    let max_pages = u64::from(params.max_pages.max(1));
    let transactions = 1 + random.below(u64::from(params.max_transactions.max(1)));
    let mut time_ms = EPOCH_MS;
    for version in 0..transactions as u32 {
        time_ms += 1 + random.below(5000) as i64;
        let old = chain.commit();
        let commit = next_size(&mut random, old, max_pages, params.may_empty && version > 0);
        let mut written: Vec<u32> = (old + 1..=commit).collect();
        if commit > 0 {
            let most = if random.chance(0.2) { max_pages } else { 4 };
            let some = 1 + random.below(most);
            written.extend((0..some).map(|_| 1 + random.below(u64::from(commit)) as u32));
        }
        let pages: BTreeMap<u32, Bytes> =
            written.into_iter().map(|pgno| (pgno, random_page(&mut random, params.page_size, pgno, version))).collect();
        chain.push(pages, commit, time_ms);
    }

    let mut runs: Vec<(u8, u64, u64)> = (1..=transactions).map(|txid| (0, txid, txid)).collect();
    if params.compactions {
        for level in 1..=3 {
            let mut next = 1 + random.below(3);
            while next <= transactions && random.chance(0.9) {
                let max = (next + random.below(2 + 4 * u64::from(level))).min(transactions);
                runs.push((level, next, max));
                // In four of six cases the next compaction follows without a gap. In the others it overlaps or
                // leaves a gap.
                next = match random.below(6) {
                    0 => next.max(max.saturating_sub(2)) + 1,
                    1 => max + 3,
                    _ => max + 1,
                };
            }
        }
        for _ in 0..random.below(3) {
            runs.push((9, 1, 1 + random.below(transactions)));
        }
        runs.sort_unstable();
        runs.dedup();
    }
    for (level, min, max) in runs {
        let style =
            FileStyle { layout: params.layout, encoding: params.encoding, tracked: random.chance(params.tracked) };
        let delay_ms = if level == 0 { random.below(1000) } else { random.below(60_000) } as i64;
        chain.write(&params.root, level, (min, max), style, delay_ms, &mut random)?;
    }
    if params.retention {
        retire(&mut chain, transactions, &mut random);
    }
    chain.finish(&params.root)
}

fn next_size(random: &mut Random, old: u32, max_pages: u64, may_empty: bool) -> u32 {
    if old == 0 {
        return 1 + random.below(max_pages) as u32;
    }
    let old = u64::from(old);
    let new = match random.below(10) {
        0 | 1 => old + random.below(max_pages / 4 + 2),
        2 | 3 => 1 + random.below(old),
        4 if may_empty && random.chance(0.3) => 0,
        _ => old,
    };
    new.min(max_pages) as u32
}

/// Makes a page of a random kind: like that of a table, zeros, or random bytes.
fn random_page(random: &mut Random, page_size: PageSize, pgno: u32, version: u32) -> Bytes {
    let mut page = vec![0; page_size.bytes()];
    match random.below(8) {
        0 => {}
        1 => {
            for bytes in page.chunks_mut(8) {
                bytes.copy_from_slice(&random.next_u64().to_le_bytes()[..bytes.len()]);
            }
        }
        _ => fill_page(random.next_u64(), pgno, version, &mut page),
    }
    page.into()
}

/// Deletes each file with a probability of one half, unless the newest state could then no longer be restored.
fn retire(chain: &mut Chain, newest: u64, random: &mut Random) {
    let mut at = 0;
    while let Some(object) = chain.objects().get(at).cloned() {
        if random.chance(0.5) {
            chain.objects().remove(at);
            let entries: Vec<NaiveEntry> = chain
                .objects()
                .iter()
                .map(|object| NaiveEntry {
                    level: object.level.get(),
                    min_txid: object.min_txid.0,
                    max_txid: object.max_txid.0,
                    time_ns: object.litestream_timestamp.as_nanos(),
                })
                .collect();
            let reached = plan(&entries, NaiveTarget::Latest)
                .ok()
                .filter(|plan| plan.first().and_then(|&first| entries.get(first)).is_some_and(|e| e.min_txid == 1))
                .and_then(|plan| plan.last().and_then(|&last| entries.get(last)).map(|entry| entry.max_txid));
            if reached == Some(newest) {
                continue;
            }
            chain.objects().insert(at, object);
        }
        at += 1;
    }
}
