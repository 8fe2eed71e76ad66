//! The handling of signals that end the process by default or whose handling the process inherits.

use libc::c_int;
use std::mem::MaybeUninit;

/// Ignores SIGXFSZ. A write past the limit on the size of a file (`ulimit -f`) then fails with EFBIG, an error that
/// can be reported. By default the signal ends the process.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is not a function, so no code of this program runs when the signal comes.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Whether SIGHUP is ignored. `nohup` starts a program in this way so that it outlives its terminal.
pub(crate) fn is_hangup_ignored() -> bool {
    is_ignored(libc::SIGHUP)
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction without a new action changes nothing. It writes the present action to `action`. Zeros are a
    // valid value of that structure, so it can be read even if the call failed.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_for_large_files_is_ignored_once_asked_for() {
        ignore_file_size_signal();
        assert!(is_ignored(libc::SIGXFSZ));
        // The Rust runtime ignores SIGPIPE. Nothing ignores SIGUSR1.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGUSR1));
    }
}
