//! The application's side against a real server: domain events, handlers, commands, the inbox.

mod borders;
mod commands;
mod inbox;
mod unit;
mod validation;

use std::sync::Arc;

use outboxd::uow::{
    Command, Conflict, Contract, Decision, DomainEvent, Error, Failure, Handle, Private, Recorder, Registry, UnitOfWork,
};
use serde::Serialize;

use crate::support::TestDatabase;

const TABLES: &str = "create table public.orders (id bigint primary key, total bigint not null, version bigint not null default 1);
                      create table public.accounts (customer text primary key, points bigint not null);
                      create table public.audit_log (what text not null)";

/// An outbox, and an application's tables beside it.
async fn shop() -> TestDatabase {
    let database = TestDatabase::create().await;
    database.execute(TABLES).await;
    database
}

#[derive(Default)]
struct Order {
    id: i64,
    total: i64,
    events: Recorder,
}

impl Order {
    fn place(id: i64, total: i64, card: &str) -> Self {
        let mut order = Self { id, total, events: Recorder::new() };
        order.events.record(OrderPlaced { order: id, total, card: Private::new(card.to_owned()) });
        order
    }
}

struct OrderPlaced {
    order: i64,
    total: i64,
    card: Private<String>,
}

#[derive(Serialize)]
struct OrderPlacedV2 {
    order_id: i64,
    total_cents: i64,
}

impl Contract for OrderPlacedV2 {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 2;
}

impl DomainEvent for OrderPlaced {
    fn decide(&self) -> Result<Decision, Failure> {
        Decision::notify("order", self.order, &OrderPlacedV2 { order_id: self.order, total_cents: self.total })
    }
}

/// Stays in memory.
struct PointsEarned {
    customer: String,
    points: i64,
}

impl DomainEvent for PointsEarned {
    fn decide(&self) -> Result<Decision, Failure> {
        Ok(Decision::InMemory)
    }
}

struct LevelReached(String);

#[derive(Serialize)]
struct LevelReachedV1<'a> {
    customer: &'a str,
}

impl Contract for LevelReachedV1<'_> {
    const TYPE: &'static str = "loyalty.level_reached";
    const VERSION: u32 = 1;
}

impl DomainEvent for LevelReached {
    fn decide(&self) -> Result<Decision, Failure> {
        Decision::notify("account", &self.0, &LevelReachedV1 { customer: &self.0 })
    }
}

struct EarnPoints;

impl Handle<OrderPlaced> for EarnPoints {
    async fn handle(&self, event: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
        assert!(event.card.expose().len() > 4, "a handler sees what is private");
        work.raise(PointsEarned { customer: "ann".to_owned(), points: event.total / 100 });
        Ok(())
    }
}

struct Credit;

impl Handle<PointsEarned> for Credit {
    async fn handle(&self, event: &PointsEarned, work: &mut UnitOfWork) -> Result<(), Failure> {
        let upsert = "insert into accounts values ($1, $2) on conflict (customer) do update set points = accounts.points + $2";
        sqlx::query(upsert).bind(&event.customer).bind(event.points).execute(work.connection()).await?;
        if event.points >= 42 {
            work.raise(LevelReached(event.customer.clone()));
        }
        Ok(())
    }
}

struct Audit;

impl Handle<LevelReached> for Audit {
    async fn handle(&self, event: &LevelReached, work: &mut UnitOfWork) -> Result<(), Failure> {
        write_down(&format!("level of {}", event.0), work).await
    }
}

async fn write_down(what: &str, work: &mut UnitOfWork) -> Result<(), Failure> {
    sqlx::query("insert into audit_log values ($1)").bind(what).execute(work.connection()).await?;
    Ok(())
}

fn registry() -> Registry {
    Registry::new().on::<OrderPlaced, _>(EarnPoints).on::<PointsEarned, _>(Credit).on::<LevelReached, _>(Audit)
}

async fn begin(database: &TestDatabase, registry: Registry) -> UnitOfWork {
    UnitOfWork::begin(database.pool(), &Arc::new(registry)).await.expect("a transaction begins")
}

struct PlaceOrder {
    id: i64,
    total: i64,
}

impl Command for PlaceOrder {
    type Output = i64;
    type Error = Error;

    async fn run(&self, work: &mut UnitOfWork) -> Result<i64, Error> {
        place(&mut Order::place(self.id, self.total, "4111 1111 1111 1111"), work).await?;
        Ok(self.id)
    }
}

async fn place(order: &mut Order, work: &mut UnitOfWork) -> Result<(), Error> {
    sqlx::query("insert into orders (id, total) values ($1, $2)")
        .bind(order.id)
        .bind(order.total)
        .execute(work.connection())
        .await?;
    work.track(&mut order.events);
    Ok(())
}

/// Adds to an order by its version, as optimistic locking does.
struct AddToOrder {
    id: i64,
    cents: i64,
}

impl Command for AddToOrder {
    type Output = i64;
    type Error = Error;

    async fn run(&self, work: &mut UnitOfWork) -> Result<i64, Error> {
        let (total, version): (i64, i64) =
            sqlx::query_as("select total, version from orders where id = $1").bind(self.id).fetch_one(work.connection()).await?;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // so that two of them meet
        let update = "update orders set total = $3, version = version + 1 where id = $1 and version = $2";
        let updated = sqlx::query(update).bind(self.id).bind(version).bind(total + self.cents).execute(work.connection()).await?;
        Conflict::unless_one(updated.rows_affected(), format!("order {}", self.id))?;
        Ok(total + self.cents)
    }
}
