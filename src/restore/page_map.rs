//! Two data structures that record which copy of each database page is the newest
//! (docs/ARCHITECTURE.md, "Winners first" and "Overlay").
//!
//! A plan is a chain of LTX files: a snapshot (the base) and later files that each hold changed pages
//! (increments). A page may be in several of them. The newest copy wins and is written to the output;
//! the others are discarded.
//!
//! - [`PageMap`] has one bit per page. The bit says that an increment holds the page, so the base's
//!   copy loses. Increments claim their pages from the newest to the oldest, so the first claim wins.
//! - [`Overlay`] holds the content of the winning pages of small increments in memory. They are
//!   written together with the base's pages around them, because few long writes are faster than many
//!   short ones. If the overlay is full, further winners are written at once ("spilled"). A spilled
//!   page is claimed in the map, but is not in the overlay.

use crate::ltx::{PageSize, Pgno};
use crate::restore::budget::{Budget, MemoryReservation};

/// [`Overlay`] reserves and allocates its memory in slabs of 256 KiB.
const SLAB_BYTES: usize = 256 * 1024;

/// A bit set with one bit per page of a database of `commit` pages. Pages are numbered from 1.
#[derive(Debug)]
pub struct PageMap {
    /// Bit `p % 64` of word `p / 64` belongs to page `p`.
    words: Vec<u64>,
    /// Size of the database in pages.
    commit: u32,
    /// The memory reserved for `words`. It goes back to the budget when the map is dropped.
    _memory: Option<MemoryReservation>,
}

impl PageMap {
    /// Size in bytes of the map of a database of `commit` pages.
    pub const fn bytes_for(commit: u32) -> u64 {
        (commit as u64 / 64 + 1) * 8
    }

    /// Makes a map for a database of `commit` pages, in which no page is claimed yet. `memory` is the reservation of
    /// [`PageMap::bytes_for`] bytes in the memory budget. A map of up to 1 MiB needs none.
    pub fn new(commit: u32, memory: Option<MemoryReservation>) -> Self {
        Self { words: vec![0; commit as usize / 64 + 1], commit, _memory: memory }
    }

    /// Makes a map for a database of unknown size, in which no page is claimed or can be claimed.
    pub(super) const fn unbounded() -> Self {
        Self { words: Vec::new(), commit: u32::MAX, _memory: None }
    }

    /// Size of the database in pages.
    pub const fn commit(&self) -> u32 {
        self.commit
    }

    /// Claims page `pgno` for the file that is being read. Returns true if no newer file has claimed the page before,
    /// and the page lies within the database (1 to `commit`). The file's copy of the page is then the newest.
    #[expect(clippy::indexing_slicing, reason = "`words` has a bit for every page up to `commit`")]
    pub fn claim(&mut self, pgno: Pgno) -> bool {
        if pgno.0 == 0 || pgno.0 > self.commit {
            return false;
        }
        let (word, bit) = (pgno.0 as usize / 64, pgno.0 % 64);
        let fresh = self.words[word] >> bit & 1 == 0;
        self.words[word] |= 1 << bit;
        fresh
    }

    /// Takes the claim of page `pgno` back.
    #[expect(clippy::indexing_slicing, reason = "`words` has a bit for every page up to `commit`")]
    pub(super) fn unclaim(&mut self, pgno: Pgno) {
        if pgno.0 <= self.commit {
            self.words[pgno.0 as usize / 64] &= !(1 << (pgno.0 % 64));
        }
    }

    /// Takes the claims of all pages of `others` back, and empties `others`.
    pub(super) fn unclaim_all(&mut self, others: &mut Self) {
        for (word, other) in self.words.iter_mut().zip(&mut others.words) {
            *word &= !std::mem::take(other);
        }
    }

    /// Whether page `pgno` is claimed by some file, so that older copies must not be used. A page beyond `commit`
    /// counts as claimed: the database has shrunk since that page was written, so no copy of it may be used.
    pub fn is_claimed(&self, pgno: Pgno) -> bool {
        let is_set = |word: &u64| word >> (pgno.0 % 64) & 1 == 1;
        pgno.0 > self.commit || self.words.get(pgno.0 as usize / 64).is_some_and(is_set)
    }

    /// The first page in `after + 1 ..= commit` that is not claimed. `lock_page` is skipped: SQLite locks
    /// bytes of that page (the one at 1 GiB) and never stores data in it, so LTX files do not hold it.
    pub fn first_unclaimed_after(&self, after: u32, lock_page: Pgno) -> Option<Pgno> {
        (after.checked_add(1)?..=self.commit).map(Pgno).find(|&p| p != lock_page && !self.is_claimed(p))
    }
}

