//! One byte budget for the process (DESIGN engine 4): bodies held whole, overlays and page maps
//! are charged to it before they are allocated, and wait where it is spent.
//!
//! Not charged: the fixed pools that are sized from it at start (write buffers, the bodies being
//! streamed), which [`Budget::new`] sets aside.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of account. Coarse, so that the semaphore's counter covers terabytes.
const UNIT_BYTES: u64 = 1024;

#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total_bytes: u64,
}

/// A charge; given back when dropped.
#[derive(Debug)]
pub struct MemoryReservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let units = (bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX)) as usize;
        Self { units: Arc::new(Semaphore::new(units)), total_bytes: units as u64 * UNIT_BYTES }
    }

    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Waits until `bytes` are free. A request beyond the whole budget waits for all of it:
    /// callers bound their requests with [`Budget::total_bytes`] where that must not happen.
    pub async fn reserve(&self, bytes: u64) -> MemoryReservation {
        self.reserve_units(self.units_for(bytes)).await
    }

    /// Waits until `count` times `bytes` are free at once, for [`Charge::split`].
    pub async fn reserve_each(&self, bytes: u64, count: u32) -> MemoryReservation {
        self.reserve_units(self.units_for(bytes).saturating_mul(count).min(self.units_for(u64::MAX))).await
    }

    async fn reserve_units(&self, units: u32) -> MemoryReservation {
        // The semaphore is never closed: an error cannot happen, and would mean "no charge".
        MemoryReservation { permit: Arc::clone(&self.units).acquire_many_owned(units).await.ok() }
    }

    /// `bytes` now, or nothing.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryReservation> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok()?;
        Some(MemoryReservation { permit: Some(permit) })
    }

    fn units_for(&self, bytes: u64) -> u32 {
        bytes.div_ceil(UNIT_BYTES).min(self.total_bytes / UNIT_BYTES) as u32
    }
}

impl MemoryReservation {
    /// `bytes` of this charge as one of their own; None where it is not so much any more.
    pub fn split(&mut self, bytes: u64) -> Option<Self> {
        let units = usize::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        Some(Self { permit: Some(self.permit.as_mut()?.split(units)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back_and_bounded_by_the_whole() {
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
    async fn a_charge_is_split_into_what_it_was_made_for() {
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
