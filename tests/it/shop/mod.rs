//! The example `shop`, end to end: the program itself, the relay beside it, and everything that may happen to either.

mod crashes;
mod mailer;
mod meetings;
mod migration;
mod secrets;
mod wire;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::contracts::copy;
use crate::support::{Binary, DEADLINE, Running, TestDatabase, eventually, free_port};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CARD: &str = "4111 1111 1111 1111";

/// A shop that is to be opened on some database, and what it takes to look into it. It keeps its address over a restart.
struct Shop {
    program: Binary,
    relay: Binary,
    address: String,
    client: reqwest::Client,
    pool: PgPool,
    url: String,
    /// Goes with the test.
    database: Option<TestDatabase>,
}

/// The configuration of the example, in a hurry.
fn relay_config() -> String {
    let hurried = [
        ("name = \"shop\"\n", "name = \"shop\"\nlease = \"3s\"\nflush_interval = \"20ms\"\n"),
        ("base = \"1s\"\n", "base = \"20ms\"\n"),
        ("max_attempts = 7\n", "max_attempts = 7\n[handlers.circuit]\nfirst_probe = \"50ms\"\nmax_probe = \"200ms\"\n"),
    ];
    hurried.iter().fold(include_str!("../../../examples/shop/outboxd.toml").to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

impl Shop {
    async fn new() -> Self {
        let database = TestDatabase::empty().await;
        let mut shop = Self::on(database.url(), &relay_config()).await;
        shop.database = Some(database);
        shop
    }

    /// On a database of the caller's; without an address the shop brings its own.
    async fn on(url: &str, relay_config: &str) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listen = format!("127.0.0.1:{}", free_port());
        let program = Binary::example("shop").await.env("DATABASE_URL", url).env("SHOP_RELAY", "off").env("SHOP_LISTEN", &listen);
        let relay = Binary::with_config(relay_config);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/contracts"), &relay.directory().join("contracts"));
        let relay = relay.env("DATABASE_URL", url).env("SHOP_RELAY_LISTEN", "127.0.0.1:0");
        let address = format!("http://{listen}");
        Self {
            program: program.env("SHOP_MAILER_SECRET", SECRET),
            relay: relay.env("SHOP_MAILER_SECRET", SECRET).env("SHOP_MAILER_URL", &format!("{address}/mailer/confirmations")),
            address,
            client: reqwest::Client::builder().timeout(DEADLINE).build().expect("a client without options builds"),
            pool: pool(if url.is_empty() { "postgres://nobody@localhost" } else { url }),
            url: url.to_owned(),
            database: None,
        }
    }

    /// With this environment variable from now on.
    fn env(mut self, name: &str, value: &str) -> Self {
        self.program = self.program.env(name, value);
        self
    }

    /// Starts the application; it answers when this returns.
    async fn open(&self) -> Running {
        self.open_as(&self.program).await
    }

    async fn open_as(&self, program: &Binary) -> Running {
        let running = program.spawn(&[]);
        running.wait_for_output("The shop is open").await;
        running
    }

    /// Starts the relay: the real `outboxd run`.
    async fn start_relay(&self) -> Running {
        let running = self.relay.spawn(&["run"]);
        running.wait_for_output("relay started").await;
        running
    }

    fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.address)).header("content-type", "application/json").body(body.to_string())
    }

    fn ordering(&self, customer: &str, quantity: i32) -> reqwest::RequestBuilder {
        self.post("/orders", &json!({ "customer": customer, "sku": "tea", "quantity": quantity, "card": CARD }))
    }

    /// Places an order that has to succeed.
    async fn order(&self, customer: &str, quantity: i32) -> Value {
        placed(self.ordering(customer, quantity).send().await.expect("the shop answers")).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.address)).send().await.expect("the shop answers");
        serde_json::from_str(&answer.text().await.expect("a text")).expect("it answers in JSON")
    }

    async fn mail_is_down(&self, is_down: bool) {
        let url = format!("{}/mailer/outage", self.address);
        let request = if is_down { self.client.put(url) } else { self.client.delete(url) };
        assert_eq!(request.send().await.expect("the mailer answers").status(), 204);
    }

    async fn count(&self, what: &str) -> i64 {
        let sql = AssertSqlSafe(format!("select count(*) from {what}"));
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("the count is valid SQL")
    }

    async fn wait_for(&self, what: &str, count: i64) {
        eventually(&format!("{count} {what}"), || async { (self.count(what).await == count).then_some(()) }).await;
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.expect("the statement of the test works");
    }
}

