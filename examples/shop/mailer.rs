//! The mailer: another service as far as the shop is concerned, which happens to live in this process. Receives the confirmation as a
//! webhook, believes only what is signed, and sends one mail per event, however often the event comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use outboxd::handlers::verify;
use outboxd::settings::Secret;
use outboxd::uow::{Error, inbox};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgPool;
use tracing::{error, info};

#[derive(Clone)]
pub struct Mailer {
    pool: PgPool,
    secrets: Arc<[Secret]>,
    is_down: Arc<AtomicBool>,
}

/// A signature that is older was recorded by somebody and is being played back.
const FRESH_FOR: Duration = Duration::from_secs(300);

impl Mailer {
    /// `secret` signs the webhooks (`whsec_...`).
    pub fn new(pool: PgPool, secret: &str) -> Self {
        Self { pool, secrets: Arc::new([Secret::new(secret)]), is_down: Arc::default() }
    }

    pub fn routes(self) -> Router {
        Router::new()
            .route("/mailer/confirmations", post(confirm))
            .route("/mailer/mails", get(mails))
            .route("/mailer/outage", put(begin_outage).delete(end_outage))
            .with_state(self)
    }
}

/// What the mailer reads of `order.placed`: fields that it does not know may come and go.
#[derive(Deserialize)]
struct Confirmation {
    order: i64,
    customer: String,
}

async fn confirm(State(mailer): State<Mailer>, headers: HeaderMap, body: Bytes) -> Response {
    if mailer.is_down.load(Ordering::Relaxed) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the mail server is down").into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap_or_default());
    if !is_fresh(timestamp) || !verify(&mailer.secrets, id, timestamp, &body, header("webhook-signature")) {
        return (StatusCode::UNAUTHORIZED, "the signature is wrong").into_response();
    }
    let Ok(confirmation) = serde_json::from_slice(&body) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, "this is no order").into_response();
    };
    match mailer.send(id, &confirmation, header("traceparent")).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            error!(event_id = id, %error, "mail not sent");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Mailer {
    /// The mark and the mail are one transaction. (A real mail cannot be: there the mark would be followed by one that says "sent".)
    async fn send(&self, id: &str, confirmation: &Confirmation, trace: &str) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await?;
        if !inbox::once(&mut transaction, "mailer", "shop", id).await? {
            info!(event_id = id, "mail had been sent already");
            return Ok(());
        }
        sqlx::query("insert into mailer.mails (event_id, customer, subject, trace) values ($1, $2, $3, nullif($4, ''))")
            .bind(id)
            .bind(&confirmation.customer)
            .bind(format!("Your order {}", confirmation.order))
            .bind(trace)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        info!(event_id = id, order = confirmation.order, "mail sent");
        Ok(())
    }
}

fn is_fresh(timestamp: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    timestamp.abs_diff(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) <= FRESH_FOR.as_secs()
}

async fn mails(State(mailer): State<Mailer>) -> Result<Json<Value>, StatusCode> {
    let sent: Vec<(String, String, String)> =
        sqlx::query_as("select event_id, customer, subject from mailer.mails order by sent_at")
            .fetch_all(&mailer.pool)
            .await
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let shown = sent.iter().map(|(event, customer, subject)| json!({ "event": event, "to": customer, "subject": subject }));
    Ok(Json(shown.collect()))
}

async fn begin_outage(State(mailer): State<Mailer>) -> StatusCode {
    mailer.is_down.store(true, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

async fn end_outage(State(mailer): State<Mailer>) -> StatusCode {
    mailer.is_down.store(false, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}
