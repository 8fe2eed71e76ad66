//! The write buffers of a worker: a fixed number of aligned buffers, registered with io_uring if the kernel
//! permits.
//!
//! Each worker has one anonymous memory mapping, divided into buffers of equal size that do not overlap. The
//! mapping lives as long as any of its buffers (docs/decisions/04-write-buffers.md).

use super::IoError;
use memmap2::{Advice, MmapMut};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use tokio::sync::Notify;

/// The unit of O_DIRECT writes, in bytes. File offsets, lengths and buffer addresses are multiples of it.
pub const ALIGNMENT: usize = 4096;

/// The size and number of one worker's buffers. They take `buffer_bytes * buffers` bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoOptions {
    /// The capacity of each buffer in bytes. It is rounded up to a multiple of [`ALIGNMENT`].
    pub buffer_bytes: usize,
    /// The number of buffers, 1 to 1024. It also limits the number of writes in flight.
    pub buffers: usize,
}

impl Default for IoOptions {
    fn default() -> Self {
        Self { buffer_bytes: 512 << 10, buffers: 8 }
    }
}

/// The size of a huge page on x86-64 and on most arm64 kernels, in bytes. On other kernels it only serves as an
/// alignment.
const HUGE_PAGE: usize = 2 << 20;
/// The largest number of buffers that the kernel registers in one call (UIO_MAXIOV).
const MOST_BUFFERS: usize = 1024;

/// The write buffers of one worker, and which of them are free.
pub(super) struct BufferPool {
    /// The address of the first byte of the first buffer, inside `_map`.
    base: NonNull<u8>,
    buffer_bytes: usize,
    count: u16,
    /// The indexes of the free buffers. The buffer that was freed last is used first, because it is most likely
    /// still in a CPU cache.
    free: RefCell<Vec<u16>>,
    freed: Notify,
    /// Whether all buffers have been in use at the same time at least once.
    was_drained: Cell<bool>,
    /// The number of registered buffers: those with a lower index than this are registered with the thread's ring.
    /// None if registration was not tried yet.
    registered: Cell<Option<u16>>,
    _map: MmapMut,
}

