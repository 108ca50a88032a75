//! Handlers of domain events. They run before the commit, in the transaction that placed or cancelled the order: what they do happens
//! together with it, or not at all. What concerns others is no handler here but an event that the relay delivers after the commit.

use outboxd::uow::{Failure, Handle, Registry, UnitOfWork};
use tracing::warn;

use crate::domain::{OrderCancelled, OrderPlaced, PointsChanged, last_four};
use crate::{failpoint, tables};

/// All of them; those of one event run in this order.
pub fn registry() -> Registry {
    Registry::new()
        .on::<OrderPlaced, _>(EarnPoints)
        .on::<OrderPlaced, _>(KeepReceipt)
        .on::<OrderPlaced, _>(RememberTaste)
        .on::<OrderCancelled, _>(ReturnPoints)
        .on::<PointsChanged, _>(WriteStatement)
}

/// A point for every whole unit of money.
const CENTS_PER_POINT: i64 = 100;

/// Changes another aggregate. Two orders of one customer may meet here; the second is run again as a whole.
struct EarnPoints;

impl Handle<OrderPlaced> for EarnPoints {
    async fn handle(&self, event: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
        let mut account = tables::load_account(&event.purchase.customer, work.connection()).await?;
        account.earn(event.purchase.total_cents / CENTS_PER_POINT);
        failpoint::pause_at("between_writes").await; // the order is written, the points are not
        tables::save_account(&account, work.connection()).await?;
        work.track(&mut account.events);
        Ok(())
    }
}

/// Why the event holds the card number: a receipt shows its end.
struct KeepReceipt;

impl Handle<OrderPlaced> for KeepReceipt {
    async fn handle(&self, event: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
        sqlx::query("insert into shop.receipts (order_id, card_last_four) values ($1, $2)")
            .bind(event.order)
            .bind(last_four(&event.card))
            .execute(work.connection())
            .await?;
        Ok(())
    }
}

/// Nice to have: no order is lost because of it, so it works in a scope.
struct RememberTaste;

impl Handle<OrderPlaced> for RememberTaste {
    async fn handle(&self, event: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
        let scope = work.begin_scope().await?;
        let remembered = sqlx::query("insert into shop.tastes (customer, sku) values ($1, $2)")
            .bind(&event.purchase.customer)
            .bind(&event.purchase.sku)
            .execute(work.connection())
            .await;
        match remembered {
            Ok(_) => work.keep(scope).await?,
            Err(error) => {
                warn!(order = event.order, %error, "taste not remembered");
                work.undo(scope).await?;
            }
        }
        Ok(())
    }
}

struct ReturnPoints;

impl Handle<OrderCancelled> for ReturnPoints {
    async fn handle(&self, event: &OrderCancelled, work: &mut UnitOfWork) -> Result<(), Failure> {
        let mut account = tables::load_account(&event.purchase.customer, work.connection()).await?;
        account.give_back(event.purchase.total_cents / CENTS_PER_POINT);
        tables::save_account(&account, work.connection()).await?;
        work.track(&mut account.events);
        Ok(())
    }
}

/// Handles what other handlers have raised: it is dispatched in its turn, before the same commit.
struct WriteStatement;

impl Handle<PointsChanged> for WriteStatement {
    async fn handle(&self, event: &PointsChanged, work: &mut UnitOfWork) -> Result<(), Failure> {
        sqlx::query("insert into shop.statements (customer, points) values ($1, $2)")
            .bind(&event.customer)
            .bind(event.points)
            .execute(work.connection())
            .await?;
        Ok(())
    }
}
