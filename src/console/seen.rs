//! The content of live pages, read once for all concurrent viewers: ten viewers cost the database as much as one.
//! Kept for a moment only; an act makes the next look a new one.

use std::time::Duration;

use sqlx::PgPool;

use crate::domain::Adoption;
use crate::operations::alerts::AlertView;
use crate::operations::handlers::HandlerView;
use crate::operations::keys::Blocked;
use crate::operations::map::MapType;
use crate::operations::status::Status;
use crate::operations::{OperationError, Page, Shared, alerts, replays, status};
use crate::store::events::EventList;
use crate::store::{DeadLetterGroup, DeliveryFilter, Replay};

/// For the front page and the map, which cost the most. Shorter than an operator reads a page.
const FRESH: Duration = Duration::from_secs(2);
/// For all others.
const JUST_NOW: Duration = Duration::from_secs(1);
/// Replays looked at for those that go on.
const REPLAYS: u32 = 20;

/// How everything is doing.
pub struct Sight {
    pub status: Status,
    pub alerts: Vec<AlertView>,
    /// Those that go on.
    pub replays: Vec<Replay>,
}

/// The last looks, each by what it was asked with.
pub struct Seen {
    pub front: Shared<(), Sight>,
    pub map: Shared<(), Vec<MapType>>,
    /// By the filter as it was written; with the filter that it stood for.
    pub groups: Shared<String, (DeliveryFilter, Page<DeadLetterGroup>)>,
    pub handlers: Shared<String, HandlerView>,
    /// By handler; none: of all.
    pub keys: Shared<Option<String>, Blocked>,
    /// By type and key.
    pub tails: Shared<(Option<String>, Option<String>), EventList>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            front: Shared::new(FRESH),
            map: Shared::new(FRESH),
            groups: Shared::new(JUST_NOW),
            handlers: Shared::new(JUST_NOW),
            keys: Shared::new(JUST_NOW),
            tails: Shared::new(JUST_NOW),
        }
    }
}

impl Seen {
    /// Something was changed. Events are not: no act of the console takes one back.
    pub fn forget(&self) {
        self.front.forget();
        self.groups.forget();
        self.handlers.forget();
        self.keys.forget();
        self.map.forget();
    }
}

/// Reads what the front page shows.
pub async fn read_sight(pool: &PgPool, schema: &str, adoptions: &[Adoption]) -> Result<Sight, OperationError> {
    let status = status::look(pool, schema, adoptions).await;
    if status.handlers.is_empty() && status.relays.is_empty() {
        // Nothing has run here yet, or the database is away, and the status says which.
        return Ok(Sight { status, alerts: Vec::new(), replays: Vec::new() });
    }
    let mut replays = replays::list(pool, None, REPLAYS).await?.items;
    replays.retain(|replay| !replay.is_over());
    Ok(Sight { status, alerts: alerts::list(pool, false).await?.alerts, replays })
}
