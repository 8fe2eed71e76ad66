//! Functions that wait for conditions. Their time limits only end a test that would otherwise hang.

use std::process::{Child, Command, ExitStatus};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a condition may take on the busiest machine.
pub(crate) const AT_MOST: Duration = Duration::from_secs(120);

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
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > AT_MOST {
            child.kill().unwrap();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that was stopped must remove what it has begun, which takes a busy machine longer than
/// the program grants (`cli::ui::signal`).
pub(crate) fn grant_time_to_end(command: &mut Command) -> &mut Command {
    command.env("HYDRANT_TEST_GRACE_SECONDS", AT_MOST.as_secs().to_string())
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

    pub(crate) fn is_open(&self) -> bool {
        *self.is_open.lock().unwrap()
    }

    /// Waits until the gate is open. Returns whether it is: not where that took too long.
    pub(crate) fn wait(&self) -> bool {
        let is_open = self.is_open.lock().unwrap();
        *self.opened.wait_timeout_while(is_open, AT_MOST, |is_open| !*is_open).unwrap().0
    }
}
