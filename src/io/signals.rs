//! How the process stands to signals that a program inherits or never asked for.

use libc::c_int;
use std::mem::MaybeUninit;

/// From now on a write past the limit on a file's size (`ulimit -f`) is an error, EFBIG. By
/// default the kernel ends the process with SIGXFSZ.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: SIG_IGN is no function: nothing of this program runs when the signal comes.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Whether SIGHUP is ignored: so `nohup` starts a program that is to outlive its terminal.
pub(crate) fn is_hangup_ignored() -> bool {
    is_ignored(libc::SIGHUP)
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing. It writes the present one to
    // `action`, for which zeros are a valid value, so that it can be read whatever happens.
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
        // The Rust runtime itself ignores this one, and nobody that one.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGUSR1));
    }
}
