//! The request to stop a run, for all threads and async runtimes. A signal or a failure that ends the run makes the
//! request once. Nothing takes it back.
//!
//! It is only a flag. Tasks that wait for it remove what they have begun and return. If that takes too long,
//! `cli::ui::signal` ends the process (docs/GUARANTEES.md, 16).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// The reason why a run must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The process received SIGHUP: its terminal was closed.
    Hangup,
    /// The process received SIGINT, usually from Ctrl-C.
    Interrupt,
    /// The process received SIGTERM, for example from systemd or Kubernetes.
    Terminate,
    /// The run gave itself up because it cannot reach its goal any more.
    Abandoned,
}

impl Reason {
    /// The exit code of the process. For a signal it is 128 plus the signal's number (docs/CLI.md, "Exit codes").
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Abandoned => 1,
        }
    }
}

/// A flag that tasks can wait for. Clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct CancellationToken(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0 while nobody has cancelled, else the number of the reason.
    reason: AtomicU8,
    notify: Notify,
}

impl CancellationToken {
    /// Creates a new flag that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all tasks to stop. If this was called before, the first reason stays.
    pub fn cancel(&self, reason: Reason) {
        let code = match reason {
            Reason::Interrupt => 1,
            Reason::Terminate => 2,
            Reason::Abandoned => 3,
            Reason::Hangup => 4,
        };
        // `compare_exchange` fails if an earlier call has set a reason. That call has woken the waiters already.
        if self.0.reason.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.0.notify.notify_waiters();
        }
    }

    /// Whether [`Self::cancel`] has been called.
    pub fn is_cancelled(&self) -> bool {
        self.0.reason.load(Ordering::SeqCst) != 0
    }

    /// The reason that was given first. None if not cancelled.
    pub fn reason(&self) -> Option<Reason> {
        match self.0.reason.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Reason::Interrupt),
            2 => Some(Reason::Terminate),
            4 => Some(Reason::Hangup),
            _ => Some(Reason::Abandoned),
        }
    }

    /// Waits until somebody cancels, and returns the reason. May be awaited in any runtime, by any number of tasks.
    pub async fn cancelled(&self) -> Reason {
        // This loop ends after two turns at most: a waiter is woken only after the reason was set.
        loop {
            let notified = self.0.notify.notified();
            let mut notified = std::pin::pin!(notified);
            // `enable` registers this waiter before the flag is read. A cancel between the two therefore wakes it
            // and is not missed.
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
    use std::sync::{Arc, Barrier};
    use std::time::Duration;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn wakes_waiters_in_several_runtimes_and_keeps_the_first_reason() {
        let cancel = CancellationToken::new();
        let all_wait = Arc::new(Barrier::new(4));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let (cancel, waiting) = (cancel.clone(), Arc::clone(&all_wait));
                std::thread::spawn(move || {
                    runtime().block_on(async {
                        let mut cancelled = std::pin::pin!(cancel.cancelled());
                        assert!(futures_util::poll!(cancelled.as_mut()).is_pending());
                        waiting.wait();
                        // The bound only ends a test that would hang.
                        tokio::time::timeout(Duration::from_secs(120), cancelled).await.unwrap()
                    })
                })
            })
            .collect();
        all_wait.wait();
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
