//! The map: which types flow, how fast, to which handlers, and where they are stuck. A type that no handler wants is on it, too. Reads only.

use sqlx::PgPool;

use super::OperationError;
use crate::domain::Timestamp;
use crate::store::{TypeTrouble, list_type_traffic, list_type_troubles};

/// A type of the newest events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapType {
    pub event_type: String,
    /// Among the newest events.
    pub events: u64,
    /// Of the last five minutes.
    pub recent: u64,
    pub last_at: Timestamp,
    /// Empty: no handler wants it.
    pub handlers: Vec<MapHandler>,
}

/// A handler of a type, with what is not finished there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapHandler {
    pub handler: String,
    pub retrying: u64,
    pub waiting: u64,
    pub dead: u64,
}

/// The types with the most events first.
pub async fn read(pool: &PgPool) -> Result<Vec<MapType>, OperationError> {
    let (traffic, troubles) = (list_type_traffic(pool).await?, list_type_troubles(pool).await?);
    let types = traffic.into_iter().map(|one| MapType {
        handlers: one.handlers.into_iter().map(|handler| with_troubles(handler, &one.event_type, &troubles)).collect(),
        event_type: one.event_type,
        events: one.events,
        recent: one.recent,
        last_at: one.last_at,
    });
    Ok(types.collect())
}

fn with_troubles(handler: String, event_type: &str, troubles: &[TypeTrouble]) -> MapHandler {
    let count = |state: &str| {
        let is_it =
            |trouble: &&TypeTrouble| trouble.handler == handler && trouble.event_type == event_type && trouble.state == state;
        troubles.iter().find(is_it).map_or(0, |trouble| trouble.deliveries)
    };
    let (retrying, waiting, dead) = (count("retrying"), count("waiting"), count("dead"));
    MapHandler { handler, retrying, waiting, dead }
}
