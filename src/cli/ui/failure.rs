//! The failures of a command: message, better call, exit code.

use crate::cancel::{CancellationToken, Reason};
use crate::error::{BUG, Class};
use std::process::ExitCode;

/// Why a command failed. Scripts rely on some of the texts (docs/CLI.md, "Texts that scripts rely on").
/// They are escaped when they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Wrong usage: exit 2.
    Usage { message: String, try_call: Option<String> },
    /// The replica was listed and is empty: exit 1, or 0 with `-if-replica-exists`.
    NoBackups,
    /// Any other failure: exit 1.
    Failed { class: Class, message: String, try_call: Option<String> },
    /// Some of many databases were restored and some were not: exit 3.
    Partial { message: String, try_call: Option<String> },
    /// Stopped by a signal: exit 129, 130 or 143.
    Cancelled(Reason),
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), try_call: None }
    }

    pub fn failed(class: Class, message: impl Into<String>) -> Self {
        Self::Failed { class, message: message.into(), try_call: None }
    }

    /// A state that is impossible unless Hydrant itself has a bug.
    pub fn internal(what: &str) -> Self {
        Self::failed(Class::Io, format!("{BUG}: {what}"))
    }

    /// Work that ended without a result: stopped by a signal, else by a bug, which `what` describes.
    pub fn ended_early(cancel: &CancellationToken, what: &str) -> Self {
        cancel.reason().map_or_else(|| Self::internal(what), Self::Cancelled)
    }

    /// Adds a call that would work.
    pub fn try_call(self, call: impl Into<String>) -> Self {
        let call = Some(call.into());
        match self {
            Self::Usage { message, .. } => Self::Usage { message, try_call: call },
            Self::Failed { class, message, .. } => Self::Failed { class, message, try_call: call },
            Self::Partial { message, .. } => Self::Partial { message, try_call: call },
            other => other,
        }
    }

    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::NoBackups | Self::Failed { .. } => 1,
            Self::Partial { .. } => 3,
            Self::Cancelled(reason) => reason.exit_code(),
        }
    }

    /// The text after `Error: `.
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

    /// The text after `Try: `; None: no better call is known.
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
