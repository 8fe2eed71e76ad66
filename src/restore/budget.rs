//! One byte budget for the process (docs/ARCHITECTURE.md, "Bounded memory"). Whole bodies, overlays
//! and page maps are reserved before they are allocated. If the budget is spent, they wait.
//!
//! Write buffers and bodies being streamed are not reserved here: the caller of [`Budget::new`] sets
//! a part of `--memory` aside for them.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in units of 1 KiB, so that u32 covers 4 TiB.
const UNIT_BYTES: u64 = 1024;

/// See the file.
#[derive(Debug, Clone)]
pub struct Budget {
    /// One permit per free unit.
    units: Arc<Semaphore>,
    total_bytes: u64,
}

/// Reserved memory; given back when dropped.
#[derive(Debug)]
pub struct MemoryReservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`: at least one unit, at most 2³² − 1 units.
    pub fn new(bytes: u64) -> Self {
        let units = (bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX)) as usize;
        Self { units: Arc::new(Semaphore::new(units)), total_bytes: units as u64 * UNIT_BYTES }
    }

    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Waits until `bytes` are free and reserves them. If `bytes` exceeds the budget, reserves all
    /// of it; callers that must not do so compare with [`Budget::total_bytes`] first.
    pub async fn reserve(&self, bytes: u64) -> MemoryReservation {
        self.reserve_units(self.units_for(bytes)).await
    }

    /// Waits until `count` times `bytes` are free and reserves them in one step. The result is to be
    /// split with [`MemoryReservation::split`].
    pub async fn reserve_each(&self, bytes: u64, count: u32) -> MemoryReservation {
        self.reserve_units(self.units_for(bytes).saturating_mul(count).min(self.units_for(u64::MAX))).await
    }

    async fn reserve_units(&self, units: u32) -> MemoryReservation {
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        debug_assert!(permit.is_ok(), "the semaphore of the budget is never closed");
        MemoryReservation { permit: permit.ok() }
    }

    /// Reserves `bytes` if they are free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryReservation> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok()?;
        Some(MemoryReservation { permit: Some(permit) })
    }

    fn units_for(&self, bytes: u64) -> u32 {
        bytes.div_ceil(UNIT_BYTES).min(self.total_bytes / UNIT_BYTES) as u32
    }
}

impl MemoryReservation {
    /// Splits `bytes` off as a reservation of their own; None if fewer are left.
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
