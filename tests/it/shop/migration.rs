//! The shop moves `order.placed` from version 1 to version 2, step by step as docs/contracts.md tells it and with the commands that stand there:
//! both versions recorded side by side, a backlog, an outage, an old dead letter, a rewind, and the retirement.

use std::collections::BTreeMap;
use std::sync::Arc;

use outboxd::contracts::Schema;
use outboxd::uow::{Contract, Decision, DomainEvent, Failure, Registry, UnitOfWork};
use serde::Serialize;

use super::{Shop, relay_config};
use crate::docs::{section_commands, words};
use crate::support::{Answer, Finished, Received, Receiver, Running, eventually};

const TWO: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["order", "customer", "sku", "quantity", "total"],
  "properties": {
    "order": { "type": "integer" },
    "customer": { "type": "string" },
    "sku": { "type": "string" },
    "quantity": { "type": "integer", "minimum": 1 },
    "total": {
      "type": "object",
      "required": ["cents", "currency"],
      "properties": { "cents": { "type": "integer", "minimum": 0 }, "currency": { "type": "string" } }
    }
  }
}"#;
const EXAMPLE: &str =
    r#"{ "order": 8, "customer": "bob", "sku": "mug", "quantity": 1, "total": { "cents": 1200, "currency": "CHF" } }"#;
const FROM_NEXT: &str = "examples = \"order.placed.1\"\nfrom_next = [{ move = [\"total.cents\", \"total_cents\"] }, { drop = \"total\" }, \
    { loses = [\"total.currency\"] }]\n";
const VERSION_2: &str = "\n[[contracts.versions]]\nversion = 2\nstate = \"draft\"\nschema = \"order.placed.2.json\"\nexamples = \"order.placed.2\"\n\
    from_previous = [{ move = [\"total_cents\", \"total.cents\"] }, { default = \"total.currency\", value = \"EUR\", invented = true }]\n";
const ENDING: &str = "version = 1\ndeprecated = { since = \"2026-03-01\", sunset = \"2026-03-02\", successor = 2 }\n";

/// The shop's next release, as far as others notice it.
struct OrderPlaced {
    order: i64,
    quantity: i32,
}

#[derive(Serialize)]
struct OrderPlacedV2 {
    order: i64,
    customer: &'static str,
    sku: &'static str,
    quantity: i32,
    total: Total,
}

#[derive(Serialize)]
struct Total {
    cents: i64,
    currency: &'static str,
}

impl Contract for OrderPlacedV2 {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 2;
}

impl DomainEvent for OrderPlaced {
    fn decide(&self) -> Result<Decision, Failure> {
        let total = Total { cents: i64::from(self.quantity) * 500, currency: "CHF" };
        let contract = OrderPlacedV2 { order: self.order, customer: "bob", sku: "tea", quantity: self.quantity, total };
        Decision::notify("order", self.order, &contract)
    }
}

/// The shop, what its relay is configured with, and the commands of the page that were not run yet.
struct Migration {
    shop: Shop,
    config: String,
    commands: std::vec::IntoIter<String>,
    relay: Option<Running>,
}

impl Migration {
    async fn begin(confirmation: &Receiver) -> Self {
        let mut shop = Shop::new().await;
        shop.relay = shop.relay.env("SHOP_MAILER_URL", &confirmation.url());
        let commands = section_commands("docs/contracts.md", "A migration, from the first commit to the retirement");
        Self { shop, config: relay_config(), commands: commands.into_iter(), relay: None }
    }

    /// Runs the next command of the page, which begins like this.
    async fn run(&mut self, beginning: &str, id: &str) -> Finished {
        let line = self.commands.next().unwrap_or_else(|| panic!("the page ends before {beginning}"));
        assert!(line.starts_with(&format!("outboxd {beginning}")), "the page has {line:?} here");
        let nil = uuid::Uuid::nil().to_string();
        let mut words: Vec<String> = words(&line).into_iter().map(|word| if word == nil { id.to_owned() } else { word }).collect();
        if beginning.starts_with("replay") || beginning.starts_with("handlers rewind") {
            words.push("--yes".to_owned()); // nobody is here to answer
        }
        let arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        self.shop.relay.run(&arguments).await
    }

    /// The same for one that succeeds.
    async fn succeed(&mut self, beginning: &str, id: &str) -> String {
        let finished = self.run(beginning, id).await;
        let log = self.relay.as_ref().map(Running::stderr).unwrap_or_default();
        assert_eq!(finished.code, Some(0), "{beginning}: {finished:?}, the relay says {log}");
        finished.stdout
    }

    async fn stop_relay(&mut self) {
        let relay = self.relay.take().expect("it was started");
        relay.terminate();
        assert_eq!(relay.finish().await.code, Some(0));
    }

