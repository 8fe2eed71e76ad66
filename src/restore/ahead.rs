//! A bounded number of futures that run ahead of their turn; their results come in order.
//!
//! Unlike a buffered stream, they also run while a result is being worked on ([`Ahead::during`]).
//! Without that, restores would deadlock: a GET that nobody polls keeps its place among the requests
//! in flight, and the work on a result may need such a place.

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::collections::VecDeque;
use std::pin::pin;

/// See the file.
pub(super) struct Ahead<I, F: Future> {
    /// Futures not started yet.
    rest: I,
    running: FuturesOrdered<F>,
    /// Results not taken yet, in order.
    ready: VecDeque<F::Output>,
    /// Upper bound of the length of `running` and `ready` together.
    most: usize,
}

impl<I: Iterator<Item = F>, F: Future> Ahead<I, F> {
    /// Runs up to `most` of `futures` at once, at least 1.
    pub(super) fn new(futures: I, most: usize) -> Self {
        Self { rest: futures, running: FuturesOrdered::new(), ready: VecDeque::new(), most: most.max(1) }
    }

    /// The next result, in the order of the futures; None after the last.
    pub(super) async fn next(&mut self) -> Option<F::Output> {
        while self.running.len() + self.ready.len() < self.most {
            match self.rest.next() {
                Some(future) => self.running.push_back(future),
                None => break,
            }
        }
        match self.ready.pop_front() {
            Some(answer) => Some(answer),
            None => self.running.next().await,
        }
    }

    /// Awaits `work`. Running futures are polled meanwhile; no further ones are started.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        // The loop ends: each turn either finishes `work` and returns, or removes one of the running
        // futures, and none is added here.
        loop {
            if self.running.is_empty() {
                return work.await;
            }
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(answer) = self.running.next() => self.ready.push_back(answer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn in_order_bounded_and_going_on_during_work() {
        let (permits, running, most) = (Semaphore::new(1), Cell::new(0), Cell::new(0));
        let one = async |i: u32| {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            let _permit = permits.acquire().await;
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            i
        };
        let mut ahead = Ahead::new((0..10).map(one), 3);
        let mut answers = Vec::new();
        while let Some(i) = ahead.next().await {
            answers.push(i);
            // The running futures hold the only permit or wait for it.
            ahead.during(async { drop(permits.acquire().await) }).await;
        }
        assert_eq!(answers, (0..10).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
