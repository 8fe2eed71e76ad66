//! Decides which files were created before a point in time T, with as few requests as possible
//! (docs/ARCHITECTURE.md, "Times by bisection").
//!
//! A file's time is in its metadata and its header. Reading it costs a request, called a look. Within one level,
//! files are ordered by TXID and by time alike. Each level therefore has one boundary between older and newer
//! files, and each look narrows the range in which it lies. LastModified saves looks in one case: a file that was
//! uploaded well before T was created before T. Nothing else is concluded from LastModified, because in a copied
//! bucket all objects are new.
//!
//! The boundaries are found in rounds. The looks of one round are done at the same time.
//! 1. The undecided files of the levels 0 to 8 are pooled, sorted by max TXID, and searched as if they were one
//!    level. Each round of 7 looks divides the pool by 8. The file at which LastModified passes T is looked at
//!    first.
//! 2. The boundary of each level is then expected at the same TXID as the pool's. The two files around it are
//!    looked at, which proves the boundary by the order within the level. If the expectation was wrong, the level is
//!    searched by itself.
//!
//! The pool only suggests where to look. The result depends on the order within each level alone. If the looks of a
//! level contradict that order, all files of the level are looked at.

use super::Times;
use super::knowledge::TimeLook;
use crate::catalogue::{LtxFile, Replica};
use crate::ltx::{Level, Txid};
use crate::timestamp::Timestamp;
use std::ops::Range;

/// The tolerance for a writer's clock that is behind the store's clock: five minutes, in nanoseconds.
const CLOCK_MARGIN: i64 = 5 * 60 * 1_000_000_000;

/// The number of looks per round in the pooled search, and when only one level is searched.
const POOL_FANOUT: usize = 7;
/// The number of looks per round in each level, when several levels are searched at the same time.
const LEVEL_FANOUT: usize = 3;

/// Decides for each file whether it was created before `at`.
///
/// Returns `Err` if the known times do not suffice. It holds the indexes of the files whose times must be looked up
/// before the next call. They ascend, there is at least one, and none of these times is known yet.
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

/// What is known about the boundary of one level. `all` are the indexes of the level's files.
struct Boundary {
    all: Range<usize>,
    /// The files that are not decided yet. Files before this range are older than T, files behind it are not. None
    /// if the order within the level cannot be used, because looks contradict it or the times of all files are
    /// required. Each file is then decided by its own time.
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
        // The times that were looked up come first; LastModified only narrows the range that they left.
        let long_before = self.at.saturating_add_nanos(-CLOCK_MARGIN);
        let uploaded_long_before = |i: &usize| {
            // A store that does not know the upload time reports the epoch or an earlier time.
            self.modified(*i).is_some_and(|t| t < long_before && t > Timestamp::from_nanos(0))
        };
        if let Some(last) = (start..end).rev().find(uploaded_long_before) {
            start = last + 1;
        }
        // If all undecided files were looked at and none has a readable time, they count as older, because no newer
        // file before them says otherwise.
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

    /// The indexes of the files to look at in the next round. Empty if every boundary is found.
    fn next_looks(&self, levels: &[(Level, Boundary)]) -> Vec<usize> {
        let open: Vec<(Level, &Boundary, Range<usize>)> = levels
            .iter()
            .filter_map(|(level, b)| b.open.clone().filter(|open| !open.is_empty()).map(|open| (*level, b, open)))
            .collect();
        if open.is_empty() {
            return Vec::new();
        }
        let guess = self.guess(levels);
        // Snapshots are left out of the pool. They are written a little after the transactions that they end with,
        // so their times do not fit between those of the other levels.
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
        // Compactions are uploaded late. The best first guess is therefore the last file that was uploaded before
        // T. One or two files behind it may also have been created before T and uploaded later.
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

    /// The files to look at in order to find one level's boundary near the expected place `guess`. If the guess was
    /// wrong, the distances between the looks grow.
    fn level_looks(&self, boundary: &Boundary, open: Range<usize>, guess: &Guess, fanout: usize) -> Vec<usize> {
        let candidates: Vec<usize> = open.clone().filter(|&i| self.can_look(i)).collect();
        let at_least = |txid: Option<Txid>, beyond: bool, none: usize| match txid {
            Some(txid) => candidates.partition_point(|&i| {
                let max = self.max_txid(i);
                if beyond { max <= txid } else { max < txid }
            }),
            None => none,
        };
        // Files before `from` are expected to be older than T, files from `to` on are not. For the files between,
        // nothing is expected.
        let (a, b) = (at_least(guess.older_up_to, true, 0), at_least(guess.newer_from, false, candidates.len()));
        let (from, to) = (a.min(b), a.max(b));
        // The expectation is wrong if it lies outside the range that is still undecided.
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

/// The expected place of T among the TXIDs, from what is known of the levels 0 to 8.
struct Guess {
    /// The largest max TXID of a file that is older than T.
    older_up_to: Option<Txid>,
    /// The smallest max TXID of a file that is not older than T.
    newer_from: Option<Txid>,
}

impl Guess {
    fn is_within(&self, txid: Txid) -> bool {
        self.older_up_to.is_none_or(|older| txid > older) && self.newer_from.is_none_or(|newer| txid < newer)
    }
}

/// Chooses at most `count` of `items`, evenly spread. All of them if there are no more.
fn spread(items: &[usize], count: usize) -> Vec<usize> {
    if items.len() <= count {
        return items.to_vec();
    }
    (1..=count).filter_map(|i| items.get(i * items.len() / (count + 1)).copied()).collect()
}
