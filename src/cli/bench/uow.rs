//! What the unit of work costs: commands a second through the pipeline, and the same statements written by hand with sqlx.
//! One writer after the other and eight at once, on one pool; in turn within each round, because a shared machine drifts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use super::median;
use super::outbox::{Outbox, Server};
use super::report::Figure;
use crate::cli::CliError;
use crate::uow::{Command, Contract, Decision, DomainEvent, Error, Failure, Handle, Pipeline, Registry, UnitOfWork};

/// Accounts, so many that writers seldom meet: this is about the library, not about locks.
const ACCOUNTS: u64 = 1_000;

const INSERT_ORDER: &str = "insert into orders (id, customer, total_cents) values ($1, $2, $3)";
const ADD_POINTS: &str = "update accounts set points = points + $2 where customer = $1";

pub async fn measure(server: &Server, commands: u64, rounds: usize) -> Result<Vec<Figure>, CliError> {
    let mut figures = Vec::new();
    for writers in [1, 8] {
        figures.push(compare(server, commands, rounds, writers).await?);
    }
    Ok(figures)
}

async fn compare(server: &Server, commands: u64, rounds: usize, writers: u64) -> Result<Figure, CliError> {
    let outbox = server.outbox().await?;
    prepare(&outbox).await?;
    let pipeline = Arc::new(Pipeline::new(outbox.pool.clone(), Registry::new().on::<Placed, _>(EarnPoints)));
    let numbers = Arc::new(AtomicU64::new(0));
    let (mut by_hand, mut by_pipeline) = (vec![], vec![]);
    // The first pair is thrown away: caches, prepared statements, the first pages of the tables.
    for round in 0..=rounds.max(3) {
        for turn in [round % 2, (round + 1) % 2] {
            let way = if turn == 0 { Way::ByHand(outbox.pool.clone()) } else { Way::Pipeline(Arc::clone(&pipeline)) };
            let rate = rate(&way, &numbers, commands, writers).await?;
            match turn {
                _ if round == 0 => {}
                0 => by_hand.push(rate),
                _ => by_pipeline.push(rate),
            }
        }
    }
    let name = format!("unit of work, {writers} at once: two writes and a notification");
    Ok(Figure::new(name, median(by_pipeline), "commands/s").against("hand-written sqlx", median(by_hand)).target("0.9"))
}

async fn prepare(outbox: &Outbox) -> Result<(), CliError> {
    outbox
        .execute(&format!(
            "create table public.orders (id bigint primary key, customer text not null, total_cents bigint not null);
             create table public.accounts (customer text primary key, points bigint not null);
             insert into public.accounts select 'customer ' || n, 0 from generate_series(0, {ACCOUNTS} - 1) n;
             analyze public.accounts"
        ))
        .await
}

/// Who places the orders.
#[derive(Clone)]
enum Way {
    ByHand(PgPool),
    Pipeline(Arc<Pipeline>),
}

async fn rate(way: &Way, numbers: &Arc<AtomicU64>, commands: u64, writers: u64) -> Result<f64, CliError> {
    let share = (commands / writers).max(1);
    let began = Instant::now();
    let working: Vec<_> = (0..writers).map(|_| tokio::spawn(write(way.clone(), Arc::clone(numbers), share))).collect();
    for writer in working {
        writer.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    }
    Ok((share * writers) as f64 / began.elapsed().as_secs_f64())
}

async fn write(way: Way, numbers: Arc<AtomicU64>, count: u64) -> Result<(), Error> {
    for _ in 0..count {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let order = Order {
            id: i64::try_from(number).unwrap_or(i64::MAX),
            customer: format!("customer {}", number % ACCOUNTS),
            total_cents: 4_200,
        };
        match &way {
            Way::ByHand(pool) => place_by_hand(pool, &order).await?,
            Way::Pipeline(pipeline) => pipeline.send(&PlaceOrder(order)).await?,
        }
    }
    Ok(())
}

struct Order {
    id: i64,
    customer: String,
    total_cents: i64,
}

/// What a careful person writes: the event in the same transaction, after the statement that changes the aggregate.
async fn place_by_hand(pool: &PgPool, order: &Order) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(INSERT_ORDER).bind(order.id).bind(&order.customer).bind(order.total_cents).execute(&mut *transaction).await?;
    sqlx::query(ADD_POINTS).bind(&order.customer).bind(order.total_cents / 100).execute(&mut *transaction).await?;
    let id = uuid::Uuid::now_v7();
    let payload = json!({ "order": order.id, "customer": order.customer, "total_cents": order.total_cents });
    sqlx::query(
        "insert into outbox.events (id, type, aggregate_type, aggregate_id, payload, headers)
         values ($1, 'order.placed', 'order', $2, $3::text::json, $4)",
    )
    .bind(id)
    .bind(order.id.to_string())
    .bind(payload.to_string())
    .bind(json!({ "version": 1, "correlation": id }))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

struct PlaceOrder(Order);

impl Command for PlaceOrder {
    type Output = ();
    type Error = Error;

    async fn run(&self, work: &mut UnitOfWork) -> Result<(), Error> {
        let Self(Order { id, customer, total_cents }) = self;
        sqlx::query(INSERT_ORDER).bind(id).bind(customer).bind(total_cents).execute(work.connection()).await?;
        work.raise(Placed { order: *id, customer: customer.clone(), total_cents: *total_cents });
        Ok(())
    }
}

struct Placed {
    order: i64,
    customer: String,
    total_cents: i64,
}

#[derive(Serialize)]
struct PlacedV1<'a> {
    order: i64,
    customer: &'a str,
    total_cents: i64,
}

impl Contract for PlacedV1<'_> {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 1;
}

impl DomainEvent for Placed {
    fn decide(&self) -> Result<Decision, Failure> {
        let contract = PlacedV1 { order: self.order, customer: &self.customer, total_cents: self.total_cents };
        Decision::notify("order", self.order, &contract)
    }
}

struct EarnPoints;

impl Handle<Placed> for EarnPoints {
    async fn handle(&self, event: &Placed, work: &mut UnitOfWork) -> Result<(), Failure> {
        sqlx::query(ADD_POINTS).bind(&event.customer).bind(event.total_cents / 100).execute(work.connection()).await?;
        Ok(())
    }
}
