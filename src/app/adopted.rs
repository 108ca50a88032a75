//! Whether the tables that the configuration adopts are adopted, told in the log: without its trigger the rows of a table are no events,
//! and nothing fails that would show it. Changes nothing and stops nothing: the triggers are the business of `outboxd adopt`.

use std::time::Duration;

use sqlx::PgPool;
use tracing::{debug, warn};

use crate::domain::Adoption;
use crate::store::adoption::{AdoptionState, InspectedAdoption, inspect_adoptions};
use crate::telemetry::chain;

/// After which it is not worth waiting for: `outboxd doctor` tells the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says of each configured table that is not adopted as configured what is wrong and which command mends it.
pub(super) async fn warn_of_tables(pool: &PgPool, outbox: &str, adoptions: &[Adoption]) {
    if adoptions.is_empty() {
        return;
    }
    match tokio::time::timeout(PATIENCE, inspect_adoptions(pool, outbox, adoptions)).await {
        Ok(Ok(inspected)) => inspected.iter().for_each(warn_of),
        Ok(Err(failure)) => warn!(error = %chain(&failure), "could not look at the adopted tables"),
        Err(_) => warn!("could not look at the adopted tables in time"),
    }
}

fn warn_of(inspected: &InspectedAdoption) {
    let InspectedAdoption { table, state } = inspected;
    let mend = format!("outboxd adopt {table}");
    match state {
        AdoptionState::AsConfigured => debug!(%table, "table is adopted"),
        AdoptionState::Missing => warn!(%table, mend, "table is to be adopted and has no trigger: its rows are no events"),
        AdoptionState::SwitchedOff { trigger } => {
            warn!(%table, trigger, mend, "the trigger of an adopted table is switched off: its rows are no events");
        }
        AdoptionState::Outdated => warn!(%table, mend, "the trigger of an adopted table does not do what the configuration says"),
        AdoptionState::Refused(reasons) => {
            warn!(%table, reasons = reasons.join("; "), mend, "table cannot be adopted as configured: its rows are no events");
        }
        // It may be the business of another relay's configuration; `outboxd doctor` asks.
        AdoptionState::Unconfigured => {}
    }
}
