//! The management API in this process, on a real database: the router is called as the listener calls it, with a caller in the extensions of
//! the request. No relay runs here; the rows are those that one would have left.

mod access;
mod acts;
mod document;
mod edits;
mod letters;
mod pages;
mod parity;
mod replays;
mod requests;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use outboxd::management::{self, ApiState};
use outboxd::operations::{Caller, Role, Via};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Binary, NewRow, TestDatabase};

/// An outbox with the handler `billing`, and the API on it.
struct Api {
    database: TestDatabase,
    router: Router,
}

/// An answer with its body, as JSON where it is some.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    json: Value,
}

impl Api {
    async fn create() -> Self {
        let database = TestDatabase::create().await;
        let router = Router::new().nest("/api/v1", management::router(ApiState::new(database.pool().clone(), "outbox")));
        let api = Self { database, router };
        api.add_handler("billing").await;
        api
    }

    /// A handler that has read everything and that a relay serves.
    async fn add_handler(&self, name: &str) {
        let sql = format!(
            "insert into outbox.subscriptions (handler, kind, snapshot, low_seq, high_seq, owner, lease_until)
             values ('{name}', 'webhook', '3:3:', 0, 0, 'r1', clock_timestamp() + interval '1 hour')"
        );
        self.database.execute(&sql).await;
    }

    /// Records an event and a delivery of it to `billing`, and gives the id of the event.
    async fn add(&self, state: &str, key: &str) -> Uuid {
        let row = NewRow::new("order.placed").of("order", "42").payload(serde_json::json!({ "seq": 7 }));
        let id = self.database.insert_event(row).await;
        sqlx::query(
            "insert into outbox.deliveries (subscription, seq, state, attempts, key, reason, status, detail, fingerprint, first_attempt_at, handled_at,
                                            holds_key, due_at)
             select s.id, e.seq, $2::outbox.delivery_state, 12, $3, 'server_error', 500, 'boom', 7, clock_timestamp(),
                    case when $2 in ('dead', 'delivered') then clock_timestamp() end, $2 = 'dead',
                    case when $2 = 'retrying' then clock_timestamp() + interval '1 hour' end
               from outbox.events e, outbox.subscriptions s where e.id = $1 and s.handler = 'billing'",
        )
        .bind(id)
        .bind(state)
        .bind(key)
        .execute(self.database.pool())
        .await
        .expect("the delivery is well formed");
        id
    }

    async fn add_dead(&self, count: usize) {
        for number in 0..count {
            self.add("dead", &format!("k{}", number % 3)).await;
        }
    }

    async fn send(&self, caller: Option<Caller>, request: Request<Body>) -> Reply {
        let mut request = request;
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let service = TowerToHyperService::new(self.router.clone());
        let response = service.call(request).await.expect("a router always answers");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.expect("the body is in memory");
        let text = String::from_utf8(bytes.to_vec()).expect("an answer is a text");
        let json = serde_json::from_str(&text).unwrap_or_default();
        Reply { status: parts.status, headers: parts.headers, text, json }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Some(admin()), request("GET", path, None)).await
    }

    /// What was got, which must be there.
    async fn read(&self, path: &str) -> Value {
        let reply = self.get(path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        reply.json
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Some(admin()), request("POST", path, Some(body))).await
    }

    async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Some(admin()), request("PUT", path, Some(body))).await
    }

    /// The binary, for the same outbox.
    fn binary(&self) -> Binary {
        Binary::with_config("").env("OUTBOXD_DATABASE_URL", self.database.url()).env("OUTBOXD_ACTOR", "ada")
    }
}

impl Reply {
    /// The kind of a problem.
    fn kind(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert_eq!(self.json["status"], self.status.as_u16(), "{}", self.text);
        self.json["type"].as_str().and_then(|kind| kind.strip_prefix("urn:outboxd:")).expect("a problem has a kind")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn request(verb: &str, path: &str, body: Option<&Value>) -> Request<Body> {
    let request = Request::builder().method(verb).uri(format!("/api/v1{path}"));
    match body {
        Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    }
    .expect("the request is well formed")
}

fn caller(role: Role, sees_payloads: bool) -> Caller {
    Caller { name: "ann".to_owned(), role, sees_payloads, via: Via::Api }
}

fn admin() -> Caller {
    caller(Role::Admin, true)
}
