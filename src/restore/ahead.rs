//! Futures that run ahead of their turn, a bounded number of them, answers in order.
//!
//! Unlike a buffered stream they can go on while an answer is being worked on
//! ([`Ahead::during`]). That is no luxury: a GET that nobody polls keeps its place among the
//! requests in flight, and work that needs one itself would wait for ever.

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::collections::VecDeque;
use std::pin::pin;

pub struct Ahead<I, F: Future> {
    rest: I,
    running: FuturesOrdered<F>,
    ready: VecDeque<F::Output>,
    /// Bound of `running` and `ready` together.
    most: usize,
}

impl<I: Iterator<Item = F>, F: Future> Ahead<I, F> {
    /// Runs `most` of `futures` at once, at least 1.
    pub fn new(futures: I, most: usize) -> Self {
        Self { rest: futures, running: FuturesOrdered::new(), ready: VecDeque::new(), most: most.max(1) }
    }

    /// The next answer, in the order of the futures; None after the last.
    pub async fn next(&mut self) -> Option<F::Output> {
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

    /// Awaits `work`; what is running goes on meanwhile, nothing new begins.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        // Ends with `work`: each other turn takes one of those that run, and none is added.
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
            // Those that run hold or wait for the only permit.
            ahead.during(async { drop(permits.acquire().await) }).await;
        }
        assert_eq!(answers, (0..10).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}
