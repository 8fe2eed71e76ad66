//! Which files are older than a moment, from as few looks as possible (docs/ARCHITECTURE.md, "Times
//! by bisection").
//!
//! Within one level files are ordered by TXID and by time alike, so per level there is one
//! boundary, enclosed by what the looks so far have shown. An object uploaded well before the
//! moment was created before it: that raises the lower end without a look. Nothing else is
//! concluded from LastModified; in a copied bucket all objects are new.
//!
//! How the boundaries are found, in rounds of looks side by side:
//! 1. The open files of the levels 0 … 8 are pooled by max TXID and searched as if they were one
//!    level: about three bits a round. Where LastModified passes the moment is tried first.
//! 2. Then each level's boundary is expected where the pool's is, and the two files around it are
//!    looked at. That proves it, by the level's own order. Where it fails, the level is searched.
//!
//! The pool is only a guess where to look; what is answered rests on each level's own order. That
//! is checked as far as looks go: a level whose looks contradict it is looked at file by file.

use super::Times;
use super::knowledge::TimeLook;
use crate::catalogue::{LtxFile, Replica};
use crate::ltx::{Level, Txid};
use crate::timestamp::Timestamp;
use std::ops::Range;

/// How far a writer's clock may be behind the store's: five minutes, in nanoseconds.
const CLOCK_MARGIN: i64 = 5 * 60 * 1_000_000_000;

/// Looks per round in the pooled search or a single level, and in each of several levels.
const POOL_FANOUT: usize = 7;
const LEVEL_FANOUT: usize = 3;

/// Ok: for every file, whether it was created before `at`. Err: what is known does not suffice; the
/// indexes of the files whose headers are to be read for their times before the next call. They ascend,
/// are not empty, and hold no file whose time is known already.
pub(super) fn before(replica: &Replica, at: Timestamp, times: &Times) -> Result<Vec<bool>, Vec<usize>> {
    let search = BoundarySearch { files: &replica.files, at, times };
    let levels: Vec<(Level, Boundary)> = (0..=Level::SNAPSHOT.get())
        .filter_map(Level::new)
        .map(|level| (level, replica.level(level)))
        .filter(|(_, range)| !range.is_empty())
        .map(|(level, range)| (level, search.boundary(range)))
        .collect();

    let mut needed = search.all_of_unordered(&levels);
    if needed.is_empty() {
        needed = search.next_looks(&levels);
    }
    if !needed.is_empty() {
        needed.sort_unstable();
        needed.dedup();
        return Err(needed);
    }
    let mut eligible = vec![false; replica.files.len()];
    for (_, boundary) in &levels {
        search.mark(boundary, &mut eligible);
    }
    Ok(eligible)
}

/// What is known of one level, whose files are `all`.
struct Boundary {
    all: Range<usize>,
    /// The boundary lies in `open.start ..= open.end`: what is before is older than the moment,
    /// what is behind is not. None where the looks contradict the order, or are not to be
    /// concluded from: then each file counts by its own time.
    open: Option<Range<usize>>,
}

struct BoundarySearch<'a> {
    files: &'a [LtxFile],
    at: Timestamp,
    times: &'a Times,
}