fn pool(url: &str) -> PgPool {
    let options = sqlx::postgres::PgPoolOptions::new().acquire_timeout(Duration::from_secs(60));
    options.connect_lazy(url).expect("the address is valid")
}

async fn placed(answer: reqwest::Response) -> Value {
    let status = answer.status();
    let text = answer.text().await.expect("a text");
    assert_eq!(status, 201, "{text}");
    serde_json::from_str(&text).expect("it answers in JSON")
}

/// Of a child of the program that is waited for by nobody here.
fn is_running(pid: &str) -> bool {
    let pid = pid.parse().expect("a number");
    // SAFETY: takes two numbers; signal 0 only asks.
    unsafe { libc::kill(pid, 0) == 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_opens_a_shop_whose_orders_have_all_their_effects() {
    let shop = Shop::on("", "").await.env("SHOP_RELAY", "").env("SHOP_RELAY_LISTEN", "127.0.0.1:0");
    let running = shop.open().await;
    let said = running.wait_for_output("The relay beside it is process").await;
    let relay = said.split("process ").nth(1).and_then(|rest| rest.split(',').next()).expect("it names the process").to_owned();

    let order = shop.order("ann", 3).await;
    assert_eq!((&order["total_cents"], &order["events"][0]["type"]), (&json!(1_500), &json!("order.placed")));
    assert_eq!(shop.get("/accounts/ann").await["points"], 15, "in the same transaction");
    assert_eq!(shop.get("/orders/1").await["status"], "placed");
    eventually("the stock is reserved", || async { (shop.get("/stock/tea").await["reserved"] == 3).then_some(()) }).await;
    let mails =
        eventually("a mail was sent", || async { Some(shop.get("/mailer/mails").await).filter(|mails| mails[0].is_object()) })
            .await;
    assert_eq!(mails, json!([{ "event": order["events"][0]["id"], "to": "ann", "subject": "Your order 1" }]));
    shop.post("/orders/1/cancel", &json!({})).send().await.expect("the shop answers");
    assert_eq!(shop.get("/accounts/ann").await["points"], 0);
    eventually("the stock is free again", || async { (shop.get("/stock/tea").await["reserved"] == 0).then_some(()) }).await;

    running.interrupt();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(!is_running(&relay), "the relay goes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_does_not_outlive_a_shop_that_was_killed() {
    let shop = Shop::new().await.env("SHOP_RELAY", "").env("SHOP_RELAY_LISTEN", "127.0.0.1:0");
    let running = shop.open().await;
    let said = running.wait_for_output("The relay beside it is process").await;
    let relay = said.split("process ").nth(1).and_then(|rest| rest.split(',').next()).expect("it names the process");
    running.kill().await;
    eventually("the relay is gone", || async { (!is_running(relay)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_whose_relay_cannot_run_closes_and_says_why() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let listen = taken.local_addr().expect("a bound socket has an address").to_string();
    let shop = Shop::new().await.env("SHOP_RELAY", "").env("SHOP_RELAY_LISTEN", &listen);
    let finished = shop.program.run(&[]).await;
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains(&format!("could not listen on {listen}")), "{}", finished.stderr);
    assert!(finished.stderr.contains("the relay ended"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_and_within_which_trace_arrives_with_every_event() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let shop = Shop::new().await;
    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    let asked = shop.ordering("ann", 1).header("x-correlation-id", "c-1").header("x-actor", "ann").header("traceparent", TRACE);
    placed(asked.send().await.expect("the shop answers")).await;

    let headers: Value =
        sqlx::query_scalar("select headers from outbox.events").fetch_one(&shop.pool).await.expect("one event was recorded");
    assert_eq!(headers, json!({ "version": 1, "correlation": "c-1", "actor": "ann", "traceparent": TRACE }));
    shop.wait_for(&format!("mailer.mails where trace = '{TRACE}'"), 1).await;
}
