//! What went wrong, as a letter to a tired administrator: the kind decides the exit status.

use serde::{Deserialize, Serialize};

/// The kinds of failure, each with its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was tried and failed: 1.
    Failed,
    /// It makes no sense as asked: 2.
    Usage,
    /// Done, but something is not as it should be: 3.
    Degraded,
    /// There is no such thing: 4.
    NotFound,
    /// A safety rule forbids it: 5.
    Refused,
    /// A daemon does not answer: 6.
    Unreachable,
    /// It did not end in time: 7.
    TimedOut,
}

impl Kind {
    /// The exit status of `undisk`.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Degraded => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::TimedOut => 7,
        }
    }
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// Its kind.
    pub kind: Kind,
    /// One line: what was being done, to what, what went wrong, what is safe.
    pub message: String,
    /// What to type next, if anything helps.
    pub hint: Option<String>,
}

impl ControlError {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// It makes no sense as asked.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// A safety rule forbids it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }
}