impl BufferPool {
    pub(super) fn new(options: IoOptions) -> Result<Rc<Self>, IoError> {
        let count = options.buffers.clamp(1, MOST_BUFFERS);
        let too_much = || IoError::NoRuntime {
            reason: format!("{count} buffers of {} bytes do not fit in memory", options.buffer_bytes),
        };
        let buffer_bytes =
            options.buffer_bytes.max(ALIGNMENT).checked_next_multiple_of(ALIGNMENT).ok_or_else(too_much)?;
        let bytes = buffer_bytes.checked_mul(count).ok_or_else(too_much)?;
        // io_uring holds the length of a write in 32 bits, and Linux writes less than 2 GiB in one call.
        if buffer_bytes > 1 << 30 {
            return Err(too_much());
        }
        let huge = bytes >= HUGE_PAGE;
        let align = if huge { HUGE_PAGE } else { ALIGNMENT };
        let mapped = bytes.checked_add(align).ok_or_else(too_much)?;
        let mut map = MmapMut::map_anon(mapped).map_err(|_| too_much())?;
        if huge {
            // The kernel refuses this advice if huge pages are switched off. Writes are then slower, but nothing
            // fails.
            let _ = map.advise(Advice::HugePage);
        }
        let skip = map.as_ptr().align_offset(align).min(align);
        let base = map.get_mut(skip..).and_then(|rest| NonNull::new(rest.as_mut_ptr())).ok_or_else(too_much)?;
        let count = u16::try_from(count).map_err(|_| too_much())?;
        Ok(Rc::new(Self {
            base,
            buffer_bytes,
            count,
            free: RefCell::new((0..count).rev().collect()),
            freed: Notify::new(),
            was_drained: Cell::new(false),
            registered: Cell::new(None),
            _map: map,
        }))
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// The number of buffers that are registered with the thread's ring. None if registration was not tried yet.
    pub(super) fn registered(&self) -> Option<u16> {
        self.registered.get()
    }

    /// Whether all buffers have been in use at the same time. If so, all their memory is resident.
    pub(super) fn was_drained(&self) -> bool {
        self.was_drained.get()
    }

    /// Notes that the buffers 0 to `count - 1` were registered, in this order, with the thread's ring.
    pub(super) fn set_registered(&self, count: u16) {
        self.registered.set(Some(count.min(self.count)));
    }

    /// The address of the first byte of buffer `index`.
    pub(super) fn start_of(&self, index: u16) -> NonNull<u8> {
        debug_assert!(index < self.count);
        // SAFETY: index < count, so the offset lies inside the mapping, which `self` owns.
        unsafe { self.base.add(usize::from(index) * self.buffer_bytes) }
    }

    pub(super) fn try_take(self: &Rc<Self>) -> Option<Buffer> {
        let mut free = self.free.borrow_mut();
        let index = free.pop()?;
        if free.is_empty() {
            self.was_drained.set(true);
        }
        drop(free);
        Some(Buffer { pool: Rc::clone(self), first: index, count: 1 })
    }

    /// Takes adjacent free buffers that together hold `bytes`, as one. Returns None if there are none.
    pub(super) fn try_take_adjacent(self: &Rc<Self>, bytes: usize) -> Option<Buffer> {
        let count = u16::try_from(bytes.div_ceil(self.buffer_bytes)).ok().filter(|&count| count > 0)?;
        let mut free = self.free.borrow_mut();
        // Only multiples of `count` are looked at. Otherwise two such requests could leave gaps that serve no third.
        let starts = (0..self.count / count).map(|group| group * count);
        let first = starts.into_iter().find(|&first| (first..first + count).all(|index| free.contains(&index)))?;
        free.retain(|index| !(first..first + count).contains(index));
        if free.is_empty() {
            self.was_drained.set(true);
        }
        drop(free);
        Some(Buffer { pool: Rc::clone(self), first, count })
    }

    pub(super) async fn take(self: &Rc<Self>) -> Buffer {
        // This loop ends when a buffer is free. Each turn waits until another user gives one back.
        loop {
            if let Some(buffer) = self.try_take() {
                return buffer;
            }
            self.freed.notified().await;
        }
    }
}

/// One buffer of the worker's pool, or adjacent ones as one, aligned for O_DIRECT. It dereferences to its whole
/// capacity. Dropping it returns it to the pool. A new buffer holds zeros; a reused one holds what its last user wrote.
pub struct Buffer {
    pool: Rc<BufferPool>,
    /// The index of the first buffer, and the number of adjacent ones.
    first: u16,
    count: u16,
}

impl Buffer {
    pub(super) fn pool(&self) -> &Rc<BufferPool> {
        &self.pool
    }

    /// The buffer's index among the buffers that are registered with the thread's ring. None if it is not
    /// registered. Adjacent buffers are registered each for itself, and a write of several cannot name them.
    pub(super) fn registered_index(&self) -> Option<u16> {
        let is_registered = |registered: &u16| self.count == 1 && self.first < *registered;
        self.pool.registered().filter(is_registered).map(|_| self.first)
    }

    fn capacity(&self) -> usize {
        usize::from(self.count) * self.pool.buffer_bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are mapped, were zeroed by the kernel, and belong to this buffer
        // alone: each index is in at most one Buffer, because it was taken from `free`. Buffers with adjacent indexes
        // are adjacent in the mapping.
        unsafe { std::slice::from_raw_parts(self.pool.start_of(self.first).as_ptr(), self.capacity()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` excludes other borrows.
        unsafe { std::slice::from_raw_parts_mut(self.pool.start_of(self.first).as_ptr(), self.capacity()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.borrow_mut();
        for index in self.first..self.first + self.count {
            debug_assert!(!free.contains(&index), "two buffers had the index {index}");
            free.push(index);
        }
        drop(free);
        (0..self.count).for_each(|_| self.pool.freed.notify_one());
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.capacity())
    }
}
