//! The memory budget of the process in bytes (docs/ARCHITECTURE.md, "Bounded memory"). A restore
//! reserves memory before it allocates the body of a fetched file, an overlay or a page map. If the
//! budget is spent, it waits until another restore gives memory back.
//!
//! Write buffers and bodies that are being streamed are not part of this budget. The caller of
//! [`Budget::new`] sets a share of `--memory` aside for them.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget counts memory in units of 1 KiB. The semaphore takes a u32 of permits at a time, which
/// would be only 4 GiB if a permit were a byte. In units of 1 KiB it is 4 TiB.
const UNIT_BYTES: u64 = 1024;

/// A budget of bytes from which restores reserve memory. Clones share the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    /// A semaphore with one permit per unit of memory that is not reserved.
    units: Arc<Semaphore>,
    /// Size of the whole budget in bytes, including what is reserved now.
    total_bytes: u64,
}

/// Memory that was reserved from a [`Budget`]. Dropping it gives the memory back.
#[derive(Debug)]
pub struct MemoryReservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// Makes a budget of `bytes`, rounded down to whole KiB. The smallest budget is 1 KiB, the largest
    /// 2³² − 1 KiB.
    pub fn new(bytes: u64) -> Self {
        let units = (bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX)) as usize;
        Self { units: Arc::new(Semaphore::new(units)), total_bytes: units as u64 * UNIT_BYTES }
    }

    /// Size of the whole budget in bytes, including what is reserved now.
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Waits until `bytes` are free and reserves them, rounded up to whole KiB. If `bytes` is more than
    /// the whole budget, it reserves the whole budget, so that one large file can still be restored. A
    /// caller that needs all of `bytes` compares it with [`Budget::total_bytes`] first.
    pub async fn reserve(&self, bytes: u64) -> MemoryReservation {
        self.reserve_units(self.units_for(bytes)).await
    }

    /// Waits until `count` times `bytes` are free and reserves all of it in one step. The caller splits
    /// the result into parts of `bytes` with [`MemoryReservation::split`].
    pub async fn reserve_each(&self, bytes: u64, count: u32) -> MemoryReservation {
        self.reserve_units(self.units_for(bytes).saturating_mul(count).min(self.units_for(u64::MAX))).await
    }

    async fn reserve_units(&self, units: u32) -> MemoryReservation {
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        debug_assert!(permit.is_ok(), "the semaphore of the budget is never closed");
        MemoryReservation { permit: permit.ok() }
    }

    /// Reserves `bytes` if they are free now. Returns None otherwise, without waiting.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryReservation> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok()?;
        Some(MemoryReservation { permit: Some(permit) })
    }

    /// Converts `bytes` to a number of units, rounded up, and at most the number of units of the whole budget.
    fn units_for(&self, bytes: u64) -> u32 {
        bytes.div_ceil(UNIT_BYTES).min(self.total_bytes / UNIT_BYTES) as u32
    }
}

impl MemoryReservation {
    /// Splits `bytes` off this reservation into a new one. Returns None if fewer bytes are left.
    pub fn split(&mut self, bytes: u64) -> Option<Self> {
        let units = usize::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        Some(Self { permit: Some(self.permit.as_mut()?.split(units)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_are_given_back_and_bounded_by_the_budget() {
        let budget = Budget::new(10 * 1024);
        let all = budget.try_reserve(1 << 40).unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(all);
        let some = budget.try_reserve(9 * 1024).unwrap();
        assert!(budget.try_reserve(1024).is_some());
        assert!(budget.try_reserve(1025).is_none());
        drop(some);
    }

    #[tokio::test]
    async fn a_reservation_is_split_into_the_parts_it_was_made_of() {
        let budget = Budget::new(10 * 1024);
        let mut all = budget.reserve_each(1500, 3).await;
        assert!(budget.try_reserve(4 * 1024).is_some() && budget.try_reserve(5 * 1024).is_none());
        let parts: Vec<MemoryReservation> = std::iter::from_fn(|| all.split(1500)).collect();
        assert_eq!(parts.len(), 3);
        drop(all);
        assert!(budget.try_reserve(5 * 1024).is_none());
        drop(parts);
        assert!(budget.try_reserve(10 * 1024).is_some());
    }
}
