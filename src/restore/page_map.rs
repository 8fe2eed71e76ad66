//! Which pages the increments win, and their content (docs/ARCHITECTURE.md, "Winners first" and
//! "Overlay").
//!
//! [`PageMap`]: one bit per page says that an increment holds it, so the base's copy is discarded.
//! Increments are claimed from the newest to the oldest, so the first claim of a page wins.
//!
//! [`Overlay`]: the winning pages of small increments. They are written together with the base's
//! pages around them. If the overlay is full, further winners are written at once ("spilled"): they
//! are claimed, but not in the overlay.

use crate::ltx::{PageSize, Pgno};
use crate::restore::budget::{Budget, MemoryReservation};

/// The overlay reserves and allocates memory in slabs of 256 KiB.
const SLAB_BYTES: usize = 256 * 1024;

/// One bit per page, for pages 1 to `commit`.
#[derive(Debug)]
pub struct PageMap {
    words: Vec<u64>,
    commit: u32,
    /// Given back when the map is dropped.
    _memory: Option<MemoryReservation>,
}

impl PageMap {
    /// Size in bytes of a map of `commit` pages.
    pub const fn bytes_for(commit: u32) -> u64 {
        (commit as u64 / 64 + 1) * 8
    }

    /// A map without claims. `memory` was reserved for it, if it is large.
    pub fn new(commit: u32, memory: Option<MemoryReservation>) -> Self {
        Self { words: vec![0; commit as usize / 64 + 1], commit, _memory: memory }
    }

    pub const fn commit(&self) -> u32 {
        self.commit
    }

    /// Claims page `pgno`. True if it lies within the database and was not claimed before.
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

    /// Whether page `pgno` is claimed. Pages beyond `commit` count as claimed: no file's copy is wanted.
    #[expect(clippy::indexing_slicing, reason = "`words` has a bit for every page up to `commit`")]
    pub fn is_claimed(&self, pgno: Pgno) -> bool {
        pgno.0 > self.commit || self.words[pgno.0 as usize / 64] >> (pgno.0 % 64) & 1 == 1
    }

    /// The first page in `after + 1 ..= commit` that is not claimed and is not the lock page.
    pub fn first_unclaimed_after(&self, after: u32, lock_page: Pgno) -> Option<Pgno> {
        (after.checked_add(1)?..=self.commit).map(Pgno).find(|&p| p != lock_page && !self.is_claimed(p))
    }
}

/// Winning pages of small increments, kept until the base is placed.
#[derive(Debug)]
pub(super) struct Overlay {
    page_size: PageSize,
    slabs: Vec<Vec<u8>>,
    /// (page, slot). Ascending by page after [`Overlay::sort`].
    entries: Vec<(u32, u32)>,
    reservations: Vec<MemoryReservation>,
    /// Upper bound of the pages' size in bytes.
    max_bytes: u64,
}

impl Overlay {
    /// An overlay for at most `max_bytes` of pages.
    pub(super) fn new(page_size: PageSize, max_bytes: u64) -> Self {
        Self { page_size, slabs: Vec::new(), entries: Vec::new(), reservations: Vec::new(), max_bytes }
    }

    /// Keeps `page` as the winner of `pgno`. False if there is no room: the caller spills it.
    pub(super) fn insert(&mut self, budget: &Budget, pgno: Pgno, page: &[u8]) -> bool {
        let per_slab = self.pages_per_slab();
        let slot = self.entries.len();
        if slot / per_slab == self.slabs.len() {
            let slab_bytes = (per_slab * self.page_size.bytes()) as u64;
            if (self.slabs.len() as u64 + 1) * slab_bytes > self.max_bytes {
                return false;
            }
            // The first slab grows as needed, because most databases have few winners.
            let Some(reservation) = budget.try_reserve(slab_bytes) else { return false };
            self.reservations.push(reservation);
            self.slabs.push(if slot == 0 { Vec::new() } else { Vec::with_capacity(slab_bytes as usize) });
        }
        if let Some(slab) = self.slabs.last_mut() {
            slab.extend_from_slice(page);
            self.entries.push((pgno.0, slot as u32));
        }
        true
    }

    /// Sorts the entries by page. To be called once, after the last insert and before the first read.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Index of the first entry whose page is `pgno` or a later one.
    pub(super) fn position(&self, pgno: Pgno) -> usize {
        self.entries.partition_point(|&(p, _)| p < pgno.0)
    }

    /// Entry `i` in the order of pages.
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

/// The result of all claims. Shared by the segments, which only read it.
#[derive(Debug)]
pub(super) struct Winners {
    pub map: PageMap,
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
    fn the_overlay_respects_the_process_budget() {
        let size = PageSize::new(4096).unwrap();
        let budget = Budget::new(SLAB_BYTES as u64);
        let mut overlay = Overlay::new(size, u64::MAX);
        let page = vec![1; 4096];
        let kept = (1..=100).filter(|&i| overlay.insert(&budget, Pgno(i), &page)).count();
        assert_eq!(kept, SLAB_BYTES / 4096);
    }
}
