//! The web side: requests become commands, and what came of them becomes answers. Who asked, and within which trace, goes along as the
//! context of the unit of work, and from there to the headers of every event.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use outboxd::telemetry::chain;
use outboxd::uow::{Committed, Context, Pipeline, Private, is_worth_another_try};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use tracing::{error, info};

use crate::commands::{CancelOrder, PlaceOrder, ShopError};
use crate::domain::Order;
use crate::tables;

/// What a request needs.
#[derive(Debug, Clone)]
pub struct Shop {
    pub pipeline: Pipeline,
    pub pool: PgPool,
}

pub fn routes(shop: Shop) -> Router {
    Router::new()
        .route("/orders", post(place_order))
        .route("/orders/{id}", get(show_order))
        .route("/orders/{id}/cancel", post(cancel_order))
        .route("/accounts/{customer}", get(show_account))
        .route("/stock/{sku}", get(show_stock))
        .with_state(shop)
}

type Answer = Result<Response, ShopError>;

/// The body of `POST /orders`.
#[derive(Deserialize)]
struct NewOrder {
    customer: String,
    sku: String,
    quantity: i32,
    card: Private<String>,
}

async fn place_order(State(shop): State<Shop>, headers: HeaderMap, body: Bytes) -> Answer {
    let new: NewOrder = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(mistake) => return Ok(not_understood(&mistake)),
    };
    let command = PlaceOrder { customer: new.customer, sku: new.sku, quantity: new.quantity, card: new.card };
    let done = shop.pipeline.send_in(&context(&headers), &command).await?;
    info!(order = done.output.id, "order placed");
    let location = format!("/orders/{}", done.output.id);
    Ok((StatusCode::CREATED, [("location", location)], Json(changed(&done.output, &done.committed))).into_response())
}

async fn cancel_order(State(shop): State<Shop>, Path(id): Path<i64>, headers: HeaderMap) -> Answer {
    let done = shop.pipeline.send_in(&context(&headers), &CancelOrder { order: id }).await?;
    info!(order = id, "order cancelled");
    Ok(Json(changed(&done.output, &done.committed)).into_response())
}

async fn show_order(State(shop): State<Shop>, Path(id): Path<i64>) -> Answer {
    let order = tables::load_order(id, &mut *shop.pool.acquire().await?).await?;
    let order = order.ok_or(ShopError::Missing("such order"))?;
    Ok(Json(shown(&order)).into_response())
}

async fn show_account(State(shop): State<Shop>, Path(customer): Path<String>) -> Answer {
    let account = tables::load_account(&customer, &mut *shop.pool.acquire().await?).await?;
    Ok(Json(json!({ "customer": account.customer, "points": account.points })).into_response())
}

async fn show_stock(State(shop): State<Shop>, Path(sku): Path<String>) -> Answer {
    let stock: Option<(i32, i32)> =
        sqlx::query_as("select on_hand, reserved from shop.stock where sku = $1").bind(&sku).fetch_optional(&shop.pool).await?;
    let (on_hand, reserved) = stock.ok_or(ShopError::Missing("such product"))?;
    Ok(Json(json!({ "sku": sku, "on_hand": on_hand, "reserved": reserved })).into_response())
}

/// Where the request came from. Events say so, too, and the webhook passes `traceparent` on.
fn context(headers: &HeaderMap) -> Context {
    let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut context = Context::new();
    for (header, name) in
        [("x-correlation-id", "correlation"), ("traceparent", "traceparent"), ("tracestate", "tracestate"), ("x-actor", "actor")]
    {
        if let Some(value) = of(header) {
            context = context.header(name, value);
        }
    }
    context
}

fn shown(order: &Order) -> Value {
    json!({
        "order": order.id, "customer": order.purchase.customer, "sku": order.purchase.sku, "quantity": order.purchase.quantity,
        "total_cents": order.purchase.total_cents, "status": order.status.name(),
    })
}

/// The order, and the ids under which receivers get the events of this request: `outboxd events show <id>` tells what became of each.
fn changed(order: &Order, committed: &Committed) -> Value {
    let mut answer = shown(order);
    let events = committed.notifications.iter().map(|notified| json!({ "id": notified.id, "type": notified.event_type }));
    answer["events"] = events.collect();
    answer
}

// Only the place: the words of the parser may quote what was sent, and that may be a card number.
fn not_understood(mistake: &serde_json::Error) -> Response {
    let expected = r#"{"customer": "ann", "sku": "tea", "quantity": 1, "card": "..."}"#;
    let text = format!("expected {expected}; line {}, column {} is not that", mistake.line(), mistake.column());
    (StatusCode::BAD_REQUEST, Json(json!({ "error": text }))).into_response()
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        let (status, text) = match &self {
            Self::Refused(reason) => (StatusCode::UNPROCESSABLE_ENTITY, reason.to_string()),
            Self::Missing(_) => (StatusCode::NOT_FOUND, self.to_string()),
            error if is_worth_another_try(error) => (StatusCode::SERVICE_UNAVAILABLE, "too many at once, try again".to_owned()),
            error => {
                error!(error = %chain(error), "request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "this did not work, and it is our fault".to_owned())
            }
        };
        (status, Json(json!({ "error": text }))).into_response()
    }
}
