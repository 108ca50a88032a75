//! Reading the configuration again: a person's wish to the relays that live, and what each of them answers.
//! Kept in the database, so that a wish reaches a relay that only polls, and the answer can be read after the command has gone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::text::cleaned;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};

/// What came of reading a configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// What differed is in effect.
    Applied,
    /// Nothing differed that could be applied.
    Unchanged,
    /// The old configuration goes on; `reasons` say why.
    Refused,
}

impl ReloadOutcome {
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// The answer of one relay. Names only: no value of a setting is in it, for it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReloadReport {
    pub outcome: ReloadOutcome,
    /// Handlers.
    #[serde(default)]
    pub added: Vec<String>,
    #[serde(default)]
    pub changed: Vec<String>,
    #[serde(default)]
    pub removed: Vec<String>,
    /// Settings of the relay that are in effect now.
    #[serde(default)]
    pub settings: Vec<String>,
    /// Settings that differ and take effect with a restart only.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Why it was refused.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What the change does to what is pending, or would have done.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ReloadReport {
    /// The old configuration goes on.
    pub fn refused(reasons: Vec<String>) -> Self {
        let none = Vec::new;
        let outcome = ReloadOutcome::Refused;
        let (settings, needs_restart, notes) = (none(), none(), Vec::new());
        Self { outcome, added: none(), changed: none(), removed: none(), settings, needs_restart, reasons, notes }
    }
}

/// A relay that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedRelay {
    pub id: String,
    pub host: String,
    pub pid: i32,
    /// Which of its wishes this is.
    pub wish: i32,
}

/// What is known of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadAnswer {
    Pending,
    Answered(ReloadReport),
    /// The relay has stopped, and begins with its new configuration when it is started.
    Stopped,
}

/// Asks every relay that lives, or one of them, to read its configuration again.
pub async fn ask_reload(
    pool: &PgPool,
    instance: Option<&str>,
    silence: Duration,
    actor: Actor<'_>,
) -> Result<Vec<AskedRelay>, StoreError> {
    let mut transaction = begin(pool).await?;
    let rows: Vec<(String, String, i32, i32)> = sqlx::query_as(include_str!("sql/ask_reload.sql"))
        .bind(instance)
        .bind(i64::try_from(silence.as_micros()).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::query("ask the relays to reload"))?;
    let asked: Vec<AskedRelay> = rows.into_iter().map(|(id, host, pid, wish)| AskedRelay { id, host, pid, wish }).collect();
    if asked.is_empty() {
        return Ok(asked);
    }
    let entry = AuditEntry { actor, action: "reload", handler: None, filter: "{}", affected: asked.len() as u64, reason: None };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(asked)
}

/// Notes what came of a reload; `wish`: the one in the database that it answers.
pub async fn answer_reload(pool: &PgPool, instance: &str, wish: Option<i32>, report: &ReloadReport) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/answer_reload.sql"))
        .bind(instance)
        .bind(wish)
        .bind(cleaned(serde_json::json!(report)))
        .execute(pool)
        .await
        .map_err(StoreError::query("note what came of the reload"))?;
    Ok(())
}

/// Reads the answer to a wish.
pub async fn read_reload(pool: &PgPool, relay: &AskedRelay) -> Result<ReloadAnswer, StoreError> {
    let row: Option<Option<serde_json::Value>> = sqlx::query_scalar(include_str!("sql/read_reload.sql"))
        .bind(&relay.id)
        .bind(relay.wish)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read what came of the reload"))?;
    Ok(match row {
        None => ReloadAnswer::Stopped,
        Some(None) => ReloadAnswer::Pending,
        Some(Some(document)) => ReloadAnswer::Answered(report(document)),
    })
}

/// An answer as it was stored. That of a newer relay may have another shape; it must not stop a status.
pub(super) fn report(document: serde_json::Value) -> ReloadReport {
    serde_json::from_value(document)
        .unwrap_or_else(|_| ReloadReport::refused(vec!["its answer is not one that this version understands".to_owned()]))
}