impl BoundarySearch<'_> {
    fn boundary(&self, all: Range<usize>) -> Boundary {
        if self.times.are_all_required() {
            return Boundary { all, open: None };
        }
        let (mut start, mut end) = (all.start, all.end);
        for (i, look) in self.times.looks(all.clone()) {
            match look {
                TimeLook::At(time) if time < self.at => start = start.max(i + 1),
                TimeLook::At(_) => end = end.min(i),
                TimeLook::Unknowable => {}
            }
        }
        if start > end {
            return Boundary { all, open: None };
        }
        // What looks have shown beats LastModified.
        let long_before = self.at.saturating_add_nanos(-CLOCK_MARGIN);
        let uploaded_long_before = |i: &usize| {
            // A store that does not tell gives the epoch or less.
            self.modified(*i).is_some_and(|t| t < long_before && t > Timestamp::from_nanos(0))
        };
        if let Some(last) = (start..end).rev().find(uploaded_long_before) {
            start = last + 1;
        }
        // Files that cannot be looked at count as older: nothing newer on the level says otherwise.
        if (start..end).all(|i| !self.can_look(i)) {
            start = end;
        }
        Boundary { all, open: Some(start..end) }
    }

    fn all_of_unordered(&self, levels: &[(Level, Boundary)]) -> Vec<usize> {
        let unordered = levels.iter().filter(|(_, b)| b.open.is_none());
        unordered.flat_map(|(_, b)| b.all.clone()).filter(|&i| self.can_look(i)).collect()
    }

    fn mark(&self, boundary: &Boundary, eligible: &mut [bool]) {
        let Boundary { all, open } = boundary;
        let mut before = true;
        for i in all.clone() {
            before = match (open, self.times.get(i)) {
                (Some(open), _) => i < open.start,
                (None, Some(time)) => time < self.at,
                (None, None) => before,
            };
            if let Some(slot) = eligible.get_mut(i) {
                *slot = before;
            }
        }
    }

    /// The next round; empty where every boundary is found.
    fn next_looks(&self, levels: &[(Level, Boundary)]) -> Vec<usize> {
        let open: Vec<(Level, &Boundary, Range<usize>)> = levels
            .iter()
            .filter_map(|(level, b)| b.open.clone().filter(|open| !open.is_empty()).map(|open| (*level, b, open)))
            .collect();
        if open.is_empty() {
            return Vec::new();
        }
        let guess = self.guess(levels);
        // Snapshots are written a little after the transactions that they end with, which would
        // disturb the pool.
        let mut pool: Vec<usize> = open
            .iter()
            .filter(|(level, ..)| *level != Level::SNAPSHOT)
            .flat_map(|(_, _, open)| open.clone())
            .filter(|&i| guess.is_within(self.max_txid(i)) && self.can_look(i))
            .collect();
        pool.sort_by_key(|&i| self.max_txid(i));
        if !pool.is_empty() {
            return self.pool_looks(&pool);
        }
        let fanout = if open.len() == 1 { POOL_FANOUT } else { LEVEL_FANOUT };
        open.into_iter().flat_map(|(_, boundary, open)| self.level_looks(boundary, open, &guess, fanout)).collect()
    }

    fn pool_looks(&self, pool: &[usize]) -> Vec<usize> {
        let mut looks = spread(pool, POOL_FANOUT);
        // Compactions are uploaded late, so it is the last file uploaded before the moment that
        // tells; one or two behind it may have been on their way.
        let uploaded_before = |i: &usize| self.modified(*i).is_some_and(|t| t < self.at);
        if let Some(&last) = pool.iter().rfind(|i| uploaded_before(i)) {
            let next = pool.partition_point(|&i| self.max_txid(i) <= self.max_txid(last));
            if next < pool.len() {
                looks.push(last);
                looks.extend(pool.get(next));
                looks.extend(pool.get(next + 3));
            }
        }
        looks
    }

    /// Looks that enclose one level's boundary where `guess` puts it; where it was wrong, at
    /// distances that grow.
    fn level_looks(&self, boundary: &Boundary, open: Range<usize>, guess: &Guess, fanout: usize) -> Vec<usize> {
        let candidates: Vec<usize> = open.clone().filter(|&i| self.can_look(i)).collect();
        let at_least = |txid: Option<Txid>, beyond: bool, none: usize| match txid {
            Some(txid) => candidates.partition_point(|&i| {
                let max = self.max_txid(i);
                if beyond { max <= txid } else { max < txid }
            }),
            None => none,
        };
        // Expected: older before `from`, not older from `to` on; between is anyone's guess.
        let (a, b) = (at_least(guess.older_up_to, true, 0), at_least(guess.newer_from, false, candidates.len()));
        let (from, to) = (a.min(b), a.max(b));
        // A look has shown that the expectation is wrong where it lies outside of what is open.
        let wrong_before = from == candidates.len()
            && open.end < boundary.all.end
            && guess.older_up_to.is_some_and(|older| self.max_txid(open.end) <= older);
        let wrong_behind = to == 0
            && open.start > boundary.all.start
            && guess.newer_from.is_some_and(|newer| self.max_txid(open.start - 1) >= newer);
        let pick = |wanted: &[Option<usize>]| -> Vec<usize> {
            wanted.iter().filter_map(|&at| candidates.get(at?).copied()).collect()
        };
        if wrong_before {
            let n = candidates.len();
            return pick(&[n.checked_sub(1), n.checked_sub(3), Some(n / 2)]);
        }
        if wrong_behind {
            return pick(&[Some(0), Some(2), Some(candidates.len() / 2)]);
        }
        let mut looks = pick(&[from.checked_sub(1), Some(to)]);
        looks.extend(candidates.get(from..to).map(|window| spread(window, fanout)).unwrap_or_default());
        looks
    }

    fn guess(&self, levels: &[(Level, Boundary)]) -> Guess {
        let increments = levels.iter().filter(|(level, _)| *level != Level::SNAPSHOT);
        let enclosed: Vec<(&Range<usize>, &Range<usize>)> =
            increments.filter_map(|(_, b)| b.open.as_ref().map(|open| (&b.all, open))).collect();
        let last_older = enclosed.iter().filter(|(all, open)| open.start > all.start);
        let first_newer = enclosed.iter().filter(|(all, open)| open.end < all.end);
        Guess {
            older_up_to: last_older.map(|(_, open)| self.max_txid(open.start - 1)).max(),
            newer_from: first_newer.map(|(_, open)| self.max_txid(open.end)).min(),
        }
    }

    fn can_look(&self, i: usize) -> bool {
        self.times.look(i).is_none()
    }

    fn max_txid(&self, i: usize) -> Txid {
        self.files.get(i).map_or(Txid(0), |f| f.max_txid)
    }

    fn modified(&self, i: usize) -> Option<Timestamp> {
        self.files.get(i).map(|f| f.last_modified)
    }
}

/// Where the moment lies in TXIDs, as the increments' levels have it so far.
struct Guess {
    /// The largest max TXID of a file that is older.
    older_up_to: Option<Txid>,
    /// The smallest max TXID of a file that is not.
    newer_from: Option<Txid>,
}

impl Guess {
    fn is_within(&self, txid: Txid) -> bool {
        self.older_up_to.is_none_or(|older| txid > older) && self.newer_from.is_none_or(|newer| txid < newer)
    }
}

/// At most `count` of `items`, evenly spread; all where there are no more.
fn spread(items: &[usize], count: usize) -> Vec<usize> {
    if items.len() <= count {
        return items.to_vec();
    }
    (1..=count).filter_map(|i| items.get(i * items.len() / (count + 1)).copied()).collect()
}
