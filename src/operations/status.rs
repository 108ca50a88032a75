//! How everything is doing: one verdict with its reasons, and what it rests on. Reads only.

use serde::Serialize;
use sqlx::PgPool;

use super::OperationError;
use crate::domain::Adoption;
use crate::status::{
    Complaint, HandlerState, Level, StatusVerdict, handler_state, is_alive, judge, judge_adoption, judge_blind_spot,
};
use crate::store::adoption::inspect_adoptions;
use crate::store::blind_spots::find_blind_spots;
use crate::store::status::{Counting, HandlerStats, RelayStats, Stats, read_relays, read_stats};
use crate::telemetry::chain;

/// The result of one status query.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Status {
    pub level: Level,
    pub reasons: Vec<Complaint>,
    pub handlers: Vec<HandlerStatus>,
    pub relays: Vec<RelayStatus>,
}

/// A handler and its state in one word.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HandlerStatus {
    pub state: HandlerState,
    #[serde(flatten)]
    pub stats: HandlerStats,
}

/// A relay and whether it is thought to live.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RelayStatus {
    pub is_alive: bool,
    #[serde(flatten)]
    pub stats: RelayStats,
}

impl Status {
    /// `more`: what the stats do not tell.
    pub fn of(stats: Stats, more: Vec<Complaint>) -> Self {
        let StatusVerdict { level, reasons } = judge(&stats).and(more);
        let handlers = stats.handlers.into_iter().map(|stats| HandlerStatus { state: handler_state(&stats), stats });
        Self { level, reasons, handlers: handlers.collect(), relays: stats.relays.into_iter().map(relay).collect() }
    }

    /// The database could not be looked at.
    pub fn unreachable(why: String) -> Self {
        let StatusVerdict { level, reasons } = StatusVerdict::unreachable(why);
        Self { level, reasons, handlers: Vec::new(), relays: Vec::new() }
    }
}

fn relay(stats: RelayStats) -> RelayStatus {
    RelayStatus { is_alive: is_alive(stats.silent), stats }
}

/// Looks at everything. `adoptions`: the adopted tables of the configuration, if one is at hand; the database alone does not know which there
/// should be. Trouble with the database is the finding.
pub async fn look(pool: &PgPool, schema: &str, adoptions: &[Adoption]) -> Status {
    match read_stats(pool, Counting::All).await {
        Ok(stats) => {
            let mut more = adopted_tables(pool, schema, adoptions).await;
            more.extend(hidden_rows(pool, schema).await);
            Status::of(stats, more)
        }
        Err(error) => Status::unreachable(chain(&error)),
    }
}

/// The relays that are known, the one heard of last first.
pub async fn relays(pool: &PgPool) -> Result<Vec<RelayStatus>, OperationError> {
    Ok(read_relays(pool).await?.into_iter().map(relay).collect())
}

async fn adopted_tables(pool: &PgPool, schema: &str, adoptions: &[Adoption]) -> Vec<Complaint> {
    if adoptions.is_empty() {
        return Vec::new();
    }
    match inspect_adoptions(pool, schema, adoptions).await {
        Ok(found) => found.iter().filter_map(judge_adoption).collect(),
        Err(error) => vec![not_looked_at(format!("the adopted tables could not be looked at: {}", chain(&error)))],
    }
}

/// Conditions that hide rows from a session, or disable a trigger: a handler whose events are passed over has no failure of its own.
async fn hidden_rows(pool: &PgPool, schema: &str) -> Vec<Complaint> {
    match find_blind_spots(pool, schema).await {
        Ok(found) => found.iter().map(judge_blind_spot).collect(),
        Err(error) => vec![not_looked_at(format!("whether something hides events could not be looked at: {}", chain(&error)))],
    }
}

fn not_looked_at(text: String) -> Complaint {
    Complaint { level: Level::Warning, handler: None, text, command: "outboxd doctor".to_owned() }
}
