//! Contracts: what each kind sends of an event that was recorded in another version, and the life of a migration on the built binary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outboxd::app;
use outboxd::config::ProcessEnvironment;
use outboxd::domain::{Notification, Outcome, Reason};
use outboxd::handlers::{Built, Handler, Kind};
use outboxd::relay::attempt;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::conformance::{Arrived, counterparts};
use crate::support::{Binary, Finished, Receiver, TestDatabase, eventually};

const TIMEOUT: Duration = Duration::from_secs(60);

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples")
}

fn build(kind: &Kind, settings: &str, version: u32) -> Arc<dyn Handler> {
    let text = format!(
        "[database]\nurl = \"postgres://nobody@127.0.0.1/none\"\n[contracts]\npath = \"contracts\"\n\
         [[handlers]]\nname = \"tried\"\nkind = \"{}\"\nevents = [\"order.*@{version}\", \"*\"]\n{settings}\n",
        kind.name
    );
    let environment = ProcessEnvironment::of_file(&examples().join("outboxd.toml"));
    let loaded = app::parse(&text, &environment).unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", kind.name));
    match loaded.handlers.into_iter().next().expect("one handler").1 {
        Built::Handler(handler) => handler,
        Built::Function(_) | Built::Projection(_) | Built::Publisher => {
            panic!("a function has no counterpart outside the database")
        }
    }
}

/// What a member holds that no cast names: with numbers, white space and escapes that any parsing would change.
const FREE: &[&str] =
    &["[ 9007199254740993 , 1.10 ]", "{\"\\u0062\": \"\\u00e9\\/\" ,\"a\":1e400}", "\"\u{1F600}\"", "null", "-0.0"];

/// An event of this version, and its payload in the other one.
fn event(number: u32, version: u32) -> (Notification, String) {
    let free = FREE[number as usize % FREE.len()];
    let cents = u64::from(number) * 9_007_199_254_740_993 + 305;
    let (whole, rest) = (cents / 100, cents % 100);
    let one = |space: &str| {
        format!(
            "{{\"id\":{space}\"o-{number}\",\"total\":\"{whole}.{rest:02}\",\"status\":\"paid\",\"free\":{space}{free}{space}}}"
        )
    };
    let two = |space: &str, currency: &str, end: &str| {
        format!(
            "{{\"order_id\":{space}\"o-{number}\",\"total_cents\":{cents},{currency}\"status\":\"settled\",\"free\":{space}{free}{space}{end}}}"
        )
    };
    let (payload, other, headers) = match version {
        1 => (one(" "), two("", "", ",\"currency\":\"EUR\""), "{}".to_owned()),
        _ => (two(" ", "\"currency\":\"CHF\",", ""), one(""), "{\"version\": 2}".to_owned()),
    };
    let notification = Notification {
        id: Uuid::now_v7(),
        aggregate_id: Some(number.to_string()),
        key: Some(format!("order/{number}")),
        headers,
        ..Notification::sample("order.placed", &payload)
    };
    (notification, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_sends_the_version_that_it_is_pinned_to_and_an_equal_one_as_recorded() {
    for (kind, counterpart) in counterparts().await {
        let mut sent = Vec::new();
        for pinned in [1, 2] {
            let handler = build(kind, &counterpart.settings(), pinned);
            let events: Vec<_> = (1..=20).map(|number| (event(number, 1 + number % 2), 1 + number % 2)).collect();
            let verdicts = handler.deliver_all(events.iter().take(5).map(|((event, _), _)| event).collect()).await;
            assert!(verdicts.iter().all(|verdict| verdict.is_delivered()), "{}: {verdicts:?}", kind.name);
            for ((event, _), _) in events.iter().skip(5) {
                let verdict = attempt(&*handler, event, TIMEOUT).await;
                assert!(verdict.is_delivered(), "{}: {verdict:?}", kind.name);
            }
            for ((event, other), version) in events {
                let body = if version == pinned { event.payload.clone() } else { other };
                sent.push(Arrived { id: event.id.to_string(), body });
            }
            let (bad, _) = event(3, 3 - pinned);
            let bad = Notification { payload: bad.payload.replace("\"o-3\"", "4711"), ..bad };
            let verdict = attempt(&*handler, &bad, TIMEOUT).await;
            assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Contract), "{}: {verdict:?}", kind.name);
            assert!(!verdict.detail.contains("4711"), "{}", verdict.detail);
        }
        let mut arrived = eventually(&format!("{}: all events arrive", kind.name), || async {
            let arrived = counterpart.arrived().await;
            (arrived.len() >= sent.len()).then_some(arrived)
        })
        .await;
        let by_id = |one: &Arrived, other: &Arrived| one.id.cmp(&other.id);
        arrived.sort_by(by_id);
        sent.sort_by(by_id);
        assert_eq!(arrived, sent, "{}: each once, and nothing that has no valid form", kind.name);
    }
}

