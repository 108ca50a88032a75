//! Installing an adoption: adopting a table, copying its rows, and releasing it. Each step is one transaction.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use super::super::audit::lift_statement_timeout;
use super::super::{Actor, AuditEntry, StoreError, begin, commit, record_audit};
use super::table::find_table;
use super::{AdoptionError, AdoptionPlan, AdoptionState, drop_function};
use crate::domain::TableName;

/// The result of a run for one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// Whether there was anything to make.
    pub is_new: bool,
    /// Events that rows which were there have become; `None`: that was not asked for.
    pub copied: Option<u64>,
}

/// Makes the trigger; with `copies_rows`, copies the rows that are there as well, without a gap and without letting the new ones overtake.
pub async fn install(pool: &PgPool, plan: &AdoptionPlan, copies_rows: bool, actor: &str) -> Result<Installed, AdoptionError> {
    check_rights(plan, copies_rows)?;
    if copies_rows {
        check_ids(pool, plan).await?;
    }
    let is_new = plan.state != AdoptionState::AsConfigured;
    // Most of them before writers are kept out, so that those wait for the rest only. Nothing tells the rest from the most but the ids.
    let mut copied = if copies_rows { Some(copy_only(pool, plan).await?) } else { None };
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    lock(&mut transaction).await?;
    for text in plan.statements() {
        run(&mut transaction, &text).await.map_err(|cause| explain(plan, cause))?;
    }
    if let Some(count) = &mut copied {
        // Making the trigger has kept writers out until the commit: what is copied here comes before whatever they insert after it.
        *count += run(&mut transaction, plan.copy_statement()).await.map_err(copy_failed)?;
        note(&mut transaction, &plan.table, *count, actor).await?;
    }
    commit(transaction).await?;
    Ok(Installed { is_new, copied })
}

/// Copies the rows that are there and have no event yet; gives how many.
async fn copy_only(pool: &PgPool, plan: &AdoptionPlan) -> Result<u64, AdoptionError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let count = run(&mut transaction, plan.copy_statement()).await.map_err(copy_failed)?;
    commit(transaction).await?;
    Ok(count)
}

/// When the rows of a table were copied last, as text.
pub async fn last_copy(pool: &PgPool, table: &TableName) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar(include_str!("../sql/read_last_adoption.sql"))
        .bind(table.to_string())
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("look when the rows were copied"))
}

/// Takes our triggers off a table; gives whether there were any.
pub async fn remove_adoption(pool: &PgPool, outbox: &str, table: &TableName) -> Result<bool, AdoptionError> {
    let found = find_table(pool, outbox, table).await?;
    let triggers = found.map(|found| found.triggers).unwrap_or_default();
    let mut transaction = begin(pool).await?;
    lock(&mut transaction).await?;
    for trigger in &triggers {
        let removed = run(&mut transaction, &drop_function(outbox, &trigger.function)).await;
        removed.map_err(StoreError::query("take the trigger off the table"))?;
    }
    commit(transaction).await?;
    Ok(!triggers.is_empty())
}

/// Two of these at once would fail on each other's functions.
async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(include_str!("../sql/lock_migrations.sql"))
        .execute(connection)
        .await
        .map_err(StoreError::query("wait for another adoption"))?;
    Ok(())
}

async fn run(connection: &mut PgConnection, text: &str) -> Result<u64, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(connection).await.map(|done| done.rows_affected())
}

fn check_rights(plan: &AdoptionPlan, copies_rows: bool) -> Result<(), AdoptionError> {
    let (table, rights) = (&plan.table, &plan.rights);
    let mut grants = Vec::new();
    if !rights.may_use_schema {
        grants.push(format!("grant usage on schema {} to {}", table.schema(), rights.role));
    }
    if !rights.may_trigger && plan.state != AdoptionState::AsConfigured {
        grants.push(format!("grant trigger on {table} to {}", rights.role));
    }
    if !rights.may_select && copies_rows {
        grants.push(format!("grant select on {table} to {}", rights.role));
    }
    if grants.is_empty() {
        return Ok(());
    }
    let text = format!("the role {} may not; let the owner of the table run: {}", rights.role, grants.join("; "));
    Err(AdoptionError::Refused(vec![format!("adopt.{table}: {text}")]))
}

/// A row without one would become an event with every copy, and this is two of them.
async fn check_ids(pool: &PgPool, plan: &AdoptionPlan) -> Result<(), AdoptionError> {
    let Some(text) = plan.ask_for_id.clone() else {
        return Err(AdoptionError::Refused(plan.copy_refusal().into_iter().collect()));
    };
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let row = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&mut *transaction).await.map_err(copy_failed)?;
    if !row.try_get(0).map_err(copy_failed)? {
        return Ok(());
    }
    let text = "there are rows without an id, so a later run would copy them again; give them an id, or exclude them with \
                \"existing\"";
    Err(AdoptionError::Refused(vec![format!("adopt.{}.id: {text}", plan.table)]))
}

fn copy_failed(cause: sqlx::Error) -> AdoptionError {
    AdoptionError::Store(StoreError::query("copy the rows that are there; none was copied")(cause))
}

async fn note(connection: &mut PgConnection, table: &TableName, count: u64, actor: &str) -> Result<(), StoreError> {
    let filter = serde_json::json!({ "table": table.to_string() }).to_string();
    let entry =
        AuditEntry { actor: Actor::cli(actor), action: "adopt", handler: None, filter: &filter, affected: count, reason: None };
    record_audit(connection, &entry).await
}

fn explain(plan: &AdoptionPlan, cause: sqlx::Error) -> AdoptionError {
    let is_locked = matches!(&cause, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"));
    if !is_locked {
        return AdoptionError::Store(StoreError::query("make the trigger")(cause));
    }
    let text = format!(
        "adopt.{}: transactions that write to the table have been open for longer than database.lock_timeout; nothing was changed, \
         try again. `outboxd doctor` shows those that are old",
        plan.table
    );
    AdoptionError::Refused(vec![text])
}
