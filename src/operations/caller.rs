//! Callers: which actor requests an operation, on which road, and with which rights. Decides nothing itself: the roads compare
//! the rights with those that an operation requires.

use serde::Serialize;

pub use crate::domain::Role;
use crate::store::Actor;

/// The road on which an operation was asked for; the audit records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Cli,
    Api,
    Console,
}

/// The party that asks for an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The actor for the audit: the name of a token, the user of a proxy, or the user of the CLI.
    pub name: String,
    pub role: Role,
    /// Whether payloads and headers may be shown. A right of its own: no role includes it.
    pub sees_payloads: bool,
    pub via: Via,
}

impl Via {
    /// The road's name in the audit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Api => "api",
            Self::Console => "console",
        }
    }
}

impl Caller {
    /// As the audit records the caller.
    pub fn actor(&self) -> Actor<'_> {
        Actor { name: &self.name, via: self.via.name() }
    }
}
