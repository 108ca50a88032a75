//! Typed reading of a configuration table: every field is declared once, with type, default and help. The declarations check the
//! values, print the reference and make the JSON Schema. All mistakes of a table are collected; none ends the reading. Reads no
//! file and no environment; `config` has done that before.

mod address;
mod mistake;
mod secret;
mod section;
mod units;

pub use address::{address_hint, parse_address};
pub use mistake::{Mistake, Mistakes};
pub use secret::Secret;
pub use section::Section;
pub(crate) use section::unknown_key;
pub use units::{describe_duration, format_bytes, format_duration, parse_bytes, parse_duration};

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldType {
    Text,
    /// A text that is never printed.
    Secret,
    /// Number and unit: `"250ms"`, `"30s"`, `"5m"`, `"6h"`, `"3d"`.
    Duration,
    /// Number and unit: `"512B"`, `"64KiB"`, `"1MiB"`.
    Bytes,
    /// A whole number in this range.
    Integer(i64, i64),
    Number(f64, f64),
    Boolean,
    Choice(&'static [&'static str]),
    TextList,
    SecretList,
    DurationList,
    /// A table of texts.
    TextMap,
    /// A table of texts, numbers and booleans.
    ScalarMap,
    /// A table of texts that are never printed, for example HTTP headers.
    SecretMap,
    /// A nested table with declared fields.
    Table(&'static [Field]),
}

/// One declared setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field {
    pub name: &'static str,
    pub field_type: FieldType,
    /// As text; `None`: the setting is required. The empty text of a text, list or table means "not set".
    pub default: Option<&'static str>,
    /// One sentence for the reference.
    pub help: &'static str,
}

impl Field {
    pub const fn new(name: &'static str, field_type: FieldType, default: &'static str, help: &'static str) -> Self {
        Self { name, field_type, default: Some(default), help }
    }

    pub const fn required(name: &'static str, field_type: FieldType, help: &'static str) -> Self {
        Self { name, field_type, default: None, help }
    }

    pub const fn table(name: &'static str, fields: &'static [Field], help: &'static str) -> Self {
        Self { name, field_type: FieldType::Table(fields), default: Some(""), help }
    }
}
