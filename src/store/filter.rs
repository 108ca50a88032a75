//! Which deliveries an operator means: one condition for listing, grouping, exporting, discarding and replaying. The audit and
//! the replay store the filter itself, as JSON.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};
use uuid::Uuid;

use crate::domain::{EventFilter, Timestamp};

/// Which deliveries; every part that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeliveryFilter {
    /// Not the dead letters but what was delivered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub delivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Glob over the type; `*` stands for any characters.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The ordering key, for an aggregate `type/id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why the last attempt failed: a word of `domain::Reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Event ids; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Uuid>,
    /// Given up on, or delivered, at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Somewhere in what the receiver said; letters of either case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Fingerprint>,
}

/// The number of a group of dead letters, for display sixteen hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub i64);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_one = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_one);
        number
            .map(|number| Self(number.cast_signed()))
            .ok_or("expected sixteen hexadecimal digits, as `dead-letters groups` shows them")
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl utoipa::PartialSchema for Fingerprint {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let schema = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
        schema.description(Some("Sixteen hexadecimal digits")).pattern(Some("^[0-9a-f]{16}$")).into()
    }
}

impl utoipa::ToSchema for Fingerprint {}

/// A further condition on a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// It is in no replay that goes on.
    Replayable,
}

impl DeliveryFilter {
    /// As it is kept with a replay and in the audit.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts have a JSON form")
    }

    /// The statement with its condition in place, $1 to $9 bound. Unnamed, so that each run is planned for the parts that are set.
    pub(super) fn query(&self, statement: &str, scope: Scope) -> Query<'static, Postgres, PgArguments> {
        let types = EventFilter { types: self.event_type.iter().cloned().collect(), ..EventFilter::default() };
        sqlx::query(AssertSqlSafe(self.with_condition(statement, scope)))
            .persistent(false)
            .bind(self.handler.clone())
            .bind(types.type_patterns().and_then(|mut patterns| patterns.pop()))
            .bind(self.key.clone())
            .bind(self.reason.clone())
            .bind((!self.ids.is_empty()).then(|| self.ids.clone()))
            .bind(self.since)
            .bind(self.until)
            .bind(self.text.as_deref().map(like_pattern))
            .bind(self.group.map(|group| group.0))
    }

    /// A partial index is used only where its condition stands in the statement, so the state cannot be a parameter.
    fn with_condition(&self, statement: &str, scope: Scope) -> String {
        const ALL: &str = include_str!("sql/filter_deliveries.sql");
        const REPLAYABLE: &str = include_str!("sql/filter_replayable.sql");
        // A success at the first attempt is recorded without its key, so the key of the handler is taken of the event again. A handler
        // without an order has no keys; there the aggregate is what an operator can mean.
        const DELIVERED_KEY: &str = "coalesce(d.key, (select bounded_key(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, case \
                                     when s.key_source in ('header', 'payload') then s.key_source else 'aggregate' end, s.key_path)) \
                                     from events e where e.seq = d.seq))";
        let (state, key) = if self.delivered { ("'delivered'", DELIVERED_KEY) } else { ("'dead'", "d.key") };
        let condition = match scope {
            Scope::All => body(ALL),
            Scope::Replayable => body(REPLAYABLE).replace("{filter}", &body(ALL)),
        };
        statement.replace("{filter}", condition.trim()).replace("{state}", state).replace("{key}", key)
    }
}

/// A file without the comment at its head.
fn body(file: &str) -> String {
    file.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

/// Contains the text, whatever it is made of.
fn like_pattern(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown() {
        for number in [0, 1, -1, i64::MIN, i64::MAX] {
            assert_eq!(Fingerprint(number).to_string().parse(), Ok(Fingerprint(number)));
        }
        for text in ["", "12", "xyz", "00000000000000001", "+000000000000001"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_search_is_for_the_text_itself() {
        assert_eq!(like_pattern("50%_a\\"), "%50\\%\\_a\\\\%");
    }

    #[test]
    fn a_condition_leaves_no_mark_and_no_comment() {
        for delivered in [true, false] {
            for scope in [Scope::All, Scope::Replayable] {
                let filter = DeliveryFilter { delivered, ..DeliveryFilter::default() };
                let statement = filter.with_condition(include_str!("sql/count_deliveries.sql"), scope);
                assert!(!statement.contains(['{', '}']), "{statement}");
                assert_eq!(statement.matches("--").count(), 1, "{statement}");
            }
        }
    }
}
