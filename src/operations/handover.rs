//! The handover note: what is wrong now and since when, what operators did in the last hours, and what they left open. For whoever takes over
//! at the end of a shift, or writes about an incident. Reads only.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;

use super::alerts::AlertView;
use super::status::{self, HandlerStatus};
use super::{OperationError, alerts, audit, dead_letters, keys, replays};
use crate::domain::{Adoption, Level, Timestamp};
use crate::status::{Complaint, HandlerState};
use crate::store::{self, AuditQuery, AuditRow, BlockedKey, DeadLetterGroup, DeliveryFilter, Replay};

/// Hours that are looked back by default, and at most.
pub const HOURS: u32 = 12;
pub const MOST_HOURS: u32 = 168;
/// Of each list, at most.
const MOST: u32 = 20;
const MOST_ACTS: u32 = 200;

/// What to hand over.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Handover {
    pub at: Timestamp,
    /// The acts are those from then on.
    pub since: Timestamp,
    pub level: Level,
    pub reasons: Vec<Complaint>,
    /// Handlers that are not well.
    pub handlers: Vec<HandlerStatus>,
    /// Alerts that fire, acknowledged and snoozed ones included.
    pub alerts: Vec<AlertView>,
    /// The largest groups of dead letters.
    pub dead_letters: Vec<DeadLetterGroup>,
    /// Replays that go on.
    pub replays: Vec<Replay>,
    /// Keys that wait, those with the most followers first.
    pub keys: Vec<BlockedKey>,
    /// The newest first.
    pub acts: Vec<AuditRow>,
    /// There are more acts than are listed.
    pub more_acts: bool,
}

/// Reads everything for a note about the last hours.
pub async fn read(pool: &PgPool, schema: &str, adoptions: &[Adoption], hours: u32) -> Result<Handover, OperationError> {
    let at = store::read_now(pool).await?;
    let since = at.before(Duration::from_secs(u64::from(hours.clamp(1, MOST_HOURS)) * 3600));
    let status = status::look(pool, schema, adoptions).await;
    let handlers = status.handlers.into_iter().filter(|handler| handler.state != HandlerState::Ok).collect();
    let mut replays = replays::list(pool, None, MOST).await?.items;
    replays.retain(|replay| !replay.is_over());
    let mut acts = audit::list(pool, &AuditQuery::default(), MOST_ACTS).await?;
    let more_acts = acts.more && acts.items.iter().all(|act| act.at >= since);
    acts.items.retain(|act| act.at >= since);
    Ok(Handover {
        at,
        since,
        level: status.level,
        reasons: status.reasons,
        handlers,
        alerts: alerts::list(pool, false).await?.alerts,
        dead_letters: dead_letters::groups(pool, &DeliveryFilter::default(), MOST).await?.items,
        replays,
        keys: keys::list(pool, None, MOST).await?.keys,
        acts: acts.items,
        more_acts,
    })
}
