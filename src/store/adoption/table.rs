//! A table as the catalogue describes it: its kind, its columns, the rights of this role, and the outboxd triggers on it. Every
//! statement is sent as plain text, so that it passes a pooler as well.

use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::super::StoreError;
use super::text::{literal, statement};
use crate::domain::TableName;

#[derive(Debug, Clone)]
pub(super) struct FoundTable {
    /// As `pg_class` has it: `r` a table, `p` a partitioned one, `v` a view.
    pub kind: String,
    pub is_partition: bool,
    pub role: String,
    pub may_use_schema: bool,
    pub may_trigger: bool,
    pub may_select: bool,
    pub columns: Vec<FoundColumn>,
    pub triggers: Vec<FoundTrigger>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct FoundColumn {
    pub name: String,
    /// The type as the server writes it; of a domain, what it is a domain over.
    pub kind: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct FoundTrigger {
    pub trigger: String,
    pub function: String,
    pub body: String,
    pub is_definer: bool,
    pub is_row: bool,
    pub is_deferred: bool,
    pub is_on: bool,
}

/// A table with a trigger of this outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedTable {
    pub table: TableName,
    pub function: String,
}

/// `None`: there is no such table.
pub(super) async fn find_table(pool: &PgPool, outbox: &str, table: &TableName) -> Result<Option<FoundTable>, StoreError> {
    let names = [("{outbox}", literal(outbox)), ("{schema}", literal(table.schema())), ("{table}", literal(table.name()))];
    let text = statement(include_str!("../sql/read_adopted_table.sql"), &names);
    let error = || StoreError::query("look at the table");
    let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_optional(pool).await.map_err(error())?;
    row.as_ref().map(found).transpose().map_err(error())
}

/// Every table that is adopted, whatever the configuration says.
pub async fn list_adopted_tables(pool: &PgPool, outbox: &str) -> Result<Vec<AdoptedTable>, StoreError> {
    let text = statement(include_str!("../sql/list_adopted_tables.sql"), &[("{outbox}", literal(outbox))]);
    let error = || StoreError::query("list the adopted tables");
    let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(pool).await.map_err(error())?;
    rows.iter().map(adopted).collect::<Result<Vec<_>, _>>().map_err(error())
}

fn adopted(row: &PgRow) -> Result<AdoptedTable, sqlx::Error> {
    let (schema, name): (String, String) = (row.try_get("schema")?, row.try_get("name")?);
    Ok(AdoptedTable { table: TableName::of_catalogue(schema, name), function: row.try_get("function")? })
}

fn found(row: &PgRow) -> Result<FoundTable, sqlx::Error> {
    Ok(FoundTable {
        kind: row.try_get("kind")?,
        is_partition: row.try_get("is_partition")?,
        role: row.try_get("role")?,
        may_use_schema: row.try_get("may_use_schema")?,
        may_trigger: row.try_get("may_trigger")?,
        may_select: row.try_get("may_select")?,
        columns: list(row, "columns")?,
        triggers: list(row, "triggers")?,
    })
}

fn list<T: for<'de> Deserialize<'de>>(row: &PgRow, name: &str) -> Result<Vec<T>, sqlx::Error> {
    let text: Option<String> = row.try_get(name)?;
    serde_json::from_str(text.as_deref().unwrap_or("[]")).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
