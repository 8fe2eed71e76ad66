//! [`Ahead`] runs a bounded number of futures at a time and returns their results in order. It is used
//! to fetch files ahead of the one that is being decoded.
//!
//! `futures_util` has this as `StreamExt::buffered`. But a buffered stream polls its futures only while
//! the caller waits for the next result. [`Ahead::during`] polls them also while the caller works on a
//! result. Without that, restores would deadlock: a GET that nobody polls still counts against the limit
//! of requests in flight, and the work on a result may wait for that limit to send a request of its own.

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::collections::VecDeque;
use std::pin::pin;

/// A sequence of futures, for example fetches. A bounded number of them run ahead of the one whose result is needed
/// next.
pub(super) struct Ahead<I, F: Future> {
    /// The futures that have not been started yet.
    rest: I,
    running: FuturesOrdered<F>,
    /// Results of finished futures that [`Ahead::next`] has not returned yet, in order.
    ready: VecDeque<F::Output>,
    /// Upper bound of the number of running futures and results together.
    most: usize,
}

impl<I: Iterator<Item = F>, F: Future> Ahead<I, F> {
    /// Makes a sequence that runs up to `most` of `futures` at a time. A `most` of 0 counts as 1.
    pub(super) fn new(futures: I, most: usize) -> Self {
        Self { rest: futures, running: FuturesOrdered::new(), ready: VecDeque::new(), most: most.max(1) }
    }

    /// Starts futures up to the bound. They are polled by [`Self::next`] and [`Self::during`].
    pub(super) fn start(&mut self) {
        while self.running.len() + self.ready.len() < self.most {
            match self.rest.next() {
                Some(future) => self.running.push_back(future),
                None => break,
            }
        }
    }

    /// Starts futures up to the bound and waits for the next result, in the order of the futures. Returns
    /// None after the last one.
    pub(super) async fn next(&mut self) -> Option<F::Output> {
        self.start();
        match self.ready.pop_front() {
            Some(answer) => Some(answer),
            None => self.running.next().await,
        }
    }

    /// Awaits `work` and returns its result. The futures that are running are polled meanwhile. No further
    /// futures are started.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        // This loop ends. Each turn either finishes `work` and returns, or removes one of the running
        // futures, to which nothing is added here.
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
            // `during` must poll the running futures here, or this work waits for ever: one of them
            // holds the semaphore's only permit.
            ahead.during(async { drop(permits.acquire().await) }).await;
        }
        assert_eq!(answers, (0..10).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
