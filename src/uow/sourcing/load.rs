//! Loading: one statement reads the kept state and the first page of events behind it; later pages are bounded by versions. A
//! version without its event is an error and never left out. Reads only.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::codec::Row;
use super::{Codec, Root, Sourced, SourcingError, States, Unknown};
use crate::uow::shredding::{self, Keyring, Place};
use crate::uow::{Error, UnitOfWork};

/// Events of one round trip, of which each may have a megabyte.
const PAGE: i64 = 500;

/// Where the stream and its events stand.
struct Head {
    stream: i64,
    version: u64,
}

/// Folds a stream, from the kept state if there is one of this shape.
pub(super) async fn load<A: Sourced>(key: String, states: Option<&States<A>>, work: &mut UnitOfWork) -> Result<Root<A>, Error> {
    let mut root = Root::<A>::new(key);
    let Some((head, mut rows)) = first_page(&mut root, states, work).await? else { return Ok(root) };
    let codec = Codec::of::<A::Event>()?;
    let next = work.in_schema(include_str!("../../store/sql/read_stream_page.sql"));
    loop {
        let is_last = (rows.len() as i64) < PAGE;
        work.learn_keys(rows.iter().filter_map(|row| row.try_get("payload").ok())).await?;
        for row in &rows {
            fold(&mut root, row, &codec, work.keyring())?;
        }
        if is_last || root.version == head.version {
            break;
        }
        rows = sqlx::query(AssertSqlSafe(next.clone()))
            .bind(head.stream)
            .bind(signed(root.version))
            .bind(signed(head.version))
            .bind(PAGE)
            .fetch_all(work.connection())
            .await?;
    }
    match root.version == head.version {
        true => Ok(root),
        false => Err(SourcingError::Missing { stream: root.stream(), version: root.version + 1 }.into()),
    }
}

/// The head, and the first events behind the kept state, which is taken over. `None`: the stream does not exist.
async fn first_page<A: Sourced>(
    root: &mut Root<A>,
    states: Option<&States<A>>,
    work: &mut UnitOfWork,
) -> Result<Option<(Head, Vec<PgRow>)>, Error> {
    let sql = work.in_schema(include_str!("../../store/sql/read_stream.sql"));
    let rows = read(&sql, root, states.map(|states| states.shape), work.connection()).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let head = Head { stream: first.try_get("stream")?, version: unsigned(first.try_get("head")?) };
    let (kept, state): (Option<i64>, Option<String>) = (first.try_get("state_version")?, first.try_get("state")?);
    let Some((states, (kept, state))) = states.zip(kept.zip(state)) else { return Ok(Some((head, events(rows)))) };
    work.learn_keys(std::iter::once(state.as_str())).await?;
    let opened = shredding::open(&state, &Place::state(A::TYPE, &root.key, states.shape, kept), work.keyring());
    let taken = shredding::read(opened, || (states.read)(&state));
    match taken.unwrap_or_else(|error| Err(serde::de::Error::custom(error))) {
        Ok(state) => (root.state, root.version) = (state, unsigned(kept)),
        Err(error) => {
            root.ignored_state = Some(error);
            return Ok(Some((head, events(read(&sql, root, None, work.connection()).await?))));
        }
    }
    Ok(Some((head, events(rows))))
}

async fn read<A: Sourced>(
    sql: &str,
    root: &Root<A>,
    shape: Option<i32>,
    connection: &mut PgConnection,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql.to_owned())).bind(A::TYPE).bind(&root.key).bind(shape).bind(PAGE).fetch_all(connection).await
}

/// Without the row that stands for a stream whose kept state has all of its events.
fn events(mut rows: Vec<PgRow>) -> Vec<PgRow> {
    rows.retain(|row| row.try_get::<Option<i64>, _>("version").is_ok_and(|version| version.is_some()));
    rows
}

fn fold<A: Sourced>(root: &mut Root<A>, row: &PgRow, codec: &Codec, keyring: &Keyring) -> Result<(), Error> {
    let version = unsigned(row.try_get("version")?);
    let event_type: Option<&str> = row.try_get("type")?;
    let (Some(event_type), true) = (event_type, version == root.version + 1) else {
        return Err(SourcingError::Missing { stream: root.stream(), version: root.version + 1 }.into());
    };
    let (id, recorded, payload) = (row.try_get("id")?, row.try_get("recorded_version")?, row.try_get("payload")?);
    match codec.read::<A::Event>(&Row { stream: &root.stream(), version, id, event_type, recorded, payload }, keyring)? {
        Some(event) => root.state.apply(&event),
        None if A::UNKNOWN == Unknown::Skip => *root.skipped.entry(event_type.to_owned()).or_insert(0) += 1,
        None => {
            let event_type = event_type.to_owned();
            return Err(SourcingError::UnknownType { stream: root.stream(), version, event_type }.into());
        }
    }
    root.version = version;
    Ok(())
}

pub(super) fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(version: i64) -> u64 {
    u64::try_from(version).unwrap_or(0)
}
