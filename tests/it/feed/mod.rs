//! The feed: places, cursors, pages and streams, as clients meet them.

mod browsers;
pub mod client;
mod commands;
mod damage;
mod handled;
mod kept;
pub mod pages;
mod places;
mod proxies;
mod sealed;
mod streams;
mod tls;
mod traffic;
mod versions;
pub mod writers;

use outboxd::RelayBuilder;

pub use client::{Served, ask};

use crate::support::{TestDatabase, eventually, relay};

/// A relay that publishes events of these types, with short intervals.
fn publishing(database: &TestDatabase, events: &[&str]) -> RelayBuilder {
    let events: Vec<String> = events.iter().map(|event| (*event).to_owned()).collect();
    relay(database).configure(|config| config.feed.events = events)
}

/// Places in order, each with the seq of its event.
async fn places(database: &TestDatabase) -> Vec<(i64, i64)> {
    sqlx::query_as("select place, seq from feed order by place").fetch_all(database.pool()).await.expect("the places")
}

/// Waits until so many events have a place.
pub async fn wait_for_places(database: &TestDatabase, count: i64) {
    eventually(&format!("{count} places"), || async { (database.count("feed").await >= count).then_some(()) }).await;
}
