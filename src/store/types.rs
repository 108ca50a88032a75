//! Conversions between Postgres types and those of `domain`.

use std::error::Error;

use sqlx::encode::IsNull;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Row, Type};

use crate::domain::{Notification, Timestamp};

/// Microseconds between 1970 and 2000, where Postgres begins to count.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self::from_micros(micros.saturating_add(POSTGRES_EPOCH)))
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, Box<dyn Error + Send + Sync>> {
        buffer.extend_from_slice(&self.as_micros().saturating_sub(POSTGRES_EPOCH).to_be_bytes());
        Ok(IsNull::No)
    }
}

/// Columns of an event, in the order in which every reading statement returns them.
pub(super) const EVENT_COLUMNS: usize = 10;

/// The notification in a row whose event columns begin at `at`; gives the index of the first column behind them.
pub(super) fn notification(row: &PgRow, at: usize) -> Result<(Box<Notification>, usize), sqlx::Error> {
    // Not compared with the types of the columns, for every row again: the statement names them. And the driver knows no text in a json
    // column, but that is what it is, byte for byte.
    let notification = Notification {
        seq: row.try_get_unchecked(at)?,
        id: row.try_get_unchecked(at + 1)?,
        event_type: row.try_get_unchecked(at + 2)?,
        aggregate_type: row.try_get_unchecked(at + 3)?,
        aggregate_id: row.try_get_unchecked(at + 4)?,
        aggregate_version: row.try_get_unchecked(at + 5)?,
        payload: row.try_get_unchecked(at + 6)?,
        headers: row.try_get_unchecked(at + 7)?,
        occurred_at: row.try_get_unchecked(at + 8)?,
        key: row.try_get_unchecked(at + 9)?,
        attempt: 1,
        is_replay: false,
        is_test: false,
        contract: None,
    };
    Ok((Box::new(notification), at + EVENT_COLUMNS))
}
