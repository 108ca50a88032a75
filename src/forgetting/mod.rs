//! Forgetting a person. The key is destroyed in one transaction, with the audit and a line in the ledger; then everything in the outbox that may hold clear
//! text is removed. Each step can be repeated, so a command that was killed completes when it is run again.
//!
//! Events stay: their values cannot be read any more. Never touches tables of the application, except through functions that it names.

pub mod ledger;
mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

pub use ledger::LedgerError;
pub use verify::{UNREACHED, Verified, verify};

use crate::domain::Timestamp;
use crate::failpoints::failpoint;
use crate::store::subjects::{self, Cleared, DestroyedKey, SubjectEvents, SubjectProjection, Trace};
use crate::store::{Actor, AuditEntry, StoreError, begin, commit, record_audit};
use crate::telemetry::chain;

/// Why a person could not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(
        "there is no subject {0}: no value was ever encrypted for it. The name is the one that the application gives to Shredded::new; \
         data that is not encrypted goes with `outboxd events erase`"
    )]
    Unknown(String),
}

/// A wish to forget.
#[derive(Debug, Clone, Copy)]
pub struct Forget<'a> {
    pub subject: &'a str,
    pub actor: &'a str,
    pub because: &'a str,
    /// `None`: nothing outside of the database remembers it.
    pub ledger: Option<&'a Path>,
    /// Functions of the application, `schema.name`, called with the subject.
    pub functions: &'a [String],
}

/// What would be done, or was done.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub subject: String,
    /// `None`: the key lives.
    pub destroyed_at: Option<Timestamp>,
    /// The key had been destroyed before this command.
    pub was_forgotten: bool,
    /// Events that hold values of the subject.
    pub events: u64,
    /// Events of the aggregate with the same name that hold none: what stands in them is not encrypted.
    pub unencrypted_events: u64,
    /// What was found beside the events.
    pub traces: Vec<Trace>,
    #[serde(flatten)]
    pub cleared: Cleared,
    pub functions: Vec<String>,
    /// Versions that have read the values; a function must forget them, or they must be rebuilt.
    pub projections: Vec<SubjectProjection>,
    pub ledger: Option<PathBuf>,
    /// No transaction that had read keys before still ran: what it commits would not have been looked at.
    pub is_complete: bool,
}

/// Events of one transaction: short enough that a flush of the relay does not wait for it.
const CHUNK: usize = 1_000;
/// How often and how long transactions that have read keys are waited for.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS: usize = 100;

/// What would be done. Changes nothing.
pub async fn plan(pool: &PgPool, forget: &Forget<'_>) -> Result<(Report, SubjectEvents), ForgetError> {
    let subject = forget.subject;
    let known = subjects::read_subject(pool, subject).await?.ok_or_else(|| ForgetError::Unknown(subject.to_owned()))?;
    let events = subjects::find_events(pool, subject).await?;
    let report = Report {
        subject: subject.to_owned(),
        destroyed_at: known.destroyed_at,
        was_forgotten: known.destroyed_at.is_some(),
        events: events.with_values,
        unencrypted_events: events.without_values,
        traces: subjects::count_traces(pool, subject, &events).await?,
        cleared: Cleared::default(),
        functions: forget.functions.to_vec(),
        projections: subjects::list_projections(pool, subject, &events.seqs).await?,
        ledger: forget.ledger.map(Path::to_owned),
        is_complete: known.walked_at.is_some(),
    };
    Ok((report, events))
}

/// Forgets, or completes what an earlier command began.
pub async fn forget(pool: &PgPool, forget: &Forget<'_>) -> Result<Report, ForgetError> {
    destroy(pool, forget).await?;
    // What was in flight with the key in memory may still keep a state; what begins now has no key.
    let is_alone = wait_for_readers(pool).await?;
    let (mut report, events) = plan(pool, forget).await?;
    for (seqs, ids) in events.seqs.chunks(CHUNK).zip(events.ids.chunks(CHUNK)) {
        let mut transaction = begin(pool).await?;
        let cleared = subjects::clear_traces(&mut transaction, seqs, ids).await?;
        commit(transaction).await?;
        report.cleared.states += cleared.states;
        report.cleared.texts += cleared.texts;
    }
    failpoint!("subject-cleared");
    let mut transaction = begin(pool).await?;
    report.cleared.states += subjects::remove_states(&mut transaction, forget.subject).await?;
    for function in forget.functions {
        subjects::call_function(&mut transaction, function, forget.subject).await?;
    }
    if is_alone {
        subjects::record_walk(&mut transaction, forget.subject).await?;
    }
    commit(transaction).await?;
    report.is_complete = is_alone;
    Ok(report)
}

