//! Repeats system calls that a signal interrupted (EINTR).

use rustix::io::Errno;

/// The limit on repeats of one call. If a call is interrupted more often, the file system answers EINTR to
/// everything. Without a limit such a file system would keep a CPU busy for ever.
pub(super) const MOST_INTERRUPTIONS: u32 = 10_000;

/// Repeats `call` while it fails with EINTR, at most [`MOST_INTERRUPTIONS`] times. After that EINTR is returned.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..MOST_INTERRUPTIONS {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::INTR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_calls_are_made_again_but_not_for_ever() {
        let mut left = 3;
        let answer = uninterrupted(|| {
            left -= 1;
            if left > 0 { Err(Errno::INTR) } else { Ok("done") }
        });
        assert_eq!((answer, left), (Ok("done"), 0));
        let mut calls = 0;
        let answer: Result<(), _> = uninterrupted(|| {
            calls += 1;
            Err(Errno::INTR)
        });
        assert_eq!((answer, calls), (Err(Errno::INTR), MOST_INTERRUPTIONS));
    }
}
