//! What others read: written down here as literal JSON, so that nothing that is done to the Rust types can change it unnoticed.

use std::sync::Arc;

use outboxd::uow::{Context, DomainEvent, Private, Registry, UnitOfWork};
use serde_json::{Value, json};
use sqlx::{PgPool, Row};

use super::Shop;
use crate::support::{Receiver, TestDatabase};

#[allow(dead_code, unused_imports)] // the example uses all of it
#[path = "../../../examples/shop/domain/mod.rs"]
mod domain;

/// The events of the shop after a long day of changes: every type has another name and another place, fields and all.
mod sales {
    pub mod events {
        use outboxd::uow::{Decision, DomainEvent, Failure, Private};

        use super::published::{Cancellation, Sale, Status};

        pub struct GoodsSold {
            #[allow(dead_code)] // a secret is nobody's field but a handler's
            pub payment: Private<String>,
            pub items: i32,
            pub buyer: String,
            pub article: String,
            pub amount: i64,
            pub sale: i64,
        }

        impl DomainEvent for GoodsSold {
            fn decide(&self) -> Result<Decision, Failure> {
                let Self { items, buyer, article, amount, sale, .. } = self;
                Decision::notify("order", sale, &Sale { cents: *amount, number: *sale, buyer, article, items: *items })
            }
        }

        pub struct SaleUndone(pub GoodsSold);

        impl DomainEvent for SaleUndone {
            fn decide(&self) -> Result<Decision, Failure> {
                let GoodsSold { items, buyer, article, sale, .. } = &self.0;
                Decision::notify("order", sale, &Cancellation { number: *sale, buyer, article, items: *items })
            }
        }

        pub struct Promoted(pub String);

        impl DomainEvent for Promoted {
            fn decide(&self) -> Result<Decision, Failure> {
                Decision::notify("account", &self.0, &Status { who: self.0.clone(), rank: "gold".to_owned() })
            }
        }
    }

    mod published {
        use outboxd::uow::Contract;
        use serde::Serialize;

        #[derive(Serialize)]
        pub struct Sale<'a> {
            #[serde(rename = "total_cents")]
            pub cents: i64,
            #[serde(rename = "order")]
            pub number: i64,
            #[serde(rename = "customer")]
            pub buyer: &'a str,
            #[serde(rename = "sku")]
            pub article: &'a str,
            #[serde(rename = "quantity")]
            pub items: i32,
        }

        impl Contract for Sale<'_> {
            const TYPE: &'static str = "order.placed";
            const VERSION: u32 = 1;
        }

        #[derive(Serialize)]
        pub struct Cancellation<'a> {
            #[serde(rename = "order")]
            pub number: i64,
            #[serde(rename = "customer")]
            pub buyer: &'a str,
            #[serde(rename = "sku")]
            pub article: &'a str,
            #[serde(rename = "quantity")]
            pub items: i32,
        }

        impl Contract for Cancellation<'_> {
            const TYPE: &'static str = "order.cancelled";
            const VERSION: u32 = 1;
        }

        #[derive(Serialize)]
        pub struct Status {
            #[serde(rename = "customer")]
            pub who: String,
            #[serde(rename = "level")]
            pub rank: String,
        }

        impl Contract for Status {
            const TYPE: &'static str = "loyalty.level_reached";
            const VERSION: u32 = 1;
        }
    }
}

/// Type, aggregate, payload and headers as the relay reads them, to the byte.
async fn recorded(pool: &PgPool) -> Vec<[String; 5]> {
    let columns = "select type, aggregate_type, aggregate_id, payload::text, headers::text from outbox.events order by seq";
    let rows = sqlx::query(columns).fetch_all(pool).await.expect("the log can be read");
    rows.iter().map(|row| [0, 1, 2, 3, 4].map(|column| row.get(column))).collect()
}

async fn begin(database: &TestDatabase) -> UnitOfWork {
    let mut work = UnitOfWork::begin(database.pool(), &Arc::new(Registry::new())).await.expect("a transaction begins");
    work.set_context(Context::new().correlation("request-1"));
    work
}

/// What these events are in an outbox of their own.
async fn record(placed: impl DomainEvent, cancelled: impl DomainEvent, level: impl DomainEvent) -> Vec<[String; 5]> {
    let database = TestDatabase::create().await;
    let mut work = begin(&database).await;
    work.raise(placed);
    work.raise(cancelled);
    work.raise(level);
    work.commit().await.expect("it commits");
    recorded(database.pool()).await
}

#[tokio::test]
async fn types_that_are_renamed_and_moved_record_the_same_bytes() {
    let card = || Private::new("4111 1111 1111 1111".to_owned());
    let purchase = || domain::Purchase { customer: "ann".to_owned(), sku: "tea".to_owned(), quantity: 3, total_cents: 1_500 };
    let goods = || sales::events::GoodsSold {
        payment: card(),
        items: 3,
        buyer: "ann".to_owned(),
        article: "tea".to_owned(),
        amount: 1_500,
        sale: 7,
    };
    let before = record(
        domain::OrderPlaced { order: 7, purchase: purchase(), card: card() },
        domain::OrderCancelled { order: 7, purchase: purchase() },
        domain::account::LevelReached { customer: "ann".to_owned() },
    )
    .await;
    let after = record(goods(), sales::events::SaleUndone(goods()), sales::events::Promoted("ann".to_owned())).await;

    assert_eq!(before, after);
    let headers = r#"{"version": 1, "correlation": "request-1"}"#;
    assert_eq!(
        before,
        [
            ["order.placed", "order", "7", r#"{"customer":"ann","order":7,"quantity":3,"sku":"tea","total_cents":1500}"#, headers],
            ["order.cancelled", "order", "7", r#"{"customer":"ann","order":7,"quantity":3,"sku":"tea"}"#, headers],
            ["loyalty.level_reached", "account", "ann", r#"{"customer":"ann","level":"gold"}"#, headers],
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_shop_records_and_what_a_receiver_gets_is_what_the_contracts_say() {
    let receiver = Receiver::start().await;
    let mut shop = Shop::new().await;
    shop.relay = shop.relay.env("SHOP_MAILER_URL", &receiver.url());
    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    shop.post("/orders", &json!({ "customer": "ann", "sku": "kettle", "quantity": 21, "card": super::CARD }))
        .send()
        .await
        .expect("the shop answers");
    shop.post("/orders/1/cancel", &json!({})).send().await.expect("the shop answers");

    let events: Vec<(String, Value)> = recorded(&shop.pool)
        .await
        .into_iter()
        .map(|[event_type, _, _, payload, _]| (event_type, serde_json::from_str(&payload).expect("a payload is JSON")))
        .collect();
    let of = |event_type: &str, payload: Value| (event_type.to_owned(), payload);
    let placed = json!({ "order": 1, "customer": "ann", "sku": "kettle", "quantity": 21, "total_cents": 102_900 });
    assert_eq!(
        events,
        [
            of("order.placed", placed.clone()),
            of("loyalty.level_reached", json!({ "customer": "ann", "level": "gold" })),
            of("order.cancelled", json!({ "order": 1, "customer": "ann", "sku": "kettle", "quantity": 21 })),
        ]
    );
    let received = receiver.wait_for(1).await;
    assert_eq!(received[0].json(), placed);
    assert_eq!(received[0].header("webhook-event-type"), Some("order.placed"));
}
