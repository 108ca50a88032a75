//! The final tally: what the database says against what the application and the receiver remember, and whether the promise held.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::ledger::{Counts, Ledger};
use super::relay_config::{TOTALS, WEBHOOK};
use super::stage::Schemas;
use crate::store::StoreError;

/// Deliveries of one handler by state, as `event_states` has them.
pub type States = BTreeMap<String, u64>;

/// What the database says.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    pub events: Vec<Uuid>,
    pub delivered: Vec<Uuid>,
    pub webhook: States,
    pub totals: States,
    /// Rows of the projection, and the events that were applied to them.
    pub projected_rows: u64,
    pub projected_events: u64,
}

/// One line of the promise.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Claim {
    pub claim: &'static str,
    pub holds: bool,
    pub figures: String,
}

/// The numbers at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Tally {
    pub recorded: u64,
    pub delivered: u64,
    pub retrying: u64,
    pub waiting: u64,
    pub unread: u64,
    pub dead: u64,
    pub attempts_retried: u64,
    pub rolled_back_transactions: u64,
    pub rolled_back_events: u64,
    pub duplicates: u64,
    pub order_violations: u64,
    pub projected_rows: u64,
    pub projected_events: u64,
    pub promise_held: bool,
    pub claims: Vec<Claim>,
}

/// Deliveries of a handler that may still change by themselves.
pub fn unfinished(states: &States) -> u64 {
    ["pending", "retrying", "waiting"].iter().map(|state| count(states, state)).sum()
}

/// How many deliveries are in a state.
pub fn count(states: &States, state: &str) -> u64 {
    states.get(state).copied().unwrap_or_default()
}

/// States of the deliveries of a handler.
pub async fn read_states(pool: &PgPool, handler: &str) -> Result<States, StoreError> {
    let statement = "select state, count(*) from event_states where handler = $1 group by state";
    let rows: Vec<(String, i64)> =
        sqlx::query_as(statement).bind(handler).fetch_all(pool).await.map_err(StoreError::query("count the deliveries"))?;
    Ok(rows.into_iter().map(|(state, count)| (state, count.unsigned_abs())).collect())
}

/// Rows of the projection, and events applied to them.
pub async fn read_projection(pool: &PgPool, schemas: Schemas) -> Result<(u64, u64), StoreError> {
    let statement = format!("select count(*), coalesce(sum(events), 0)::bigint from {}.order_totals", schemas.shop);
    let (rows, events): (i64, i64) =
        sqlx::query_as(AssertSqlSafe(statement)).fetch_one(pool).await.map_err(StoreError::query("count the order totals"))?;
    Ok((rows.unsigned_abs(), events.unsigned_abs()))
}

/// Everything the tally needs from the database.
pub async fn read(pool: &PgPool, schemas: Schemas) -> Result<Stored, StoreError> {
    let (projected_rows, projected_events) = read_projection(pool, schemas).await?;
    let events = sqlx::query_scalar("select id from events").fetch_all(pool).await.map_err(StoreError::query("read the events"))?;
    let delivered = sqlx::query_scalar("select id from event_states where handler = $1 and state = 'delivered'")
        .bind(WEBHOOK)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the deliveries"))?;
    let (webhook, totals) = (read_states(pool, WEBHOOK).await?, read_states(pool, TOTALS).await?);
    Ok(Stored { events, delivered, webhook, totals, projected_rows, projected_events })
}

/// Compares.
pub fn take(stored: &Stored, ledger: &Ledger) -> Tally {
    let counts = ledger.counts();
    let claims = claims(stored, &counts, &set(ledger.committed()), &set(ledger.accepted()));
    Tally {
        recorded: counts.recorded,
        delivered: counts.delivered,
        retrying: count(&stored.webhook, "retrying"),
        waiting: count(&stored.webhook, "waiting"),
        unread: count(&stored.webhook, "pending"),
        dead: count(&stored.webhook, "dead"),
        attempts_retried: counts.retried,
        rolled_back_transactions: counts.rolled_back_transactions,
        rolled_back_events: counts.rolled_back_events,
        duplicates: counts.duplicates,
        order_violations: counts.order_violations,
        projected_rows: stored.projected_rows,
        projected_events: stored.projected_events,
        promise_held: claims.iter().all(|claim| claim.holds),
        claims,
    }
}

