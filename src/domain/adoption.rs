//! Adoption: a table of the application whose inserted rows become events, and which of its columns supply which part of an
//! event. Knows names only; the store finds out whether the database has them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest name that Postgres keeps whole.
const LONGEST_NAME: usize = 63;

/// A table, with its schema. Names are as the catalogue has them: no quotes, upper case counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    schema: String,
    name: String,
}

/// A text that names no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a table such as \"public.outboxevent\", without quotes")]
pub struct InvalidTableName;

/// Where a part of the event comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The first of these columns that the table has. If it has none of them, that is a mistake or the part is left out.
    Columns { names: Vec<String>, is_required: bool },
    /// The same text for every row.
    Constant(String),
}

/// When a row becomes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyAt {
    /// At the end of the statement that inserts it.
    Statement,
    /// When its transaction commits, and so holds every lock that it will ever hold.
    Commit,
}

/// The default columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The table of Debezium's outbox event router.
    Debezium,
    /// The table of the Open Outbox specification and its relay.
    OpenOutbox,
    Custom,
}

/// One table that is adopted.
#[derive(Debug, Clone, PartialEq)]
pub struct Adoption {
    pub table: TableName,
    pub copy_at: CopyAt,
    pub id: Option<Source>,
    pub event_type: Option<Source>,
    pub aggregate_type: Option<Source>,
    pub aggregate_id: Option<Source>,
    pub aggregate_version: Option<Source>,
    pub payload: Option<Source>,
    pub headers: Option<Source>,
    pub occurred_at: Option<Source>,
    /// A column with `name=value` lines, of which `traceparent` becomes a header.
    pub trace_context: Option<Source>,
    pub extra_headers: BTreeMap<String, Source>,
    /// Which of the rows that are there already are still events to deliver, as a condition in SQL; `None`: all.
    pub existing: Option<String>,
}

impl TableName {
    /// As the database has it, where names are good that no configuration would have.
    pub fn of_catalogue(schema: String, name: String) -> Self {
        Self { schema, name }
    }

    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for TableName {
    type Err = InvalidTableName;

    /// `schema.name`; `name` alone is in `public`.
    fn from_str(text: &str) -> Result<Self, InvalidTableName> {
        let (schema, name) = text.split_once('.').unwrap_or(("public", text));
        let is_good = |part: &str| {
            (1..=LONGEST_NAME).contains(&part.len()) && !part.contains(['.', '"', '\0']) && !part.contains(char::is_whitespace)
        };
        if !is_good(schema) || !is_good(name) {
            return Err(InvalidTableName);
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl Source {
    /// A column that must be there.
    pub fn column(name: &str) -> Self {
        Self::Columns { names: vec![name.to_owned()], is_required: true }
    }

    /// The first of these; one of them must be there.
    fn one_of(names: &[&str]) -> Self {
        Self::Columns { names: names.iter().map(|name| (*name).to_owned()).collect(), is_required: true }
    }

    fn if_there(name: &str) -> Self {
        Self::Columns { names: vec![name.to_owned()], is_required: false }
    }

    /// `constant:<text>`, or the name of a column.
    pub fn parse(text: &str) -> Self {
        text.strip_prefix("constant:").map_or_else(|| Self::column(text), |constant| Self::Constant(constant.to_owned()))
    }
}

impl Adoption {
    /// A table that looks exactly like this shape.
    pub fn of_shape(table: TableName, shape: Shape) -> Self {
        let nothing = Self {
            table,
            copy_at: CopyAt::Statement,
            id: None,
            event_type: None,
            aggregate_type: None,
            aggregate_id: None,
            aggregate_version: None,
            payload: None,
            headers: None,
            occurred_at: None,
            trace_context: None,
            extra_headers: BTreeMap::new(),
            existing: None,
        };
        match shape {
            Shape::Custom => nothing,
            Shape::Debezium => Self {
                id: Some(Source::column("id")),
                event_type: Some(Source::column("type")),
                aggregate_type: Some(Source::column("aggregatetype")),
                aggregate_id: Some(Source::column("aggregateid")),
                payload: Some(Source::column("payload")),
                occurred_at: Some(Source::if_there("timestamp")),
                trace_context: Some(Source::if_there("tracingspancontext")),
                ..nothing
            },
            Shape::OpenOutbox => Self {
                id: Some(Source::column("event_id")),
                event_type: Some(Source::column("event_type")),
                // The specification keeps order by the one and chooses partitions by the other; the tables of today have only the latter.
                aggregate_id: Some(Source::one_of(&["ordering_key", "partition_key"])),
                payload: Some(Source::column("payload")),
                headers: Some(Source::if_there("headers")),
                occurred_at: Some(Source::one_of(&["occurred_at", "created_at"])),
                existing: Some("status in ('PENDING', 'DELIVERING')".to_owned()),
                ..nothing
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_as_the_catalogue_has_it() {
        for (text, want) in [
            ("outboxevent", Some("public.outboxevent")),
            ("shop.OutboxEvent", Some("shop.OutboxEvent")),
            ("", None),
            (".x", None),
            ("a.b.c", None),
            ("\"a\".b", None),
            ("a b", None),
        ] {
            assert_eq!(text.parse::<TableName>().ok().map(|table| table.to_string()).as_deref(), want, "{text}");
        }
        assert!("x".repeat(64).parse::<TableName>().is_err());
    }

    #[test]
    fn a_constant_is_told_from_a_column() {
        assert_eq!(Source::parse("constant:order"), Source::Constant("order".to_owned()));
        assert_eq!(Source::parse("kind"), Source::column("kind"));
    }
}