/// A relay with an old receiver, a new one and a function, and the contracts of the example beside its configuration.
struct Shop {
    database: TestDatabase,
    binary: Binary,
    old: Receiver,
    new: Receiver,
}

impl Shop {
    async fn open() -> Self {
        let (database, old, new) = (TestDatabase::create().await, Receiver::start().await, Receiver::start().await);
        database
            .execute(
                "create schema app;
                 create table app.orders (id text, cents bigint, version text, seq bigint generated always as identity);
                 create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language sql as
                 $$ insert into app.orders (id, cents, version) select payload ->> 'order_id', (payload ->> 'total_cents')::bigint, headers ->> 'version' $$;",
            )
            .await;
        let webhook = |name: &str, receiver: &Receiver, version: u32| {
            format!(
                "[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"\n\
                 events = [\"order.placed@{version}\"]\nheaders = {{ x-version = \"v{{version}}\" }}\n",
                receiver.url()
            )
        };
        let sql = "[[handlers]]\nname = \"stock\"\nkind = \"sql\"\nfunction = \"app.take\"\nstart = \"beginning\"\nevents = [\"order.placed@2\"]\n";
        let handlers = [webhook("old", &old, 1), webhook("new", &new, 2), sql.to_owned()].concat();
        let binary = Binary::relay(database.url(), &format!("[contracts]\npath = \"contracts\"\n{handlers}"));
        copy(&examples().join("contracts"), &binary.directory().join("contracts"));
        Self { database, binary, old, new }
    }

    async fn record(&self, number: u32, payload: &str, version: Option<u32>) -> Uuid {
        let headers = version.map_or_else(|| "{}".to_owned(), |version| format!("{{\"version\":{version}}}"));
        let sql = format!(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) \
             values ('order.placed', 'order', '{number}', '{payload}', '{headers}') returning id"
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(self.database.pool()).await.expect("an event")
    }

    async fn orders(&self, count: i64) -> Vec<String> {
        eventually(&format!("{count} orders"), || async { (self.database.count("app.orders").await >= count).then_some(()) }).await;
        let sql = "select id || ' ' || cents || ' ' || coalesce(version, '-') from app.orders order by seq";
        sqlx::query_scalar(sql).fetch_all(self.database.pool()).await.expect("the orders")
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        self.binary.run(arguments).await
    }

    fn change(&self, from: &str, to: &str) {
        let file = self.binary.directory().join("contracts/orders.toml");
        let text = std::fs::read_to_string(&file).expect("the contracts");
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).expect("the directory is ours");
    }
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the directory is ours");
    for entry in std::fs::read_dir(from).expect("the example").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("a file of the example")),
        }
    }
}

