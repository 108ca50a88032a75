//! A flush that Postgres refuses because of a row (`ledger` calls this after the flush as a whole was refused). It is written
//! again in parts, each in a savepoint, until the refused row stands alone.
//!
//! A row that is refused alone becomes a dead letter with the reason `unstorable`; a delivered event stays delivered where it can
//! be stored without the texts of others. Everything else is recorded exactly as it would have been. Slow, and only on this way.

use std::collections::VecDeque;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::ledger::{insert_delivered, record_attempts, record_outcomes};
use super::{Entries, Fence, RecordedAttempt, RecordedOutcome, StoreError};
use crate::domain::{DeliveryState, ErrorGroup, Reason};

/// A delivery whose outcome Postgres refused. It is a dead letter now, unless it had been delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unstorable {
    pub seq: i64,
    /// `None`: a success at the first attempt, of which a flush knows the number only.
    pub event: Option<Uuid>,
    pub key: Option<String>,
    pub cause: String,
    /// The state that should have been recorded.
    pub state: DeliveryState,
    /// A row says that it is given up.
    pub is_dead: bool,
}

/// Writes markers, outcomes and history behind a fence that was passed, in parts, each in a savepoint of its own.
pub(super) async fn record_in_parts(
    connection: &mut PgConnection,
    fence: Fence,
    instance: &str,
    entries: &Entries,
) -> Result<Vec<Unstorable>, StoreError> {
    let writer = Writer { fence, instance };
    let mut unstorable = Vec::new();
    for (rows, error) in writer.write(connection, Rows::Delivered(&entries.delivered)).await? {
        let Rows::Delivered([seq]) = rows else { continue };
        unstorable.extend(writer.give_up_delivered(connection, *seq, &error).await?);
    }
    for (rows, error) in writer.write(connection, Rows::Outcomes(&entries.outcomes)).await? {
        let Rows::Outcomes([outcome]) = rows else { continue };
        unstorable.push(writer.give_up(connection, outcome, &error).await?);
    }
    for (rows, _) in writer.write(connection, Rows::Attempts(&entries.attempts)).await? {
        let Rows::Attempts([attempt]) = rows else { continue };
        // Its detail is the only text in it that others wrote. Without its history a delivery is still a delivery.
        let plain = [RecordedAttempt { detail: String::new(), ..attempt.clone() }];
        writer.write(connection, Rows::Attempts(&plain)).await?;
    }
    Ok(unstorable)
}

/// Rows of one kind, which can be cut in two.
#[derive(Clone, Copy)]
enum Rows<'a> {
    Delivered(&'a [i64]),
    Outcomes(&'a [RecordedOutcome]),
    Attempts(&'a [RecordedAttempt]),
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Delivered(rows) => rows.len(),
            Self::Outcomes(rows) => rows.len(),
            Self::Attempts(rows) => rows.len(),
        }
    }

    fn halves(&self) -> [Self; 2] {
        let middle = self.len() / 2;
        match self {
            Self::Delivered(rows) => [Self::Delivered(&rows[..middle]), Self::Delivered(&rows[middle..])],
            Self::Outcomes(rows) => [Self::Outcomes(&rows[..middle]), Self::Outcomes(&rows[middle..])],
            Self::Attempts(rows) => [Self::Attempts(&rows[..middle]), Self::Attempts(&rows[middle..])],
        }
    }
}

struct Writer<'a> {
    fence: Fence,
    instance: &'a str,
}