/// The newest copies of pages from small increments, kept in memory until the snapshot's pages around them are
/// written.
#[derive(Debug)]
pub(super) struct Overlay {
    page_size: PageSize,
    /// Page contents in the order of insertion, [`SLAB_BYTES`] per slab.
    slabs: Vec<Vec<u8>>,
    /// One (page number, slot) per page. The slot is the page's index in the order of insertion. After
    /// [`Overlay::sort`], entries ascend by page number.
    entries: Vec<(u32, u32)>,
    /// The memory reserved for `slabs`, one reservation per slab.
    reservations: Vec<MemoryReservation>,
    /// Upper bound of the total size of all slabs, in bytes.
    max_bytes: u64,
}

impl Overlay {
    /// Makes an empty overlay that holds at most `max_bytes` of pages.
    pub(super) const fn new(page_size: PageSize, max_bytes: u64) -> Self {
        Self { page_size, slabs: Vec::new(), entries: Vec::new(), reservations: Vec::new(), max_bytes }
    }

    /// Makes an overlay that never holds a page.
    pub(super) const fn empty() -> Self {
        Self::new(PageSize::SMALLEST, 0)
    }

    /// Stores `page`, the newest copy of page `pgno`. Returns false if `max_bytes` or the memory budget leaves no
    /// room. The caller then writes the page to the output at once.
    pub(super) fn insert(&mut self, budget: &Budget, pgno: Pgno, page: &[u8]) -> bool {
        let per_slab = self.pages_per_slab();
        let slot = self.entries.len();
        if slot / per_slab == self.slabs.len() {
            let slab_bytes = (per_slab * self.page_size.bytes()) as u64;
            if (self.slabs.len() as u64 + 1) * slab_bytes > self.max_bytes {
                return false;
            }
            let Some(reservation) = budget.try_reserve(slab_bytes) else { return false };
            self.reservations.push(reservation);
            // Only the second and later slabs are allocated in full. Most databases have few pages in increments, so
            // their first slab stays far from full.
            self.slabs.push(if slot == 0 { Vec::new() } else { Vec::with_capacity(slab_bytes as usize) });
        }
        if let Some(slab) = self.slabs.last_mut() {
            slab.extend_from_slice(page);
            self.entries.push((pgno.0, slot as u32));
        }
        true
    }

    /// Removes the pages that were inserted after the first `len`, and calls `on_page` for each. Must be called before
    /// [`Overlay::sort`].
    pub(super) fn truncate(&mut self, len: usize, on_page: &mut dyn FnMut(Pgno)) {
        let removed = self.entries.split_off(len.min(self.entries.len()));
        removed.iter().for_each(|&(pgno, _)| on_page(Pgno(pgno)));
        let slabs = self.entries.len().div_ceil(self.pages_per_slab());
        self.slabs.truncate(slabs);
        self.reservations.truncate(slabs);
        let full = slabs.saturating_sub(1) * self.pages_per_slab();
        if let Some(slab) = self.slabs.last_mut() {
            slab.truncate((self.entries.len() - full) * self.page_size.bytes());
        }
    }

    /// Sorts the entries by page number. Must be called after the last [`Overlay::insert`] and before the
    /// first [`Overlay::get`] or [`Overlay::position`].
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    /// Number of pages in the overlay.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Index of the first entry whose page number is at least `pgno`. A segment begins with this entry if `pgno` is
    /// its first page.
    pub(super) fn position(&self, pgno: Pgno) -> usize {
        self.entries.partition_point(|&(p, _)| p < pgno.0)
    }

    /// Page number and content of entry `i`, counted from 0 in ascending order of page numbers. None if
    /// there are fewer entries.
    pub(super) fn get(&self, i: usize) -> Option<(Pgno, &[u8])> {
        let &(pgno, slot) = self.entries.get(i)?;
        let (per_slab, size) = (self.pages_per_slab(), self.page_size.bytes());
        let start = slot as usize % per_slab * size;
        let page = self.slabs.get(slot as usize / per_slab)?.get(start..start + size)?;
        Some((Pgno(pgno), page))
    }

    fn pages_per_slab(&self) -> usize {
        SLAB_BYTES / self.page_size.bytes()
    }
}

