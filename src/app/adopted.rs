//! Adopted tables: logs whether each table that the configuration adopts has a working trigger. Without the trigger the rows of a
//! table become no events, and nothing else fails. Changes nothing and stops nothing; `outboxd adopt` installs triggers.

use std::time::Duration;

use sqlx::PgPool;
use tracing::{debug, error, warn};

use crate::domain::Adoption;
use crate::store::adoption::{AdoptionState, InspectedAdoption, inspect_adoptions};
use crate::telemetry::chain;

/// After which it is not worth waiting for: `outboxd doctor` reports the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at the adopted tables again and again, because nothing else would show that one of them has lost its trigger.
#[derive(Debug, Default)]
pub(super) struct AdoptedTables {
    /// The last findings, so that the log reports a change once.
    last: Vec<InspectedAdoption>,
}

impl AdoptedTables {
    /// Looks at each configured table. Logs for each table that is not adopted as configured what is wrong and which command fixes it:
    /// always with `tells_all`, otherwise only what has changed. `None`: it could not be looked at.
    pub async fn look(
        &mut self,
        pool: &PgPool,
        outbox: &str,
        adoptions: &[Adoption],
        tells_all: bool,
    ) -> Option<&[InspectedAdoption]> {
        if adoptions.is_empty() {
            self.last.clear();
            return Some(&self.last);
        }
        match tokio::time::timeout(PATIENCE, inspect_adoptions(pool, outbox, adoptions)).await {
            Ok(Ok(mut inspected)) => {
                inspected.retain(|found| adoptions.iter().any(|adoption| adoption.table == found.table));
                let is_news = |found: &&InspectedAdoption| tells_all || !self.last.contains(found);
                inspected.iter().filter(is_news).for_each(warn_of);
                self.last = inspected;
                Some(&self.last)
            }
            Ok(Err(failure)) => {
                warn!(error = %chain(&failure), "could not look at the adopted tables");
                None
            }
            Err(_) => {
                warn!("could not look at the adopted tables in time");
                None
            }
        }
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
        AdoptionState::Failing { error, .. } => {
            error!(%table, error, mend = "outboxd doctor", "every insert of the application into an adopted table fails");
        }
        AdoptionState::Outdated => warn!(%table, mend, "the trigger of an adopted table does not do what the configuration says"),
        AdoptionState::Refused(reasons) => {
            warn!(%table, reasons = reasons.join("; "), mend, "table cannot be adopted as configured: its rows are no events");
        }
        // It may be the business of another relay's configuration; `outboxd doctor` asks.
        AdoptionState::Unconfigured => {}
    }
}
