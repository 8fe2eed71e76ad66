//! Functions that wait for conditions. Their time limits only end a test that would otherwise hang.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The time that a condition may take on the busiest machine.
const AT_MOST: Duration = Duration::from_secs(120);

/// The time that a process may take to end after a signal. The promise is 2 s (docs/GUARANTEES.md, 16), and a busy
/// machine gets more. It is less than the shortest timeout of a request (10 s). A process that only ends when its
/// requests time out is therefore noticed.
const END_AT_MOST: Duration = Duration::from_secs(8);

/// Waits until `condition` is true.
#[track_caller]
pub(crate) fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < AT_MOST, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Fails if the process that got a signal at `signalled` has taken too long to end.
#[track_caller]
pub(crate) fn ended_soon(signalled: Instant) {
    let took = signalled.elapsed();
    println!("ended after {took:?}");
    assert!(took < END_AT_MOST, "ended only after {took:?}");
}

/// A gate that one thread waits for and another opens.
#[derive(Default)]
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits until the gate is open. Returns false if that took too long.
    pub(crate) fn wait(&self) -> bool {
        let is_open = self.is_open.lock().unwrap();
        *self.opened.wait_timeout_while(is_open, AT_MOST, |is_open| !*is_open).unwrap().0
    }
}
