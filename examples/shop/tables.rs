//! Where aggregates are stored. Each is saved only if it is still the version that was read (optimistic locking): of two commands that
//! meet on one, the second gets a `Conflict`, and the pipeline runs it again.

use outboxd::uow::{Conflict, Recorder};
use sqlx::{PgConnection, PgPool};

use crate::commands::ShopError;
use crate::domain::{LoyaltyAccount, Order, Purchase, Status};

/// Makes the tables of the shop and of the mailer, where they are missing.
pub async fn create(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("schema.sql")).execute(pool).await.map(drop)
}

/// A number for an order; those of orders that never come to be are left out.
pub async fn next_order_number(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select nextval('shop.order_numbers')").fetch_one(connection).await
}

pub async fn price_cents(sku: &str, connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("select price_cents from shop.products where sku = $1").bind(sku).fetch_optional(connection).await
}

pub async fn insert_order(order: &Order, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let Purchase { customer, sku, quantity, total_cents } = &order.purchase;
    sqlx::query("insert into shop.orders (id, customer, sku, quantity, total_cents, status) values ($1, $2, $3, $4, $5, $6)")
        .bind(order.id)
        .bind(customer)
        .bind(sku)
        .bind(quantity)
        .bind(total_cents)
        .bind(order.status.name())
        .execute(connection)
        .await
        .map(drop)
}

pub async fn load_order(id: i64, connection: &mut PgConnection) -> Result<Option<Order>, sqlx::Error> {
    type Row = (String, String, i32, i64, bool, i64);
    let row: Option<Row> =
        sqlx::query_as("select customer, sku, quantity, total_cents, status = 'cancelled', version from shop.orders where id = $1")
            .bind(id)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(customer, sku, quantity, total_cents, is_cancelled, version)| Order {
        id,
        purchase: Purchase { customer, sku, quantity, total_cents },
        status: if is_cancelled { Status::Cancelled } else { Status::Placed },
        version,
        events: Recorder::new(),
    }))
}

pub async fn update_order(order: &Order, connection: &mut PgConnection) -> Result<(), ShopError> {
    let updated = sqlx::query("update shop.orders set status = $3, version = version + 1 where id = $1 and version = $2")
        .bind(order.id)
        .bind(order.version)
        .bind(order.status.name())
        .execute(connection)
        .await?;
    Ok(Conflict::unless_one(updated.rows_affected(), format!("order {}", order.id))?)
}

/// The account of a customer; a new one if there is none.
pub async fn load_account(customer: &str, connection: &mut PgConnection) -> Result<LoyaltyAccount, sqlx::Error> {
    let row: Option<(i64, i64)> = sqlx::query_as("select points, version from shop.accounts where customer = $1")
        .bind(customer)
        .fetch_optional(connection)
        .await?;
    let account = LoyaltyAccount::new(customer);
    Ok(match row {
        Some((points, version)) => LoyaltyAccount { points, version, ..account },
        None => account,
    })
}

pub async fn save_account(account: &LoyaltyAccount, connection: &mut PgConnection) -> Result<(), ShopError> {
    let statement = match account.version {
        0 => "insert into shop.accounts (customer, version, points) values ($1, $2 + 1, $3) on conflict do nothing",
        _ => "update shop.accounts set points = $3, version = version + 1 where customer = $1 and version = $2",
    };
    let saved =
        sqlx::query(statement).bind(&account.customer).bind(account.version).bind(account.points).execute(connection).await?;
    Ok(Conflict::unless_one(saved.rows_affected(), format!("account {}", account.customer))?)
}
