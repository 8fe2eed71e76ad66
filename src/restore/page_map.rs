//! Winners first (DESIGN engine 1, 2): one bit per page says that an increment holds it, so that
//! the base's copy loses; the increments' winning pages wait in the overlay until the base's
//! segment is laid out around them.
//!
//! Increments are claimed newest to oldest, so a page's first claim is its winner. Beyond the
//! overlay's budget winners go to the file at once ("spilled"): claimed, but not in the overlay.

use crate::ltx::{PageSize, Pgno};
use crate::restore::budget::{Budget, MemoryReservation};

/// Overlay memory is charged and allocated in slabs of this size at most.
const SLAB_BYTES: usize = 256 * 1024;

/// A bit per page 1 … commit.
#[derive(Debug)]
pub struct PageMap {
    words: Vec<u64>,
    commit: u32,
    _memory: Option<MemoryReservation>,
}

impl PageMap {
    /// Bytes that a map of `commit` pages takes.
    pub const fn bytes_for(commit: u32) -> u64 {
        (commit as u64 / 64 + 1) * 8
    }

    pub fn new(commit: u32, memory: Option<MemoryReservation>) -> Self {
        Self { words: vec![0; commit as usize / 64 + 1], commit, _memory: memory }
    }

    pub const fn commit(&self) -> u32 {
        self.commit
    }

    /// Claims `pgno`: true if it lies within the database and was not claimed before.
    pub fn claim(&mut self, pgno: Pgno) -> bool {
        if pgno.0 == 0 || pgno.0 > self.commit {
            return false;
        }
        let (word, bit) = (pgno.0 as usize / 64, pgno.0 % 64);
        let fresh = self.words[word] >> bit & 1 == 0;
        self.words[word] |= 1 << bit;
        fresh
    }

    /// Pages beyond commit count as claimed: nobody wants them.
    pub fn is_claimed(&self, pgno: Pgno) -> bool {
        pgno.0 > self.commit || self.words[pgno.0 as usize / 64] >> (pgno.0 % 64) & 1 == 1
    }

    /// The first page in `after+1 ..= commit` that is not claimed, the lock page aside.
    pub fn first_unclaimed_after(&self, after: u32, lock_page: Pgno) -> Option<Pgno> {
        (after.checked_add(1)?..=self.commit).map(Pgno).find(|&p| p != lock_page && !self.is_claimed(p))
    }
}

/// Winning pages of small increments, kept until the base is laid out.
#[derive(Debug)]
pub struct Overlay {
    page_size: PageSize,
    slabs: Vec<Vec<u8>>,
    /// (page, slot), ascending by page once sorted.
    entries: Vec<(u32, u32)>,
    reservations: Vec<MemoryReservation>,
    max_bytes: u64,
}

impl Overlay {
    /// An overlay that takes at most `max_bytes` of page data.
    pub fn new(page_size: PageSize, max_bytes: u64) -> Self {
        Self { page_size, slabs: Vec::new(), entries: Vec::new(), reservations: Vec::new(), max_bytes }
    }

    /// Keeps `page` as the winner of `pgno`. False when there is no room: the caller spills it.
    pub fn insert(&mut self, budget: &Budget, pgno: Pgno, page: &[u8]) -> bool {
        let per_slab = self.pages_per_slab();
        let slot = self.entries.len();
        if slot / per_slab == self.slabs.len() {
            let slab_bytes = (per_slab * self.page_size.bytes()) as u64;
            if (self.slabs.len() as u64 + 1) * slab_bytes > self.max_bytes {
                return false;
            }
            // The first slab grows as needed: most databases have a handful of winners.
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

    /// Sorts by page; call once, after the last insert and before the first look.
    pub fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The index of the first entry whose page is `pgno` or later.
    pub fn position(&self, pgno: Pgno) -> usize {
        self.entries.partition_point(|&(p, _)| p < pgno.0)
    }

    /// The `i`-th entry in page order.
    pub fn get(&self, i: usize) -> Option<(Pgno, &[u8])> {
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

/// What the increments have decided, shared read-only by the segments.
#[derive(Debug)]
pub struct Winners {
    pub map: PageMap,
    pub overlay: Overlay,
}

#[cfg(test)]
mod tests {
    use crate::restore::page_map::*;

    #[test]
    fn first_claim_wins_and_beyond_commit_is_nobodys() {
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