fn claims(stored: &Stored, counts: &Counts, committed: &HashSet<Uuid>, accepted: &HashSet<Uuid>) -> Vec<Claim> {
    let events: HashSet<Uuid> = set(stored.events.clone());
    let missing = committed.difference(&events).count();
    let known: u64 = ["delivered", "retrying", "waiting", "pending", "dead", "discarded"]
        .iter()
        .map(|state| count(&stored.webhook, state))
        .sum();
    let unreceived = stored.delivered.iter().filter(|id| !accepted.contains(id)).count();
    let (delivered, dead) = (count(&stored.webhook, "delivered"), count(&stored.webhook, "dead"));
    let open = unfinished(&stored.webhook);
    let applied = count(&stored.totals, "delivered");
    vec![
        Claim {
            claim: "every committed event is accounted for",
            holds: missing == 0 && unreceived == 0 && known == events.len() as u64,
            figures: format!(
                "{} committed = {delivered} delivered + {open} still to come + {dead} dead letters{}",
                committed.len(),
                lost(missing, unreceived)
            ),
        },
        Claim {
            claim: "nothing that was rolled back was sent",
            holds: counts.delivered_by_mistake == 0,
            figures: format!(
                "{} transactions with {} events rolled back",
                counts.rolled_back_transactions, counts.rolled_back_events
            ),
        },
        Claim {
            claim: "every order's events came in their order",
            holds: counts.order_violations == 0,
            figures: format!("{} violations in {} deliveries", counts.order_violations, counts.delivered),
        },
        Claim {
            claim: "every request was signed",
            holds: counts.bad_signatures == 0,
            figures: format!("{} bad signatures", counts.bad_signatures),
        },
        Claim {
            claim: "the totals got every event exactly once",
            holds: applied == stored.projected_events,
            figures: format!("{} applications for {applied} events, {} orders", stored.projected_events, stored.projected_rows),
        },
    ]
}

fn lost(missing: usize, unreceived: usize) -> String {
    if missing + unreceived == 0 {
        return String::new();
    }
    format!("; {missing} missing in the outbox, {unreceived} marked as delivered that never came")
}

fn set(ids: Vec<Uuid>) -> HashSet<Uuid> {
    ids.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Fate;
    use super::*;

    fn states(of: &[(&str, u64)]) -> States {
        of.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()
    }

    fn one_delivered() -> (Stored, Ledger) {
        let (id, ledger) = (Uuid::new_v4(), Ledger::default());
        ledger.announce(id, "order.placed", 1, 1);
        ledger.decide(&[id], Fate::Committed);
        ledger.accept(id);
        let delivered = states(&[("delivered", 1)]);
        let stored = Stored {
            events: vec![id],
            delivered: vec![id],
            webhook: delivered.clone(),
            totals: delivered,
            projected_rows: 1,
            projected_events: 1,
        };
        (stored, ledger)
    }

    fn broken(stored: &Stored, ledger: &Ledger) -> Vec<&'static str> {
        take(stored, ledger).claims.iter().filter(|claim| !claim.holds).map(|claim| claim.claim).collect()
    }

    #[test]
    fn the_promise_holds_when_everything_agrees() {
        let (stored, ledger) = one_delivered();
        assert_eq!(broken(&stored, &ledger), Vec::<&str>::new());
    }

    #[test]
    fn a_lost_event_breaks_it() {
        let (mut stored, ledger) = one_delivered();
        (stored.events, stored.webhook) = (Vec::new(), states(&[]));
        assert_eq!(broken(&stored, &ledger), ["every committed event is accounted for"]);
    }

    #[test]
    fn a_delivery_that_never_came_breaks_it() {
        let (mut stored, ledger) = one_delivered();
        let id = Uuid::new_v4();
        stored.events.push(id);
        stored.delivered.push(id);
        stored.webhook = states(&[("delivered", 2)]);
        assert_eq!(broken(&stored, &ledger), ["every committed event is accounted for"]);
    }

    #[test]
    fn an_event_applied_twice_breaks_it() {
        let (mut stored, ledger) = one_delivered();
        stored.projected_events = 2;
        assert_eq!(broken(&stored, &ledger), ["the totals got every event exactly once"]);
    }
}
