//! The rights of a person or a program that looks at the outbox from outside, or acts on it.

use serde::Serialize;

/// The rights of a caller; a later one includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything but payloads and headers; changes nothing.
    Read,
    /// Replays, discards, skips keys, pauses and resumes handlers, acknowledges alerts.
    Operate,
    /// Also moves positions, forgets handlers, reloads the configuration.
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// The role's name in configuration and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}