/// Destroys the key, with the audit, behind a line of the ledger. A key that is destroyed already gets the line that it lacks.
async fn destroy(pool: &PgPool, forget: &Forget<'_>) -> Result<(), ForgetError> {
    let mut transaction = begin(pool).await?;
    let Some(destroyed) = subjects::destroy_key(&mut transaction, forget.subject).await? else {
        let known = subjects::read_subject(&mut *transaction, forget.subject).await?;
        let known = known.ok_or_else(|| ForgetError::Unknown(forget.subject.to_owned()))?;
        if let (Some(ledger), Some(at)) = (forget.ledger, known.destroyed_at) {
            ledger::append(ledger, &[DestroyedKey { subject: known.subject, key: known.key, at }])?;
        }
        return Ok(());
    };
    let filter = serde_json::json!({ "subject": forget.subject, "key": destroyed.key }).to_string();
    let entry = AuditEntry {
        actor: Actor::cli(forget.actor),
        action: "forget_subject",
        handler: None,
        filter: &filter,
        affected: 1,
        reason: Some(forget.because),
    };
    record_audit(&mut transaction, &entry).await?;
    if let Some(ledger) = forget.ledger {
        // Before the commit: a destroyed key without its line would come back with a backup, and nothing would notice.
        ledger::append(ledger, &[destroyed])?;
    }
    failpoint!("subject-in-ledger");
    commit(transaction).await?;
    failpoint!("subject-destroyed");
    Ok(())
}

/// Whether every transaction that has read keys has ended; waited for a while. Those that begin now find no key.
async fn wait_for_readers(pool: &PgPool) -> Result<bool, StoreError> {
    let readers = subjects::list_key_readers(pool).await?;
    for _ in 0..LOOKS {
        if readers.is_empty() || !subjects::has_key_readers(pool, &readers).await? {
            return Ok(true);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(false)
}

/// Subjects that the ledger names and that have a key in this database.
pub async fn find_revived(pool: &PgPool, ledger: &Path) -> Result<Vec<String>, ForgetError> {
    let named: Vec<String> = ledger::read(ledger)?.into_iter().map(|(subject, _)| subject).collect();
    Ok(if named.is_empty() { Vec::new() } else { subjects::list_living(pool, &named).await? })
}

/// Keys that were destroyed in this database and that the ledger does not name.
pub async fn find_unwritten(pool: &PgPool, ledger: &Path) -> Result<Vec<DestroyedKey>, ForgetError> {
    let named: std::collections::HashSet<(String, uuid::Uuid)> = ledger::read(ledger)?.into_iter().collect();
    let destroyed = subjects::list_destroyed(pool).await?;
    Ok(destroyed.into_iter().filter(|key| !named.contains(&(key.subject.clone(), key.key))).collect())
}

/// Fails if a relay must not publish from this database: it holds keys that the ledger says are destroyed.
pub async fn check_ledger(pool: &PgPool, ledger: &Path) -> Result<(), StoreError> {
    match find_revived(pool, ledger).await {
        Ok(revived) if revived.is_empty() => Ok(()),
        Ok(revived) => Err(StoreError::Refused(describe_revived(&revived, ledger))),
        Err(ForgetError::Store(error)) => Err(error),
        Err(error) => Err(StoreError::Refused(chain(&error))),
    }
}

/// The fault of a restored backup, in words.
pub fn describe_revived(revived: &[String], ledger: &Path) -> String {
    let named: Vec<&str> = revived.iter().take(3).map(String::as_str).collect();
    let more = if revived.len() > named.len() { ", ..." } else { "" };
    format!(
        "the database holds keys of {} subjects that were forgotten, says {}: {}{more}. It was restored from a backup; run \
         `outboxd forget --again --because ...` to forget them again",
        revived.len(),
        ledger.display(),
        named.join(", "),
    )
}