/// Which pages occur in increments, and the content of those that wait in memory, after all increments were read. The
/// tasks that write the snapshot share it and only read it.
#[derive(Debug)]
pub(super) struct Winners {
    /// The pages that some increment holds, so that the snapshot's copies are not written.
    pub map: PageMap,
    /// The content of those pages that came from small increments and were not written to the output at once.
    pub overlay: Overlay,
}

#[cfg(test)]
mod tests {
    use crate::restore::page_map::*;

    #[test]
    fn the_first_claim_wins_and_no_page_beyond_commit_can_be_claimed() {
        let mut map = PageMap::new(65, None);
        assert!(map.claim(Pgno(65)));
        assert!(!map.claim(Pgno(65)));
        assert!(!map.claim(Pgno(66)));
        assert!(!map.claim(Pgno(0)));
        assert!(map.is_claimed(Pgno(66)) && !map.is_claimed(Pgno(64)));
        assert_eq!(map.first_unclaimed_after(64, Pgno(1)), None);
        assert_eq!(map.first_unclaimed_after(62, Pgno(63)), Some(Pgno(64)));
        assert_eq!(PageMap::new(0, None).first_unclaimed_after(0, Pgno(1)), None);
    }

    #[test]
    fn the_overlay_gives_back_what_it_took_and_refuses_beyond_its_bound() {
        let size = PageSize::new(65536).unwrap();
        let budget = Budget::new(1 << 30);
        let mut overlay = Overlay::new(size, 2 * SLAB_BYTES as u64);
        let mut kept = Vec::new();
        for i in 0..20u32 {
            let pgno = Pgno(1000 - i * 7);
            if overlay.insert(&budget, pgno, &vec![i as u8; size.bytes()]) {
                kept.push((pgno, i as u8));
            }
        }
        assert_eq!(kept.len(), 8);
        overlay.sort();
        kept.sort();
        for (i, &(pgno, fill)) in kept.iter().enumerate() {
            let (p, page) = overlay.get(i).unwrap();
            assert_eq!((p, page), (pgno, &vec![fill; size.bytes()][..]));
        }
        assert_eq!(overlay.position(kept[3].0), 3);
        assert!(overlay.get(8).is_none());
    }

    #[test]
    fn what_a_file_claimed_is_taken_back() {
        let size = PageSize::new(65536).unwrap();
        let budget = Budget::new(1 << 30);
        let (mut map, mut wins) = (PageMap::new(200, None), PageMap::new(200, None));
        for pgno in [1, 64, 65, 200] {
            map.claim(Pgno(pgno));
        }
        for pgno in [2, 66, 199] {
            assert!(map.claim(Pgno(pgno)) && wins.claim(Pgno(pgno)));
        }
        map.unclaim_all(&mut wins);
        map.unclaim(Pgno(200));
        map.unclaim(Pgno(201));
        let claimed = |map: &PageMap| (1..=200).filter(|&p| map.is_claimed(Pgno(p))).collect::<Vec<_>>();
        assert_eq!((claimed(&map), claimed(&wins)), (vec![1, 64, 65], vec![]));

        // A slab holds 4 of these pages.
        for kept in 0..=9 {
            let mut overlay = Overlay::new(size, u64::MAX);
            let insert = |overlay: &mut Overlay, range: std::ops::Range<u32>, fill: u8| {
                for i in range {
                    assert!(overlay.insert(&budget, Pgno(100 - i), &vec![fill + i as u8; size.bytes()]));
                }
            };
            insert(&mut overlay, 0..9, 0);
            let mut removed = Vec::new();
            overlay.truncate(kept as usize, &mut |pgno| removed.push(100 - pgno.0));
            assert_eq!(removed, (kept..9).collect::<Vec<_>>());
            insert(&mut overlay, kept..12, 50);
            overlay.sort();
            for (i, page) in (0..12).rev().enumerate() {
                let fill = if page < kept { page } else { 50 + page } as u8;
                assert_eq!(overlay.get(i), Some((Pgno(100 - page), &vec![fill; size.bytes()][..])), "{kept} {page}");
            }
        }
        assert!(budget.try_reserve(1 << 30).is_some(), "all slabs were given back");
    }

    #[test]
    fn the_overlay_respects_the_process_budget() {
        let size = PageSize::new(4096).unwrap();
        let budget = Budget::new(SLAB_BYTES as u64);
        let mut overlay = Overlay::new(size, u64::MAX);
        let page = vec![1; 4096];
        let kept = (1..=100).filter(|&i| overlay.insert(&budget, Pgno(i), &page)).count();
        assert_eq!(kept, SLAB_BYTES / 4096);
    }
}