    fn contracts(&self, change: impl FnOnce(String) -> String) {
        let file = self.shop.relay.directory().join("contracts/orders.toml");
        let text = std::fs::read_to_string(&file).expect("the contracts");
        let changed = change(text.clone());
        assert_ne!(text, changed);
        std::fs::write(file, changed).expect("the directory is ours");
    }

    fn configure(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from}: {}", self.config);
        self.config = self.config.replace(from, to);
        self.shop.relay.rewrite(&self.config);
    }

    /// As the release that runs until now records an amended order.
    async fn record_old(&self, order: i64, quantity: i32) {
        let cents = quantity * 500;
        self.shop
            .execute(&format!(
                "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) values ('order.placed', 'order', '{order}', \
                 '{{\"order\":{order},\"customer\":\"bob\",\"sku\":\"tea\",\"quantity\":{quantity},\"total_cents\":{cents}}}', '{{\"version\":1}}')"
            ))
            .await;
    }

    async fn record_new(&self, order: i64, quantity: i32) {
        let mut work = UnitOfWork::begin(&self.shop.pool, &Arc::new(Registry::new())).await.expect("a transaction begins");
        work.raise(OrderPlaced { order, quantity });
        work.commit().await.expect("it commits");
    }

    async fn log(&self) -> Vec<String> {
        let sql = "select id::text from outbox.events where type = 'order.placed' order by seq";
        sqlx::query_scalar(sql).fetch_all(&self.shop.pool).await.expect("the log can be read")
    }
}

fn ids(received: &[Received]) -> Vec<String> {
    received.iter().map(|one| one.header("webhook-id").expect("an id").to_owned()).collect()
}

/// How many of each order, in the order in which they came.
fn quantities(received: &[Received], order: i64) -> Vec<i64> {
    let of_order = received.iter().map(Received::json).filter(|payload| payload["order"] == order);
    of_order.map(|payload| payload["quantity"].as_i64().expect("a number")).collect()
}

