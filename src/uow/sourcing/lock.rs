//! Locks: several streams at once, in one order that all programs share.

use sqlx::AssertSqlSafe;

use super::Sourced;
use crate::uow::{Error, UnitOfWork};

/// The name of a stream: the type of the aggregate, and its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    stream_type: &'static str,
    key: String,
}

impl StreamName {
    /// The stream of an aggregate of this type with this key.
    pub fn of<A: Sourced>(key: impl Into<String>) -> Self {
        Self { stream_type: A::TYPE, key: key.into() }
    }
}

/// Locks the heads of streams until the unit of work ends, in the order of (type, key), whatever order they are given in: units of work that
/// change several streams and lock them first do not deadlock. A stream that does not exist is left out.
pub async fn lock(work: &mut UnitOfWork, streams: impl IntoIterator<Item = StreamName>) -> Result<(), Error> {
    let (types, keys): (Vec<&str>, Vec<String>) = streams.into_iter().map(|name| (name.stream_type, name.key)).unzip();
    let sql = work.in_schema(include_str!("../../store/sql/lock_streams.sql"));
    sqlx::query(AssertSqlSafe(sql)).bind(types).bind(keys).execute(work.connection()).await?;
    Ok(())
}
