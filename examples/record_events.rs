//! An application: commits an order and its events in one transaction. Needs only the light half of the library:
//! `outboxd = { version = "0.1", default-features = false }`.
//!
//! Run `outboxd migrate` first, then `DATABASE_URL=postgres://... cargo run --example record_events`.

use outboxd::{NewEvent, uow};
use serde_json::json;
use sqlx::{Connection, PgConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, for example postgres://app@localhost/shop")?;
    let mut connection = PgConnection::connect(&url).await?;
    let table = "create table if not exists example_orders (
        id bigint generated always as identity primary key, total_cents bigint not null)";
    sqlx::raw_sql(table).execute(&mut connection).await?;

    let order = place_order(&mut connection, 4_200).await?;
    println!("order {order} and its two events are committed; the relay takes it from here");
    Ok(())
}

/// Either the order and both events exist afterwards, or nothing does.
async fn place_order(connection: &mut PgConnection, total_cents: i64) -> Result<i64, Box<dyn std::error::Error>> {
    let mut transaction = connection.begin().await?;
    let order: i64 = sqlx::query_scalar("insert into example_orders (total_cents) values ($1) returning id")
        .bind(total_cents)
        .fetch_one(&mut *transaction)
        .await?;
    let events = [
        NewEvent::new("order.placed", json!({ "order": order, "total_cents": total_cents }))?.aggregate("order", order),
        NewEvent::new("order.confirmation_wanted", json!({ "order": order }))?
            .aggregate("order", order)
            .header("tenant", "example"),
    ];
    uow::record(&mut transaction, &events).await?;
    transaction.commit().await?; // whatever fails before this line takes the order and its events with it
    Ok(order)
}