fn assert_valid(received: &[Received], schema: &str, version: &str) {
    let schema = Schema::parse(schema).expect("the schema is valid");
    for one in received {
        let body = String::from_utf8_lossy(one.body());
        schema.validate(&body).unwrap_or_else(|invalid| panic!("version {version}: {invalid}: {body}"));
        assert_eq!(one.header("webhook-event-version"), Some(version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_moves_from_version_1_to_version_2_while_receivers_of_both_get_everything() {
    let (confirmation, ledger) = (Receiver::start().await, Receiver::start().await);
    let one = include_str!("../../../examples/shop/contracts/order.placed.1.json");
    let mut migration = Migration::begin(&confirmation).await;
    let _open = migration.shop.open().await;
    migration.relay = Some(migration.shop.start_relay().await);

    // A history in version 1, with a dead letter.
    confirmation.answer_with(|received| if received.json()["customer"] == "mallory" { Answer::status(422) } else { Answer::ok() });
    migration.shop.order("ann", 3).await;
    migration.shop.order("mallory", 1).await;
    for quantity in 1..=3 {
        migration.record_old(900, quantity).await;
    }
    migration.shop.wait_for("outbox.deliveries where state = 'dead' and reason = 'client_error'", 1).await;
    confirmation.wait_for(5).await;

    migration.succeed("contracts check", "").await;
    let folder = migration.shop.relay.directory().join("contracts");
    std::fs::write(folder.join("order.placed.2.json"), TWO).expect("the directory is ours");
    std::fs::create_dir(folder.join("order.placed.2")).expect("the directory is ours");
    std::fs::write(folder.join("order.placed.2/mug.json"), EXAMPLE).expect("the directory is ours");
    migration.contracts(|text| text.replace("examples = \"order.placed.1\"\n", FROM_NEXT) + VERSION_2);
    migration.succeed("contracts check", "").await;
    let differs = migration.succeed("contracts diff", "").await;
    assert!(differs.contains("order.placed@1 -> order.placed@2: breaking"), "{differs}");

    // Readers first: what is active without a pin is refused, and the new one gets the backlog.
    migration.contracts(|text| text.replace("state = \"draft\"\n", ""));
    let unpinned = migration.shop.relay.run(&["check"]).await;
    assert!(unpinned.code == Some(64) && unpinned.stderr.contains("pin one, for example \"order.placed@1\""), "{unpinned:?}");
    migration.configure("events = [\"order.placed\"]", "events = [\"order.placed@1\"]");
    migration.configure("events = [\"order.placed\", ", "events = [\"order.placed@1\", ");
    let reader = format!(
        "function = \"shop.project_stock\"\n[[handlers]]\nname = \"ledger\"\nkind = \"webhook\"\nurl = \"{}\"\nevents = [\"order.placed@2\"]\nstart = \"beginning\"\n",
        ledger.url()
    );
    migration.configure("function = \"shop.project_stock\"\n", &reader);
    migration.succeed("check", "").await;
    migration.succeed("contracts check", "").await;
    migration.succeed("reload", "").await;
    let first = migration.log().await.remove(0);
    let rendered = migration.succeed("contracts render", &first).await;
    let backlog = ledger.wait_for(5).await;
    let of_first = backlog.iter().find(|one| one.header("webhook-id") == Some(&first)).expect("it is part of the backlog");
    assert_eq!(rendered.trim_end().as_bytes(), of_first.body());

    // Old and new instances write side by side, while the reader of version 1 is down: version 2 comes all the same.
    confirmation.answer_with(|_| Answer::status(503));
    for quantity in 4..=9 {
        match quantity % 2 {
            0 => migration.record_new(900, quantity).await,
            _ => migration.record_old(900, quantity).await,
        }
    }
    let seen = ledger.wait_for_ids(11).await;
    assert_eq!(quantities(&seen, 900), (1..=9).collect::<Vec<_>>(), "in order, although written in two versions");
    assert_valid(&seen, TWO, "2");
    confirmation.answer_with(|_| Answer::ok());
    migration
        .shop
        .wait_for(
            "outbox.events e join outbox.deliveries d using (seq) join outbox.subscriptions s on s.id = d.subscription \
        where s.handler = 'confirmation' and e.type = 'order.placed' and d.state = 'delivered'",
            10,
        )
        .await;

    migration.contracts(|text| text.replace("version = 1\n", ENDING));
    migration.succeed("contracts check", "").await;
    migration.succeed("reload", "").await;
    let old_use = "outbox.contract_use where type = 'order.placed' and version = 1";
    migration.shop.wait_for(old_use, 2).await;
    let listed = migration.succeed("contracts list", "").await;
    assert!(listed.contains("confirmation, stock") && listed.contains("ledger"), "{listed}");

    // The dead letter of long ago comes in the version that its reader reads, as it was recorded.
    migration.succeed("replay", "").await;
    let second = migration.log().await.remove(1);
    let replayed = confirmation
        .wait_until("the dead letter is replayed", |received| {
            received.iter().filter(|one| one.header("webhook-id") == Some(&second) && one.header("sunset").is_some()).count() == 1
        })
        .await;
    assert_valid(&replayed, one, "1");
    let delivered = migration.log().await;
    let mut got: BTreeMap<String, usize> = BTreeMap::new();
    ids(&replayed).into_iter().for_each(|id| *got.entry(id).or_default() += 1);
    assert!(delivered.iter().all(|id| got.contains_key(id)), "{got:?}");
    ledger.clear();
    migration.succeed("handlers rewind", "").await;
    let again = ledger.wait_for(11).await;
    assert_valid(&again, TWO, "2");
    let in_order = |ids: Vec<String>| ids.into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!((again.len(), in_order(ids(&again))), (11, in_order(delivered)), "everything once more, with the same ids");
    assert_eq!(quantities(&again, 900), (1..=9).collect::<Vec<_>>());

    let refused = migration.run("contracts retire", "").await;
    assert!(refused.code == Some(1) && refused.stdout.contains("confirmation reads it: "), "{refused:?}");
    migration.configure("order.placed@1", "order.placed@2");
    migration.succeed("reload", "").await;
    confirmation.clear();
    migration.record_old(900, 10).await;
    let moved = confirmation.wait_for(1).await;
    assert_valid(&moved, TWO, "2");
    // Thirty days pass, in which only version 2 is sent. A relay that stops has written what it counted before.
    migration.stop_relay().await;
    migration
        .shop
        .execute("update outbox.migrations set applied_at = now() - interval '90 days' where name like '%contract_use'")
        .await;
    migration.shop.execute("update outbox.contract_use set first_at = now() - interval '60 days', last_at = now() - interval '31 days' where version = 1").await;
    migration.relay = Some(migration.shop.start_relay().await);
    let allowed = migration.succeed("contracts retire", "").await;
    assert!(allowed.starts_with("order.placed@1 may be retired\n"), "{allowed}");
    migration.contracts(|text| text.replace("version = 1\ndeprecated", "version = 1\nstate = \"retired\"\ndeprecated"));
    migration.succeed("check", "").await;
    migration.succeed("contracts check", "").await;
    migration.succeed("reload", "").await;
    assert_eq!(migration.commands.next(), None, "every command of the page was run");

    // An instance that was forgotten still records version 1, and nobody loses it.
    migration.record_old(900, 11).await;
    for receiver in [&confirmation, &ledger] {
        let last = receiver.wait_until("the last one comes, too", |received| quantities(received, 900).last() == Some(&11)).await;
        assert_valid(&last[last.len() - 1..], TWO, "2");
    }
    eventually("the stock is reserved once for each", || async {
        (migration.shop.get("/stock/tea").await["reserved"] == 3 + 1 + (1..=11).sum::<i64>()).then_some(())
    })
    .await;
    migration.stop_relay().await;
}
