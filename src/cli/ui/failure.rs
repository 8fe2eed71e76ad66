//! [`Failure`]: the reason why a command failed, with the message, the exit code, and (if one is known) a
//! command line that would work.

use crate::cancel::{CancellationToken, Reason};
use crate::error::Class;
use std::process::ExitCode;

/// The reason why a command failed. Messages are stored as they are; control characters in them are escaped
/// when they are printed. Scripts rely on some of the messages (docs/CLI.md, "Texts that scripts rely on").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong. Exit code 2.
    Usage { message: String, try_call: Option<String> },
    /// The replica was listed and is empty. Exit code 1, or 0 with `-if-replica-exists`.
    NoBackups,
    /// Any other failure. Exit code 1.
    Failed { class: Class, message: String, try_call: Option<String> },
    /// Some of many databases were restored and some were not. Exit code 3.
    Partial { message: String, try_call: Option<String> },
    /// A signal has stopped the command. Exit code 129 (SIGHUP), 130 (SIGINT) or 143 (SIGTERM).
    Cancelled(Reason),
}

impl Failure {
    /// Makes a [`Failure::Usage`] without a better command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), try_call: None }
    }

    /// Makes a [`Failure::Failed`] without a better command line.
    pub fn failed(class: Class, message: impl Into<String>) -> Self {
        Self::Failed { class, message: message.into(), try_call: None }
    }

    /// The failure for a state that only a bug in Hydrant can cause. `what` describes the state.
    pub fn internal(what: &str) -> Self {
        Self::failed(Class::Io, format!("this is a bug in Hydrant, please report: {what}"))
    }

    /// The failure for work that ended without a result. If a signal has cancelled the run, the failure names
    /// the signal. Otherwise it is a bug in Hydrant, which `what` describes.
    pub fn ended_early(cancel: &CancellationToken, what: &str) -> Self {
        cancel.reason().map_or_else(|| Self::internal(what), Self::Cancelled)
    }

    /// Adds `call`, a command line that would work. It is printed after `Try: `.
    pub fn try_call(self, call: impl Into<String>) -> Self {
        let call = Some(call.into());
        match self {
            Self::Usage { message, .. } => Self::Usage { message, try_call: call },
            Self::Failed { class, message, .. } => Self::Failed { class, message, try_call: call },
            Self::Partial { message, .. } => Self::Partial { message, try_call: call },
            other => other,
        }
    }

    /// The exit code of the process (docs/CLI.md, "Exit codes").
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::NoBackups | Self::Failed { .. } => 1,
            Self::Partial { .. } => 3,
            Self::Cancelled(reason) => reason.exit_code(),
        }
    }

    /// The text that is printed after `Error: `.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage { message, .. } | Self::Failed { message, .. } | Self::Partial { message, .. } => message,
            Self::NoBackups => "no matching backup files available",
            Self::Cancelled(Reason::Hangup) => "hung up",
            Self::Cancelled(Reason::Interrupt) => "interrupted",
            Self::Cancelled(Reason::Terminate) => "terminated",
            Self::Cancelled(Reason::Abandoned) => "stopped",
        }
    }

    /// The command line that is printed after `Try: `. None if no command line is known that would work.
    pub fn tried(&self) -> Option<&str> {
        match self {
            Self::Usage { try_call, .. } | Self::Failed { try_call, .. } | Self::Partial { try_call, .. } => {
                try_call.as_deref()
            }
            Self::NoBackups | Self::Cancelled(_) => None,
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_end_is_a_signals_or_a_bug() {
        let cancel = CancellationToken::new();
        let bug = Failure::ended_early(&cancel, "no result");
        assert_eq!(bug.message(), "this is a bug in Hydrant, please report: no result");
        assert_eq!(bug.exit_code(), 1);
        cancel.cancel(Reason::Terminate);
        assert_eq!(Failure::ended_early(&cancel, "no result"), Failure::Cancelled(Reason::Terminate));
    }
}
