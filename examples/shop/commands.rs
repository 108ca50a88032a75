//! Commands: what can be asked of the shop. Each is one transaction, begun, committed and if need be run again by the pipeline.

use outboxd::uow::{Command, Conflict, Error, Private, UnitOfWork};

use crate::domain::{Order, Purchase, Refused};
use crate::tables;

/// Why the shop did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("there is no {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error(transparent)]
    Work(#[from] Error),
}

impl From<sqlx::Error> for ShopError {
    fn from(error: sqlx::Error) -> Self {
        Self::Work(error.into())
    }
}

/// Places an order and pays with a card.
#[derive(Debug)]
pub struct PlaceOrder {
    pub customer: String,
    pub sku: String,
    pub quantity: i32,
    pub card: Private<String>,
}

impl Command for PlaceOrder {
    type Output = Order;
    type Error = ShopError;

    async fn run(&self, work: &mut UnitOfWork) -> Result<Order, ShopError> {
        let price = tables::price_cents(&self.sku, work.connection()).await?.ok_or(ShopError::Missing("such product"))?;
        let purchase = Purchase {
            customer: self.customer.clone(),
            sku: self.sku.clone(),
            quantity: self.quantity,
            total_cents: price * i64::from(self.quantity),
        };
        let number = tables::next_order_number(work.connection()).await?;
        let mut order = Order::place(number, purchase, self.card.clone())?;
        tables::insert_order(&order, work.connection()).await?;
        work.track(&mut order.events); // after the write that orders the aggregate, as always
        Ok(order)
    }
}

#[derive(Debug)]
pub struct CancelOrder {
    pub order: i64,
}

impl Command for CancelOrder {
    type Output = Order;
    type Error = ShopError;

    async fn run(&self, work: &mut UnitOfWork) -> Result<Order, ShopError> {
        let order = tables::load_order(self.order, work.connection()).await?;
        let mut order = order.ok_or(ShopError::Missing("such order"))?;
        order.cancel()?;
        tables::update_order(&order, work.connection()).await?;
        work.track(&mut order.events);
        Ok(order)
    }
}
