//! The preview of an act on dead letters. The act repeats time and number of the preview, so that it changes
//! only what was seen.

use serde::Serialize;
use sqlx::PgPool;

use super::{OperationError, Which};
use crate::domain::Timestamp;
use crate::store::{self, DeadLetter, DeliveryCount, DeliveryFilter};

/// Deliveries shown before an operator decides.
const SAMPLE: u32 = 5;

/// Which deliveries an act is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Discard,
    /// Without what another replay holds.
    Replay,
}

/// The deliveries that a filter matches, as of a time.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Preview {
    pub matched: u64,
    pub handlers: Vec<DeliveryCount>,
    /// The newest.
    pub sample: Vec<DeadLetter>,
    /// The time of the preview. Events that become dead letters later are not part of it.
    pub as_of: Timestamp,
    /// The filter, with `until` set to that moment.
    #[serde(skip)]
    pub filter: DeliveryFilter,
}

/// Previews an act. `as_of` is the moment of an earlier preview; `None`: now, by the clock of the database.
pub async fn preview(pool: &PgPool, which: &Which, purpose: Purpose, as_of: Option<Timestamp>) -> Result<Preview, OperationError> {
    let as_of = match as_of {
        Some(as_of) => as_of,
        None => store::read_now(pool).await?,
    };
    let filter = seen(which.resolve_at(pool, as_of).await?, as_of);
    let (handlers, sample) = match purpose {
        Purpose::Discard => {
            let counts = store::count_dead_letters(pool, &filter).await?;
            (counts, store::list_dead_letters(pool, &filter, None, SAMPLE).await?)
        }
        Purpose::Replay => {
            let counts = store::count_replayable(pool, &filter).await?;
            (counts, store::list_replayable(pool, &filter, SAMPLE).await?)
        }
    };
    Ok(Preview { matched: handlers.iter().map(|handler| handler.count).sum(), handlers, sample, as_of, filter })
}

/// The filter, without what happened after a moment.
pub fn seen(filter: DeliveryFilter, as_of: Timestamp) -> DeliveryFilter {
    let until = filter.until.map_or(as_of, |until| until.min(as_of));
    DeliveryFilter { until: Some(until), ..filter }
}
