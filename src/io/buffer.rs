//! Aligned buffers, bounded in number, registered with the ring where that is permitted.

use std::ops::{Deref, DerefMut};

/// A buffer of the worker's pool, aligned for O_DIRECT. It derefs to its whole capacity and
/// returns to the pool when dropped.
pub struct Buffer {}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &[]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut []
    }
}
