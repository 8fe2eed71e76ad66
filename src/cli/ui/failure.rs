//! [`Failure`]: the reason why a command failed, with the message, the exit code, and (if one is known) a
//! command line that would work.

use crate::cancel::{CancellationToken, Reason};
use crate::error::{BUG, Class};
use crate::restore::NothingFound;
use std::process::ExitCode;

/// A command line that would work, as far as the place that finds an error knows it. The command that was typed is
/// known at the top alone, where the advice becomes a [`Advice::Call`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// This command line.
    Call(String),
    /// The command line that was typed, with this switch.
    Switch(&'static str),
    /// The command line that was typed, with this value of a flag.
    Value(&'static str, String),
    /// The command line that was typed, with this URL as its source.
    Source(String),
    /// `hydrant ltx` for the same source: which files the replica has.
    ListFiles,
    /// `hydrant restore-pattern` for this URL, with the flags that were typed. `into` is the directory of the outputs.
    /// None: only show what there is.
    All { pattern: String, into: Option<String> },
}

/// The reason why a command failed. Messages are stored as they are; control characters in them are escaped
/// when they are printed. Scripts rely on some of the messages (docs/CLI.md, "Texts that scripts rely on").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong. The exit code is 2.
    Usage { message: String, try_call: Option<Advice> },
    /// The replica was listed and no backups were found. The exit code is 1, or 0 with `-if-replica-exists` if
    /// [`NothingFound::is_no_backup`].
    NoBackups { found: Box<NothingFound>, message: String, try_call: Option<Advice> },
    /// The command has failed for any reason that has no variant of its own. The exit code is 1.
    Failed { class: Class, message: String, try_call: Option<Advice> },
    /// Some of many databases were restored and some were not. The exit code is 3.
    Partial { message: String, try_call: Option<Advice> },
    /// A signal has stopped the command. The exit code is 129 (SIGHUP), 130 (SIGINT) or 143 (SIGTERM).
    Cancelled(Reason),
    /// As [`Self::Cancelled`], with a command line that goes on where the run stopped.
    Resumable { reason: Reason, try_call: Advice },
}

impl Failure {
    /// Makes a [`Failure::Usage`] that suggests no other command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), try_call: None }
    }

    /// Makes a [`Failure::Failed`] that suggests no other command line.
    pub fn failed(class: Class, message: impl Into<String>) -> Self {
        Self::Failed { class, message: message.into(), try_call: None }
    }

    /// The failure for a replica that was listed and has no backups.
    pub fn no_backups(found: NothingFound) -> Self {
        Self::NoBackups { message: found.to_string(), found: Box::new(found), try_call: None }
    }

    /// The failure for a state that only a bug in Hydrant can cause. `what` describes the state.
    pub fn internal(what: &str) -> Self {
        Self::failed(Class::Io, format!("{BUG}: {what}"))
    }

    /// The failure for work that ended without a result. If a signal has cancelled the run, the failure names
    /// the signal. Otherwise it is a bug in Hydrant, which `what` describes.
    pub fn ended_early(cancel: &CancellationToken, what: &str) -> Self {
        cancel.reason().map_or_else(|| Self::internal(what), Self::Cancelled)
    }

    /// Adds `call`, a command line that would work, to the failure. It is printed after `Try: `.
    pub fn try_call(self, call: impl Into<String>) -> Self {
        self.advised(Some(Advice::Call(call.into())))
    }

    /// The same failure with this advice.
    #[must_use]
    pub fn advised(self, advice: Option<Advice>) -> Self {
        match self {
            Self::Usage { message, .. } => Self::Usage { message, try_call: advice },
            Self::NoBackups { found, message, .. } => Self::NoBackups { found, message, try_call: advice },
            Self::Failed { class, message, .. } => Self::Failed { class, message, try_call: advice },
            Self::Partial { message, .. } => Self::Partial { message, try_call: advice },
            other => other,
        }
    }

    /// The class of the failure. None: several databases failed.
    pub const fn class(&self) -> Option<Class> {
        match self {
            Self::Usage { .. } => Some(Class::Config),
            Self::NoBackups { .. } => Some(Class::BackupNotFound),
            Self::Failed { class, .. } => Some(*class),
            Self::Partial { .. } => None,
            Self::Cancelled(_) | Self::Resumable { .. } => Some(Class::Cancelled),
        }
    }

    /// The exit code with which the process reports this failure (docs/CLI.md, "Exit codes").
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::NoBackups { .. } | Self::Failed { .. } => 1,
            Self::Partial { .. } => 3,
            Self::Cancelled(reason) | Self::Resumable { reason, .. } => reason.exit_code(),
        }
    }

    /// The message of this failure, which is printed after `Error: `.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage { message, .. }
            | Self::NoBackups { message, .. }
            | Self::Failed { message, .. }
            | Self::Partial { message, .. } => message,
            Self::Cancelled(reason) | Self::Resumable { reason, .. } => match reason {
                Reason::Hangup => "hung up",
                Reason::Interrupt => "interrupted",
                Reason::Terminate => "terminated",
                Reason::Abandoned => "stopped",
            },
        }
    }

    /// What this failure suggests.
    pub const fn advice(&self) -> Option<&Advice> {
        match self {
            Self::Usage { try_call, .. }
            | Self::NoBackups { try_call, .. }
            | Self::Failed { try_call, .. }
            | Self::Partial { try_call, .. } => try_call.as_ref(),
            Self::Resumable { try_call, .. } => Some(try_call),
            Self::Cancelled(_) => None,
        }
    }

    /// The command line that this failure suggests, which is printed after `Try: `. None if it suggests none.
    pub fn tried(&self) -> Option<&str> {
        match self.advice() {
            Some(Advice::Call(call)) => Some(call),
            _ => None,
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
