//! Why an operation was not carried out: the database failed, or the operation was refused with what to do next.

use crate::store::StoreError;

/// Why an operation was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.text)]
    Refused(Refusal),
}

/// A refusal: what is wrong, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub text: String,
    /// The command line that helps.
    pub command: Option<String>,
}

/// The kind of mistake that led to a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// No handler has this name.
    UnknownHandler,
    /// No alert has this key.
    UnknownAlert,
    /// There is no such event, replay or group.
    NotFound,
    /// The request names something that does not exist, or contradicts itself.
    Invalid,
    /// Its state does not allow the operation.
    NotNow,
    /// Receivers have had these events; the operation asks for `force`.
    NeedsForce,
    /// The id belongs to an operation that asks for something else.
    Taken,
}

impl OperationError {
    pub fn refused(kind: RefusalKind, text: impl Into<String>, command: impl Into<String>) -> Self {
        Self::Refused(Refusal { kind, text: text.into(), command: Some(command.into()) })
    }

    /// A refusal for which no command helps.
    pub fn plain(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self::Refused(Refusal { kind, text: text.into(), command: None })
    }
}
