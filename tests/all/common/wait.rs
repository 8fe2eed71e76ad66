//! Waiting for conditions. The bounds only end a test that would hang.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a condition may take on the busiest machine.
const AT_MOST: Duration = Duration::from_secs(120);

/// How long a process may take to end after a signal. 2 s are promised (docs/GUARANTEES.md, 16); a
/// busy machine is given more, and yet less than the shortest time-out of a request (10 s), so that
/// a process that only ends with its requests is noticed.
const END_AT_MOST: Duration = Duration::from_secs(8);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < AT_MOST, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Fails where the process that was sent a signal at `signalled` has taken too long to end.
#[track_caller]
pub(crate) fn ended_soon(signalled: Instant) {
    let took = signalled.elapsed();
    println!("ended after {took:?}");
    assert!(took < END_AT_MOST, "ended only after {took:?}");
}

/// What one thread waits for and another opens.
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

    /// Waits until the gate is open. Returns whether it is: not where that took too long.
    pub(crate) fn wait(&self) -> bool {
        let is_open = self.is_open.lock().unwrap();
        *self.opened.wait_timeout_while(is_open, AT_MOST, |is_open| !*is_open).unwrap().0
    }
}
