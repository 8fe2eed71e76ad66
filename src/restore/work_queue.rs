//! A queue that all worker threads share. Any thread appends items; a free worker takes the next one.

use crate::process::locks::lock;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// A first-in, first-out queue with many producers and many consumers. The queue itself sets no bound on
/// its length. The producers do: they add one item per segment of a plan, or one per database that may be
/// in flight.
#[derive(Debug)]
pub struct WorkQueue<T> {
    items: Mutex<VecDeque<T>>,
    /// A semaphore with one permit per item, on which [`WorkQueue::pop`] waits. Closing the queue closes it.
    ready: Semaphore,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        Self { items: Mutex::new(VecDeque::new()), ready: Semaphore::new(0) }
    }
}

impl<T> WorkQueue<T> {
    /// Appends `item` to the queue. If the queue is closed, `item` is dropped.
    pub fn push(&self, item: T) {
        let mut items = self.items();
        if !self.ready.is_closed() {
            items.push_back(item);
            self.ready.add_permits(1);
        }
    }

    /// Waits for the next item and takes it. Returns None once the queue is closed. A future that is
    /// dropped while it waits has taken no item.
    pub async fn pop(&self) -> Option<T> {
        let permit = self.ready.acquire().await.ok()?;
        permit.forget();
        self.items().pop_front()
    }

    /// Closes the queue. Waiting calls of [`WorkQueue::pop`] return None, and the remaining items are
    /// dropped.
    pub fn close(&self) {
        let dropped = {
            let mut items = self.items();
            self.ready.close();
            std::mem::take(&mut *items)
        };
        // The items are dropped after the lock is released. Dropping an item may run any code, also
        // `push`, which takes the same lock.
        drop(dropped);
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        lock(&self.items)
    }
}

#[cfg(test)]
mod tests {
    use crate::restore::work_queue::*;

    #[tokio::test]
    async fn every_item_is_taken_once_and_close_ends_it() {
        let queue = WorkQueue::default();
        queue.push(1);
        queue.push(2);
        assert_eq!((queue.pop().await, queue.pop().await), (Some(1), Some(2)));
        queue.push(3);
        queue.close();
        queue.push(4);
        assert_eq!(queue.pop().await, None);
    }
}
