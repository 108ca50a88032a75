//! Saving: recorded events are appended to the stream, in the transaction of the unit of work, and are dispatched like every
//! other domain event. `store::streams` explains the order of writers.

use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::load::signed;
use super::{Codec, Root, Sourced, SourcingError};
use crate::domain::NewEvent;
use crate::uow::record::Columns;
use crate::uow::shredding::{self, Place};
use crate::uow::{Conflict, Error, UnitOfWork, transaction};

/// The result of a save.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// Version of the stream after the last of the events.
    pub version: u64,
    /// Ids of the events, in order: those that receivers see.
    pub ids: Vec<Uuid>,
    /// The events were in the stream already, so nothing was changed and nothing is dispatched.
    pub is_repeat: bool,
}

impl<A: Sourced> Root<A> {
    /// Appends what was recorded and raises it in the unit of work. [`Conflict`] if others have appended since it was loaded. Keeps a state where
    /// one is due. Without anything recorded it does nothing.
    ///
    /// The stream is locked from here to the end of the unit of work. A scope that is undone takes the events with it; load the root again then.
    pub async fn save(mut self, work: &mut UnitOfWork) -> Result<Saved, Error> {
        let recorded = std::mem::take(&mut self.recorded);
        if recorded.is_empty() {
            return Ok(Saved { version: self.version, ids: Vec::new(), is_repeat: false });
        }
        let (events, mut written) = self.write(recorded, work)?;
        work.seal(&mut written).await?;
        let (version, is_repeat) = self.append(&written, work).await?;
        let ids: Vec<Uuid> = written.iter().map(NewEvent::id).collect();
        if !is_repeat {
            self.keep_state(version, work).await?;
            for (event, written) in events.into_iter().zip(&written) {
                work.raise_appended(event, written);
            }
        }
        Ok(Saved { version, ids, is_repeat })
    }

    fn write(&self, recorded: Vec<(Option<Uuid>, A::Event)>, work: &UnitOfWork) -> Result<(Vec<A::Event>, Vec<NewEvent>), Error> {
        let (codec, stream) = (Codec::of::<A::Event>()?, self.stream());
        let (mut events, mut written) = (Vec::with_capacity(recorded.len()), Vec::with_capacity(recorded.len()));
        for (id, event) in recorded {
            let mut new = codec.write(&stream, &event)?;
            new.id = id.unwrap_or(new.id);
            let first = written.first().map_or(new.id, NewEvent::id);
            work.complete_appended(&mut new, first);
            events.push(event);
            written.push(new);
        }
        Ok((events, written))
    }

    /// The version after the events, and whether they were there before.
    async fn append(&self, events: &[NewEvent], work: &mut UnitOfWork) -> Result<(u64, bool), Error> {
        let columns = Columns::of(events);
        let sql = work.in_schema(include_str!("../../store/sql/append_events.sql"));
        let appended = sqlx::query(AssertSqlSafe(sql))
            .bind(A::TYPE)
            .bind(&self.key)
            .bind(self.version.to_string())
            .bind(columns.ids)
            .bind(columns.types)
            .bind(columns.payloads)
            .bind(columns.headers)
            .bind(columns.occurred_micros)
            .fetch_one(work.connection())
            .await;
        match appended {
            Err(error) => Err(self.refusal(error)),
            Ok(row) => {
                let version: i64 = row.try_get::<String, _>(0)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                Ok((version.unsigned_abs(), version < 0))
            }
        }
    }

    fn refusal(&self, cause: sqlx::Error) -> Error {
        let refused = cause.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        let (code, detail) = refused.map_or(("", None), |error| (error.code(), error.detail()));
        let stream = self.stream();
        match code {
            "OB001" => {
                let detail: serde_json::Value = detail.and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
                let aggregate =
                    format!("stream {stream} (read at version {}, found at version {})", self.version, detail["actual"]);
                Conflict::of(aggregate).into()
            }
            "OB002" => SourcingError::RecordedElsewhere { stream, cause }.into(),
            "OB003" => SourcingError::Archived { stream }.into(),
            _ => transaction::explain_statement(cause),
        }
    }

    async fn keep_state(&self, version: u64, work: &mut UnitOfWork) -> Result<(), Error> {
        let Some(states) = A::states() else { return Ok(()) };
        let is_due = states.are_due(self.version, version) || self.ignored_state.is_some();
        // A state without what was left out would hide it from a program that knows the type.
        if !is_due || !self.skipped.is_empty() {
            return Ok(());
        }
        let (state, values) = shredding::collect(|| (states.write)(&self.state));
        let state = state.map_err(|cause| SourcingError::State { stream: self.stream(), cause })?;
        work.lock_keys(values.iter()).await?;
        let place = Place::state(A::TYPE, &self.key, states.shape, signed(version));
        let state = shredding::seal_text(state, &values, &place, work.keyring())?;
        let sql = work.in_schema(include_str!("../../store/sql/keep_state.sql"));
        sqlx::query(AssertSqlSafe(sql))
            .bind(A::TYPE)
            .bind(&self.key)
            .bind(states.shape)
            .bind(signed(version))
            .bind(state)
            .execute(work.connection())
            .await?;
        Ok(())
    }
}
