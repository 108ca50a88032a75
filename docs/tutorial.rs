// What the blocks of tutorial.md have in common: each is compiled with this beside it, so that it shows only what is new.

use outboxd::uow::{Command, Contract, Decision, DomainEvent, Error, Failure, Handle, Private, Recorder, Registry, UnitOfWork};
use serde::Serialize;

pub struct OrderPlaced {
    pub order: i64,
    pub customer: String,
    pub total_cents: i64,
    pub card: Private<String>,
}

#[derive(Serialize)]
pub struct OrderPlacedV1<'a> {
    pub order: i64,
    pub customer: &'a str,
    pub total_cents: i64,
}

impl Contract for OrderPlacedV1<'_> {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 1;
}

impl DomainEvent for OrderPlaced {
    fn decide(&self) -> Result<Decision, Failure> {
        let contract = OrderPlacedV1 { order: self.order, customer: &self.customer, total_cents: self.total_cents };
        Decision::notify("order", self.order, &contract)
    }
}

pub struct Order {
    pub id: i64,
    pub customer: String,
    pub total_cents: i64,
    pub events: Recorder,
}

impl Order {
    pub fn place(id: i64, customer: &str, total_cents: i64, card: Private<String>) -> Self {
        let mut order = Self { id, customer: customer.to_owned(), total_cents, events: Recorder::new() };
        order.events.record(OrderPlaced { order: id, customer: customer.to_owned(), total_cents, card });
        order
    }
}

pub struct EarnPoints;

impl Handle<OrderPlaced> for EarnPoints {
    async fn handle(&self, _: &OrderPlaced, _: &mut UnitOfWork) -> Result<(), Failure> {
        Ok(())
    }
}

pub fn registry() -> Registry {
    Registry::new().on::<OrderPlaced, _>(EarnPoints)
}

pub struct PlaceOrder {
    pub id: i64,
    pub customer: String,
    pub total_cents: i64,
    pub card: Private<String>,
}

impl Command for PlaceOrder {
    type Output = i64;
    type Error = Error;

    async fn run(&self, _: &mut UnitOfWork) -> Result<i64, Error> {
        Ok(self.id)
    }
}
