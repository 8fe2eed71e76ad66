//! A queue of work that the workers share: a free worker takes the next item.

use crate::process::locks::lock;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// A queue with many producers and many consumers: first in, first out. Its length is bounded by
/// the producers: one item per segment of a plan, or per database of the fleet's window.
#[derive(Debug)]
pub struct WorkQueue<T> {
    items: Mutex<VecDeque<T>>,
    /// One permit per item. Closed when no more items will come.
    ready: Semaphore,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        Self { items: Mutex::new(VecDeque::new()), ready: Semaphore::new(0) }
    }
}

impl<T> WorkQueue<T> {
    /// Appends `item`. Drops it if the queue is closed.
    pub fn push(&self, item: T) {
        let mut items = self.items();
        if !self.ready.is_closed() {
            items.push_back(item);
            self.ready.add_permits(1);
        }
    }

    /// Waits for the next item; None once the queue is closed. A caller that is dropped while it
    /// waits has taken nothing.
    pub async fn pop(&self) -> Option<T> {
        let permit = self.ready.acquire().await.ok()?;
        permit.forget();
        self.items().pop_front()
    }

    /// Closes the queue: waiting calls of [`WorkQueue::pop`] return None, items not taken are dropped.
    pub fn close(&self) {
        let dropped = {
            let mut items = self.items();
            self.ready.close();
            std::mem::take(&mut *items)
        };
        // Not under the lock: dropping an item may run any code, also `push`.
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
