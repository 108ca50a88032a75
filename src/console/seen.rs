//! The content of the front page, read once for all concurrent viewers: ten viewers cost the database as much as one.
//! Kept for a moment only; an act makes the next look a new one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::Mutex;

use crate::domain::Adoption;
use crate::operations::alerts::AlertView;
use crate::operations::status::Status;
use crate::operations::{OperationError, alerts, replays, status};
use crate::store::Replay;

/// Shorter than an operator reads a page.
const FRESH: Duration = Duration::from_secs(2);
/// Replays looked at for those that go on.
const REPLAYS: u32 = 20;

/// How everything is doing.
pub struct Sight {
    pub status: Status,
    pub alerts: Vec<AlertView>,
    /// Those that go on.
    pub replays: Vec<Replay>,
}

/// The last look.
#[derive(Default)]
pub struct Seen(Mutex<Option<(Instant, Arc<Sight>)>>);

impl Seen {
    /// The last result, or a new one. A viewer that comes during a read waits and gets the same result.
    pub async fn look(&self, pool: &PgPool, schema: &str, adoptions: &[Adoption]) -> Result<Arc<Sight>, OperationError> {
        let mut last = self.0.lock().await;
        if let Some((_, sight)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(sight));
        }
        let sight = Arc::new(read(pool, schema, adoptions).await?);
        *last = Some((Instant::now(), Arc::clone(&sight)));
        Ok(sight)
    }

    /// Something was changed.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

async fn read(pool: &PgPool, schema: &str, adoptions: &[Adoption]) -> Result<Sight, OperationError> {
    let status = status::look(pool, schema, adoptions).await;
    if status.handlers.is_empty() && status.relays.is_empty() {
        // Nothing has run here yet, or the database is away, and the status says which.
        return Ok(Sight { status, alerts: Vec::new(), replays: Vec::new() });
    }
    let mut replays = replays::list(pool, None, REPLAYS).await?.items;
    replays.retain(|replay| !replay.is_over());
    Ok(Sight { status, alerts: alerts::list(pool, false).await?.alerts, replays })
}