impl Writer<'_> {
    /// Writes all that can be written; gives the rows that are refused one by one, and why.
    async fn write<'a>(&self, connection: &mut PgConnection, rows: Rows<'a>) -> Result<Vec<(Rows<'a>, StoreError)>, StoreError> {
        let mut refused = Vec::new();
        let mut parts = VecDeque::from([rows]);
        while let Some(part) = parts.pop_front() {
            match self.try_write(connection, part).await? {
                Ok(()) => {}
                Err(error) if part.len() <= 1 => refused.push((part, error)),
                Err(_) => {
                    let [first, second] = part.halves();
                    parts.push_front(second);
                    parts.push_front(first);
                }
            }
        }
        Ok(refused)
    }

    /// One part in a savepoint. The outer error is not about the data.
    async fn try_write(&self, connection: &mut PgConnection, part: Rows<'_>) -> Result<Result<(), StoreError>, StoreError> {
        let error = || StoreError::query("record a part of a flush");
        let mut savepoint = connection.begin().await.map_err(error())?;
        let written = match part {
            Rows::Delivered(seqs) => insert_delivered(&mut savepoint, self.fence, seqs).await,
            Rows::Outcomes(outcomes) => record_outcomes(&mut savepoint, self.fence, outcomes).await,
            Rows::Attempts(attempts) => record_attempts(&mut savepoint, self.fence, self.instance, attempts).await,
        };
        match written {
            Ok(()) => savepoint.commit().await.map(Ok).map_err(error()),
            Err(refusal) if refusal.is_about_data() => {
                savepoint.rollback().await.map_err(error())?;
                Ok(Err(refusal))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Records an outcome that was refused: a delivery as delivered, without the texts of others; anything else as a dead letter that says so.
    async fn give_up(
        &self,
        connection: &mut PgConnection,
        outcome: &RecordedOutcome,
        error: &StoreError,
    ) -> Result<Unstorable, StoreError> {
        let cause = error.innermost();
        let dead = dead_letter(outcome, &cause);
        let mut candidates = Vec::new();
        if outcome.state == DeliveryState::Delivered {
            candidates.push(RecordedOutcome { detail: String::new(), key: None, group: None, ..outcome.clone() });
        }
        candidates.push(dead.clone());
        candidates.push(RecordedOutcome { key: None, ..dead });
        let mut last = None;
        for candidate in candidates {
            match self.try_write(connection, Rows::Outcomes(std::slice::from_ref(&candidate))).await? {
                Ok(()) => {
                    let is_dead = candidate.state == DeliveryState::Dead;
                    let (seq, event, key, state) = (outcome.seq, Some(outcome.event), outcome.key.clone(), outcome.state);
                    return Ok(Unstorable { seq, event, key, cause, state, is_dead });
                }
                Err(refusal) => last = Some(refusal),
            }
        }
        // Nothing can be recorded of it, not even that: then the table is what is wrong.
        Err(last.map_or_else(|| StoreError::Refused(cause), |refusal| refusal.at_seq(outcome.seq)))
    }

    /// A success at the first attempt whose marker was refused. `None`: it has a row already, which stays as it is.
    async fn give_up_delivered(
        &self,
        connection: &mut PgConnection,
        seq: i64,
        error: &StoreError,
    ) -> Result<Option<Unstorable>, StoreError> {
        if error.sqlstate().as_deref() == Some("23505") {
            return Ok(None);
        }
        let cause = error.innermost();
        let dead = dead_letter(&RecordedOutcome::delivered(seq), &format!("it was delivered, and {cause}"));
        match self.try_write(connection, Rows::Outcomes(std::slice::from_ref(&dead))).await? {
            Ok(()) => Ok(Some(Unstorable { seq, event: None, key: None, cause, state: DeliveryState::Delivered, is_dead: true })),
            Err(refusal) => Err(refusal.at_seq(seq)),
        }
    }
}

/// The dead letter that is recorded instead of an outcome that was refused.
fn dead_letter(outcome: &RecordedOutcome, cause: &str) -> RecordedOutcome {
    let last = outcome.reason.map(|reason| format!("; the attempt ended with {reason}")).unwrap_or_default();
    let detail = format!("the outcome could not be recorded as {}: {cause}{last}", outcome.state);
    RecordedOutcome {
        state: DeliveryState::Dead,
        due_in_micros: None,
        status: None,
        reason: Some(Reason::Unstorable),
        group: Some(ErrorGroup::of(Reason::Unstorable, None, &detail)),
        detail,
        holds_key: false,
        destination: None,
        ..outcome.clone()
    }
}
