//! `sql`: calls a function in the same database, in the transaction that marks the event as handled, which makes its effect
//! exactly-once. Holds only the settings; `relay::functions` and `store::functions` make the call.

use super::{Built, Kind};
use crate::settings::{Field, FieldType};

pub const KIND: Kind = Kind {
    name: "sql",
    summary: "call a function in the same database, exactly once, in the transaction that marks the event handled",
    fields: &[
        Field::required(
            "function",
            FieldType::Text,
            "Function to call, with its schema: fn(id uuid, type text, key text, payload jsonb, headers jsonb).",
        ),
        Field::new("statement_timeout", FieldType::Duration, "30s", "Maximum duration of one call."),
        Field::new("lock_timeout", FieldType::Duration, "5s", "Maximum wait of one call for a lock."),
        Field::new("role", FieldType::Text, "", "Role to switch to for the call; empty: the role of the relay."),
    ],
    example: include_str!("../../config/examples/sql.toml"),
    build: |section| {
        let function = section.text("function");
        if function.split('.').any(|part| part.is_empty()) || function.split('.').count() > 2 {
            section.mistake("function", &format!("got {function:?}, expected a name such as \"app.on_event\""));
            return None;
        }
        Some(Built::Function(SqlFunction {
            function,
            statement_timeout: section.duration("statement_timeout"),
            lock_timeout: section.duration("lock_timeout"),
            role: Some(section.text("role")).filter(|role| !role.is_empty()),
        }))
    },
};

/// A function in the same database and how it may be called.
#[derive(Debug, Clone)]
pub struct SqlFunction {
    /// `name` or `schema.name`, unquoted.
    pub function: String,
    pub statement_timeout: std::time::Duration,
    pub lock_timeout: std::time::Duration,
    pub role: Option<String>,
}
