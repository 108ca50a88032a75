//! The sample application: takes orders, and records what happened to them in the same transaction.
//! Every tenth transaction is rolled back on purpose; the relay must never hear of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ledger::{Fate, Ledger};
use super::stage::Schemas;
use super::story::{Fact, Story};
use crate::domain::NewEvent;
use crate::uow;

/// One of so many transactions is rolled back.
const ROLLED_BACK: u64 = 10;
/// Open orders remembered; older ones stay as they are.
const OPEN_ORDERS: usize = 200;

/// The application while it takes orders.
pub struct Application {
    pub pool: PgPool,
    pub schemas: Schemas,
    pub ledger: Arc<Ledger>,
    pub story: Story,
}

/// An order that something may still happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OpenOrder {
    id: i64,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Placed,
    Paid,
}

/// What happens next to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    event_type: &'static str,
    status: &'static str,
    leads_to: Option<Status>,
}

const PAID: Change = Change { event_type: "order.paid", status: "paid", leads_to: Some(Status::Paid) };
const SHIPPED: Change = Change { event_type: "order.shipped", status: "shipped", leads_to: None };
const CANCELLED: Change = Change { event_type: "order.cancelled", status: "cancelled", leads_to: None };

impl Status {
    /// `draw` is in [0, 1).
    fn next(self, draw: f64) -> Change {
        match self {
            Self::Placed if draw < 0.2 => CANCELLED,
            Self::Placed => PAID,
            Self::Paid => SHIPPED,
        }
    }
}

/// What one transaction did.
#[derive(Debug, Default)]
struct Done {
    ids: Vec<Uuid>,
    facts: Vec<(i64, &'static str)>,
    opened: Vec<OpenOrder>,
}

impl Application {
    /// Takes orders until `stop`. Ends with an error only if the database does not work any more.
    pub async fn run(self, orders_per_second: f64, stop: CancellationToken) -> Result<(), sqlx::Error> {
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / orders_per_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut open = VecDeque::new();
        for number in 1.. {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            // Never dropped half-way: the result of a commit whose answer is lost would be unknown.
            self.transact(number, &mut open).await?;
        }
        Ok(())
    }

    async fn transact(&self, number: u64, open: &mut VecDeque<OpenOrder>) -> Result<(), sqlx::Error> {
        let chosen: Vec<OpenOrder> = (0..pick_changes(fastrand::f64())).filter_map(|_| take_any(open)).collect();
        let mut transaction = self.pool.begin().await?;
        let mut done = Done::default();
        self.place_order(&mut transaction, &mut done).await?;
        for order in &chosen {
            self.change_order(&mut transaction, *order, &mut done).await?;
        }
        if number.is_multiple_of(ROLLED_BACK) {
            transaction.rollback().await?;
            self.ledger.decide(&done.ids, Fate::RolledBack);
            self.story.tell(Fact::RolledBack { events: done.facts });
            open.extend(chosen);
        } else {
            transaction.commit().await?;
            self.ledger.decide(&done.ids, Fate::Committed);
            self.story.tell(Fact::Recorded { events: done.facts });
            open.extend(done.opened);
        }
        while open.len() > OPEN_ORDERS {
            open.pop_front();
        }
        Ok(())
    }

    async fn place_order(&self, connection: &mut PgConnection, done: &mut Done) -> Result<(), sqlx::Error> {
        let shop = self.schemas.shop;
        let cents = fastrand::i64(500..20_000);
        let statement = format!("insert into {shop}.orders (amount_cents) values ($1) returning id");
        let id: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).bind(cents).fetch_one(&mut *connection).await?;
        self.record(connection, "order.placed", id, 1, json!({ "order": id, "amount_cents": cents, "status": "placed" }), done)
            .await?;
        done.opened.push(OpenOrder { id, status: Status::Placed });
        Ok(())
    }

    async fn change_order(&self, connection: &mut PgConnection, order: OpenOrder, done: &mut Done) -> Result<(), sqlx::Error> {
        let shop = self.schemas.shop;
        let change = order.status.next(fastrand::f64());
        let statement = format!("update {shop}.orders set status = $2, step = step + 1 where id = $1 returning step, amount_cents");
        let (step, cents): (i32, i64) =
            sqlx::query_as(AssertSqlSafe(statement)).bind(order.id).bind(change.status).fetch_one(&mut *connection).await?;
        let payload = json!({ "order": order.id, "amount_cents": cents, "status": change.status });
        self.record(connection, change.event_type, order.id, step, payload, done).await?;
        done.opened.extend(change.leads_to.map(|status| OpenOrder { id: order.id, status }));
        Ok(())
    }

    /// The line this is all about: the event goes into the transaction that changes the order.
    async fn record(
        &self,
        connection: &mut PgConnection,
        event_type: &'static str,
        order: i64,
        step: i32,
        payload: serde_json::Value,
        done: &mut Done,
    ) -> Result<(), sqlx::Error> {
        let event = NewEvent::new(event_type, payload).expect("the event has a type and an object").aggregate("order", order);
        let id = event.aggregate_version(step.into());
        self.ledger.announce(id.id(), event_type, order, step);
        done.ids.extend(uow::record_in(connection, self.schemas.outbox, &[id]).await.map_err(|error| error.cause)?);
        done.facts.push((order, event_type));
        Ok(())
    }
}

/// Changes of existing orders beside the new one.
fn pick_changes(draw: f64) -> usize {
    match draw {
        draw if draw < 0.3 => 0,
        draw if draw < 0.8 => 1,
        _ => 2,
    }
}

fn take_any(open: &mut VecDeque<OpenOrder>) -> Option<OpenOrder> {
    let place = (!open.is_empty()).then(|| fastrand::usize(..open.len()))?;
    open.remove(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_placed_then_paid_then_shipped_or_else_cancelled() {
        assert_eq!(Status::Placed.next(0.1), CANCELLED);
        assert_eq!(Status::Placed.next(0.9), PAID);
        assert_eq!(PAID.leads_to.map(|status| status.next(0.1)), Some(SHIPPED));
        assert_eq!((SHIPPED.leads_to, CANCELLED.leads_to), (None, None));
    }
}
