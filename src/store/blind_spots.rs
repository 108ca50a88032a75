//! Blind spots: ways in which rows of the outbox can be invisible to a session, be swallowed on their way in, or a trigger stay
//! silent. The supervisor looks for them at the start and in each lease round, and readiness reports the severe ones.
//!
//! Each spot comes with what it means and how to repair it. Reads catalogues; changes nothing.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use super::StoreError;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlindSpot {
    kind: String,
    /// The table, role or sequence.
    name: String,
    detail: String,
    schema: String,
}

/// Looks for all of them, with the eyes of the session that asks.
pub async fn find_blind_spots(executor: impl PgExecutor<'_>, schema: &str) -> Result<Vec<BlindSpot>, StoreError> {
    let rows = sqlx::query(include_str!("sql/find_blind_spots.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("look for what hides events"))?;
    let spots = rows.iter().map(|row| decode(row, schema)).collect::<Result<_, sqlx::Error>>();
    spots.map_err(StoreError::query("understand what hides events"))
}

pub(super) fn decode(row: &PgRow, schema: &str) -> Result<BlindSpot, sqlx::Error> {
    Ok(BlindSpot { kind: row.try_get(0)?, name: row.try_get(1)?, detail: row.try_get(2)?, schema: schema.to_owned() })
}

impl BlindSpot {
    /// A word from a closed set.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Committed events could be passed over, or lost at a crash. The others weaken a protection.
    pub fn is_severe(&self) -> bool {
        !matches!(self.kind.as_str(), "guard_off" | "replica_preset")
    }

    /// The finding, for display.
    pub fn what(&self) -> String {
        let Self { kind, name, detail, .. } = self;
        let table = self.table();
        match kind.as_str() {
            "row_security" => format!("row-level security on {table} applies to role {detail}"),
            "not_a_table" => format!("{table} is {detail} and not a table"),
            "unlogged" => format!("{table} is unlogged"),
            "rule" => format!("the rule {detail} rewrites statements on {table}"),
            "inheritance" => format!("{table} and {detail} inherit from one another"),
            "trigger" => format!("the trigger {detail} can change or swallow rows of {table}"),
            "subscribed" => format!("a subscription of logical replication writes into {table}"),
            "guard_off" => format!("the trigger {detail} of {table} is missing or switched off"),
            "replica" => format!("session_replication_role is {detail} in the sessions of outboxd"),
            "replica_preset" => format!("session_replication_role is preset for {}", self.preset()),
            "sequence" => format!("the sequence {name} has other settings than it must have ({detail})"),
            other => format!("{other} on {table}"),
        }
    }

    /// Why it matters.
    pub fn why(&self) -> &'static str {
        match self.kind.as_str() {
            "row_security" => {
                "a row that a policy hides from the relay looks like one that is not there: outboxd refuses to read such a table"
            }
            "not_a_table" => "positions, the bell and the defences of the log hold for the table that the migrations make only",
            "unlogged" => "the server empties the table after a crash, and every event and outcome in it is lost",
            "rule" => "a rule can turn an insert into nothing, and the application is told that it succeeded",
            "inheritance" => "rows of a child have no unique numbers, no bell and no defences",
            "trigger" => "a trigger that gives null drops the row without an error",
            "subscribed" => "rows that are replicated have transaction ids of another server, so positions pass over them",
            "guard_off" => {
                "nothing refuses or repairs what parts events from their numbers: truncating, updates, foreign transaction ids, deletes"
            }
            "replica" | "replica_preset" => {
                "triggers do not fire in such a session: the bell is silent, and rows of adopted tables become no events"
            }
            _ => "numbers no longer follow the order in which transactions got them, and a page of the log may miss events",
        }
    }

    /// The statements that repair it, for an operator to paste.
    pub fn fix(&self) -> String {
        let Self { kind, detail, schema, .. } = self;
        let table = format!("{}.{}", quoted(schema), quoted(&self.name));
        match kind.as_str() {
            "row_security" => format!(
                "alter table {table} disable row level security;\n-- or, as a superuser, let the role of the relay see every row:\n\
                 alter role {} bypassrls;",
                quoted(detail)
            ),
            "not_a_table" => "-- move the table that outboxd migrate has made back to its name".to_owned(),
            "unlogged" => format!("alter table {table} set logged;"),
            "rule" => format!("drop rule {} on {table};", quoted(detail)),
            "inheritance" => format!("alter table {detail} no inherit {table};"),
            "trigger" => format!("drop trigger {} on {table};", quoted(detail)),
            "subscribed" => format!("-- leave {table} out of the publication, or drop the subscription once the copy is complete"),
            "guard_off" => format!("alter table {table} enable trigger {detail};"),
            "replica" => "alter role current_user reset session_replication_role;".to_owned(),
            "replica_preset" => format!("alter {} reset session_replication_role;", self.preset()),
            _ => format!(
                "alter table {}.events alter column seq set cache 1, alter column seq set increment by 1, alter column seq set no cycle;",
                quoted(schema)
            ),
        }
    }

    fn table(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn preset(&self) -> String {
        match (self.name.as_str(), self.detail.as_str()) {
            ("", database) => format!("database {database}"),
            (role, "") => format!("role {role}"),
            (role, database) => format!("role {role} in database {database}"),
        }
    }
}

impl std::fmt::Display for BlindSpot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fix: Vec<String> = self.fix().lines().filter(|line| !line.starts_with("--")).map(str::to_owned).collect();
        let fix =
            if fix.is_empty() { String::new() } else { format!("; to mend it, the owner runs: {}", fix[0].trim_end_matches(';')) };
        write!(f, "{}: {}{fix}", self.what(), self.why())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
