//! A request to stop, seen by every thread and every runtime: set once, by a signal or by a
//! failure that ends the run; never unset.
//!
//! It only tells. Who waits on it removes what it has begun and returns; `cli::signal` ends the
//! process where that takes too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// Why a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// SIGHUP.
    Hangup,
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The run itself: what it was for can no longer be had.
    Abandoned,
}

impl Reason {
    /// The exit code that says so: 128 + signal (CONTRACT, "Exit").
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Abandoned => 1,
        }
    }
}

/// A shared flag with waiters. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct CancellationToken(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0: go on; else the reason, from 1.
    reason: AtomicU8,
    notify: Notify,
}

impl CancellationToken {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everyone to stop. The first reason stays.
    pub fn cancel(&self, reason: Reason) {
        let code = match reason {
            Reason::Interrupt => 1,
            Reason::Terminate => 2,
            Reason::Abandoned => 3,
            Reason::Hangup => 4,
        };
        // Err: somebody was first, and has woken the waiters.
        if self.0.reason.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.0.notify.notify_waiters();
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.reason.load(Ordering::SeqCst) != 0
    }

    /// Why, once cancelled.
    pub fn reason(&self) -> Option<Reason> {
        match self.0.reason.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Reason::Interrupt),
            2 => Some(Reason::Terminate),
            4 => Some(Reason::Hangup),
            _ => Some(Reason::Abandoned),
        }
    }

    /// Returns once cancelled, at once if it already is. May be awaited in any runtime, by any
    /// number of tasks.
    pub async fn cancelled(&self) -> Reason {
        // Two turns at most: who is woken finds the reason set.
        loop {
            let notified = self.0.notify.notified();
            let mut notified = std::pin::pin!(notified);
            // Registered before the flag is read: a cancel in between is not missed.
            notified.as_mut().enable();
            if let Some(reason) = self.reason() {
                return reason;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn wakes_waiters_in_several_runtimes_and_keeps_the_first_reason() {
        let cancel = CancellationToken::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let cancel = cancel.clone();
                std::thread::spawn(move || {
                    runtime().block_on(async {
                        tokio::time::timeout(Duration::from_secs(20), cancel.cancelled()).await.unwrap()
                    })
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        assert!(!cancel.is_cancelled());
        cancel.cancel(Reason::Terminate);
        cancel.cancel(Reason::Interrupt);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Reason::Terminate);
        }
        assert_eq!(runtime().block_on(cancel.cancelled()), Reason::Terminate);
        assert_eq!(cancel.reason().unwrap().exit_code(), 143);
    }
}
