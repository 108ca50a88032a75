//! Whether a person is forgotten, place by place, and which places cannot be looked at. Changes nothing.

use std::path::Path;

use serde::Serialize;
use sqlx::PgPool;

use super::{Forget, ForgetError, Report, ledger, plan};

/// What no look into the database can show.
pub const UNREACHED: &[&str] = &[
    "backups and replicas of the database: their events cannot be read without the key, and a key in a backup from before is found by the ledger when it is restored",
    "files of the server: pages and write-ahead log keep a wrapped key until they are overwritten; it opens only with the master key",
    "receivers: what a handler has decrypted and sent on",
    "logs of the server and of programs that had the value",
    "tables of the application that [erasure] functions do not reach, and fields of payloads that are not Shredded",
];

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    #[serde(flatten)]
    pub report: Report,
    /// What is left, in words; empty: nothing.
    pub left: Vec<String>,
    pub unreached: &'static [&'static str],
}

/// Looks into every table that may hold clear text of a person.
pub async fn verify(pool: &PgPool, forget: &Forget<'_>) -> Result<Verified, ForgetError> {
    let (report, _) = plan(pool, forget).await?;
    let mut left = Vec::new();
    if report.destroyed_at.is_none() {
        left.push("subject_keys: the key lives; `outboxd forget` destroys it".to_owned());
    } else if !report.is_complete {
        left.push("subject_keys: the command that destroyed the key did not come to its end; run it again".to_owned());
    }
    let traces = report.traces.iter().filter(|trace| trace.rows > 0);
    left.extend(traces.map(|trace| format!("{}: {} rows from before; run `outboxd forget` again", trace.place, trace.rows)));
    if let Some(path) = forget.ledger {
        left.extend(missing_line(path, forget.subject, report.destroyed_at.is_some())?);
    }
    Ok(Verified { report, left, unreached: UNREACHED })
}

fn missing_line(path: &Path, subject: &str, is_destroyed: bool) -> Result<Option<String>, ForgetError> {
    let is_named = ledger::read(path)?.iter().any(|(named, _)| named == subject);
    let text = || format!("the ledger {} does not name it; run `outboxd forget` again", path.display());
    Ok((is_destroyed && !is_named).then(text))
}