const OLD: &str = r#"{"id": "o-1", "total": "12.50", "status": "new"}"#;
const NEW: &str = r#"{"order_id": "o-2", "total_cents": 99, "currency": "CHF", "status": "settled"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn receivers_of_two_versions_stand_side_by_side_and_a_mended_cast_heals_a_dead_letter() {
    let shop = Shop::open().await;
    let checked = shop.run(&["check"]).await;
    assert!(checked.code == Some(0) && checked.stdout.contains("order.placed@1"), "{checked:?}");
    let relay = shop.binary.spawn(&["run"]);
    shop.record(1, OLD, None).await;
    let second = shop.record(2, NEW, Some(2)).await;
    // Version 2 knows no status "lost": the cast does not list it.
    let odd = shop.record(3, r#"{"id": "o-3", "total": "1.00", "status": "lost"}"#, None).await;
    shop.record(3, r#"{"id": "o-4", "total": "2.00", "status": "paid"}"#, Some(1)).await;

    let old = shop.old.wait_for(4).await;
    let new = shop.new.wait_for(3).await;
    let seen = |received: &[crate::support::Received]| {
        let mut seen: Vec<String> = received
            .iter()
            .map(|one| format!("{} {}", one.header("x-version").unwrap_or("-"), String::from_utf8_lossy(one.body())))
            .collect();
        seen.sort();
        seen
    };
    assert_eq!(
        seen(&old),
        [
            r#"v1 {"id": "o-1", "total": "12.50", "status": "new"}"#,
            r#"v1 {"id": "o-3", "total": "1.00", "status": "lost"}"#,
            r#"v1 {"id": "o-4", "total": "2.00", "status": "paid"}"#,
            r#"v1 {"id":"o-2","total":"0.99","status":"paid"}"#,
        ]
    );
    assert_eq!(
        seen(&new),
        [
            r#"v2 {"order_id": "o-2", "total_cents": 99, "currency": "CHF", "status": "settled"}"#,
            r#"v2 {"order_id":"o-1","total_cents":1250,"status":"created","currency":"EUR"}"#,
            r#"v2 {"order_id":"o-4","total_cents":200,"status":"settled","currency":"EUR"}"#,
        ]
    );
    assert!(new.iter().all(|one| one.header("webhook-event-version") == Some("2") && one.header("sunset").is_none()));
    assert!(old.iter().all(|one| one.header("sunset") == Some("Thu, 31 Dec 2026 00:00:00 GMT")));
    assert!(old.iter().all(|one| one.header("deprecation") == Some("@1772323200")));
    let mut orders = shop.orders(3).await;
    orders.sort();
    assert_eq!(orders, ["o-1 1250 2", "o-2 99 2", "o-4 200 2"]);

    let reason = "state = 'dead' and reason = 'contract'";
    eventually("both handlers of version 2 have given it up", || async {
        (shop.database.count(&format!("deliveries where {reason}")).await == 2).then_some(())
    })
    .await;
    assert_eq!(shop.database.count("deliveries where state = 'dead'").await, 2, "version 1 has no trouble");
    assert_eq!(shop.database.count("subscriptions where circuit <> 'closed'").await, 0);
    let refused = shop.run(&["contracts", "render", &odd.to_string(), "--version", "2"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("map \"status\": the value is one that the map does not list"), "{refused:?}");
    let rendered = shop.run(&["contracts", "render", &second.to_string(), "--version", "1"]).await;
    assert_eq!(rendered.stdout, "{\"id\":\"o-2\",\"total\":\"0.99\",\"status\":\"paid\"}\n");
    for (version, want) in
        [("1", r#""payload": {"id":"o-2","total":"0.99","status":"paid"}"#), ("2", &format!("\"payload\": {NEW}"))]
    {
        let shown = shop.run(&["events", "show", &second.to_string(), "--version", version, "--json"]).await;
        assert!(shown.code == Some(0) && shown.stdout.contains(want), "{want}: {shown:?}");
    }
    let none = shop.run(&["events", "show", &odd.to_string(), "--version", "2"]).await;
    assert!(none.code == Some(1) && none.stderr == refused.stderr, "{none:?}: the same words as the relay's");

    shop.change("{ new = \"created\", paid = \"settled\" }", "{ new = \"created\", paid = \"settled\" }, otherwise = \"created\"");
    let reloaded = shop.run(&["reload", "--json"]).await;
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    for handler in ["new", "stock"] {
        let replayed =
            shop.run(&["replay", "--handler", handler, "--reason", "contract", "--because", "the cast is mended", "--yes"]).await;
        assert_eq!(replayed.code, Some(0), "{replayed:?}");
    }
    let healed = shop.new.wait_for(4).await;
    assert_eq!(healed[3].body(), br#"{"order_id":"o-3","total_cents":100,"status":"created","currency":"EUR"}"#);
    assert_eq!(shop.orders(4).await[3], "o-3 100 2");
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test]
async fn what_was_published_is_kept_in_a_lock_and_compared_with_it_without_a_database() {
    let shop = Shop::open().await;
    // The producer's pipeline has neither the database nor the secrets of the relay.
    let text = "[contracts]\npath = \"contracts\"\n[[handlers]]\nname = \"old\"\nkind = \"webhook\"\nurl = \"${NOWHERE}\"\nevents = [\"order.placed@1\"]\n";
    shop.binary.rewrite(text);
    let against = ["contracts", "check", "--against", "contracts.lock"];
    assert_eq!(shop.run(&against).await.code, Some(1), "there is no lock yet");
    let created = shop.run(&[&against[..], &["--update"]].concat()).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let unchanged = shop.run(&against).await;
    assert!(unchanged.code == Some(0) && unchanged.stdout.contains("no published version differs from"), "{unchanged:?}");

    let schema = shop.binary.directory().join("contracts/order.placed.2.json");
    let published = std::fs::read_to_string(&schema).expect("the schema");
    std::fs::write(&schema, published.replace("\"currency\": {", "\"note\": { \"type\": \"string\" },\n    \"currency\": {"))
        .expect("ours");
    let added = shop.run(&against).await;
    assert!(added.code == Some(0) && added.stdout.contains("order.placed@2  compatible"), "{added:?}");

    std::fs::write(&schema, published.replace("\"minimum\": 1", "\"minimum\": 0")).expect("ours");
    let broken = shop.run(&against).await;
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert!(broken.stdout.contains("order.placed@2  breaking\n  forward: lines[].count: minimum: "), "{}", broken.stdout);
    assert!(
        broken.stdout.contains("\"count\":0") && broken.stdout.contains("allow = { \"forward lines[].count minimum\""),
        "{}",
        broken.stdout
    );
    let refused = shop.run(&[&against[..], &["--update", "--json"]].concat()).await;
    let document: serde_json::Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!((refused.code, &document["ok"], &document["changes"][0]["verdict"]), (Some(1), &false.into(), &"breaking".into()));

    std::fs::write(&schema, published).expect("ours");
    for (command, want) in [
        (&["contracts", "list"][..], "2026-12-31"),
        (&["contracts", "show", "order.placed@1"], "unnest \"address\", drop \"currency\""),
        (
            &["contracts", "diff", "order.placed@1", "order.placed@2"],
            "breaking\n  forward: the payload: required: \"id\" may be absent",
        ),
        (&["contracts", "export", "--asyncapi"], "\"asyncapi\": \"3.0.0\""),
        (&["contracts", "export", "--openapi-schemas"], "\"order.placed.v2\": {"),
    ] {
        let told = shop.run(command).await;
        assert!(told.code == Some(0) && told.stdout.contains(want), "{command:?}: {told:?}");
        let json = shop.run(&[command, &["--json"]].concat()).await;
        assert!(serde_json::from_str::<serde_json::Value>(&json.stdout).is_ok(), "{command:?}: {json:?}");
    }
    for arguments in [&["contracts", "export"][..], &["contracts", "export", "--asyncapi", "--openapi-schemas"]] {
        assert_eq!(shop.run(arguments).await.code, Some(64), "{arguments:?}: one form, and only one");
    }
    let unknown = shop.run(&["contracts", "show", "order.paid"]).await;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("contracts exist for order.placed"), "{unknown:?}");
    shop.change("scale = \"total\"", "scale = \"totl\"");
    let wrong = shop.run(&["contracts", "check"]).await;
    assert!(wrong.code == Some(64) && wrong.stderr.contains("has no \"totl\" here; did you mean \"total\"?"), "{wrong:?}");
}
