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
pub struct Charge {
    _permit: Option<OwnedSemaphorePermit>,
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
    pub async fn charge(&self, bytes: u64) -> Charge {
        let units = self.units_for(bytes);
        // The semaphore is never closed: an error cannot happen, and would mean "no charge".
        Charge { _permit: Arc::clone(&self.units).acquire_many_owned(units).await.ok() }
    }

    /// `bytes` now, or nothing.
    pub fn try_charge(&self, bytes: u64) -> Option<Charge> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_for(bytes)).ok()?;
        Some(Charge { _permit: Some(permit) })
    }

    fn units_for(&self, bytes: u64) -> u32 {
        bytes.div_ceil(UNIT_BYTES).min(self.total_bytes / UNIT_BYTES) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back_and_bounded_by_the_whole() {
        let budget = Budget::new(10 * 1024);
        let all = budget.try_charge(1 << 40).unwrap();
        assert!(budget.try_charge(1).is_none());
        drop(all);
        let some = budget.try_charge(9 * 1024).unwrap();
        assert!(budget.try_charge(1024).is_some());
        assert!(budget.try_charge(1025).is_none());
        drop(some);
    }
}
