//! Edit and replay: a dead letter with a corrected payload becomes a new event for its handler, once, with its trace.

use outboxd::contracts::PayloadChange;
use outboxd::operations::corrections::{self, CorrectionOrder, Draft};
use outboxd::operations::{Caller, OperationError, RefusalKind, Role, Via};
use serde_json::json;
use uuid::Uuid;

use super::Outbox;
use super::relay::{start_relay, wait_for_delivered};
use crate::support::{NewRow, TestDatabase};

impl Outbox {
    /// A dead letter of `billing` whose event has this payload.
    async fn add_dead_with(&self, payload: &str) -> Uuid {
        let id = self.add("dead", Some("order/42")).await;
        self.database.execute(&format!("update outbox.events set payload = '{payload}', aggregate_type = 'order', aggregate_id = '42', headers = '{{\"tenant\":\"acme\"}}' where id = '{id}'")).await;
        id
    }

    /// Gives a corrected payload on standard input's place: a file.
    async fn edit(&self, id: Uuid, payload: &str, more: &[&str]) -> crate::support::Finished {
        let file = self.binary.directory().join("corrected.json");
        std::fs::write(&file, payload).expect("the file is written");
        let (id, file) = (id.to_string(), file.to_string_lossy().into_owned());
        let words = ["dead-letters", "edit", &id, "--handler", "billing", "--payload", &file, "--because", "total was a text"];
        self.run(&[&words[..], more].concat()).await
    }
}

#[tokio::test]
async fn a_corrected_letter_is_a_new_event_with_its_trace_and_the_letter_is_discarded() {
    let outbox = Outbox::create().await;
    let id = outbox.add_dead_with(r#"{"total": "99.50", "n": 12345678901234567890.10, "gone": true}"#).await;
    let payload = &format!("{{\"total\": 99.50,  \"n\": 12345678901234567891.10, \"<img>\": \"{}\"}}", '\u{202e}');

    let dry = outbox.edit(id, payload, &["--dry-run"]).await;
    assert_eq!((dry.code, dry.stdout.as_str()), (Some(0), ""), "{dry:?}");
    for line in
        ["  total\n    - \"99.50\"\n    + 99.50\n", "  n\n    - 12345678901234567890.10\n", "  gone\n    - true\n    + (absent)\n"]
    {
        assert!(dry.stderr.contains(line), "{line}: {}", dry.stderr);
    }
    assert!(!dry.stderr.contains('\u{202e}') && dry.stderr.contains("nothing was changed"), "{}", dry.stderr);
    let unsure = outbox.edit(id, payload, &[]).await;
    assert!(unsure.code == Some(64) && unsure.stderr.contains("add --yes"), "{unsure:?}");
    assert_eq!((outbox.database.count("events").await, outbox.database.count("audit").await), (1, 0));

    let done = outbox.edit(id, payload, &["--yes", "--json"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let done: serde_json::Value = serde_json::from_str(&done.stdout).expect("a document");
    let new: Uuid = done["correction"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let recorded = format!(
        "outbox.events where id = '{new}' and payload::text = '{payload}' and type = 'order.placed' and aggregate_id = '42'
         and headers = '{{\"tenant\": \"acme\", \"correlation\": \"{id}\", \"causation\": \"{id}\", \"outboxd-corrects\": \"{id}\",
                          \"outboxd-only-for\": \"billing\"}}'"
    );
    assert_eq!(outbox.database.count(&recorded).await, 1, "byte for byte, and linked");
    let letter = format!(
        "deliveries where state = 'discarded' and reason = 'operator' and detail = 'corrected by event {new}: total was a text'"
    );
    assert_eq!(outbox.database.count(&letter).await, 1);
    let audit: String = sqlx::query_scalar(
        "select filter::text from outbox.audit where action = 'edit' and actor = 'ada' and handler = 'billing' and affected = 1
            and reason = 'total was a text'",
    )
    .fetch_one(outbox.database.pool())
    .await
    .expect("one row");
    let kept: serde_json::Value = serde_json::from_str(&audit).expect("JSON");
    let changes = json!([
        { "path": "[\"<img>\"]", "change": "added" }, { "path": "gone", "change": "removed" },
        { "path": "n", "change": "changed" }, { "path": "total", "change": "changed" },
    ]);
    assert_eq!(kept, json!({ "ids": [id], "correction": new, "changes": changes }), "the places, and no value");

    let again = outbox.edit(id, payload, &["--yes"]).await;
    assert!(again.code == Some(1) && again.stderr.contains("is discarded at billing"), "{again:?}");
    assert_eq!(outbox.database.count("events").await, 2);
}

#[tokio::test]
async fn what_cannot_be_a_correction_is_refused_and_changes_nothing() {
    let outbox = Outbox::create().await;
    let id = outbox.add_dead_with(r#"{"total": 1}"#).await;
    let delivered = outbox.add("delivered", None).await;
    let sourced = outbox.add_dead_with(r#"{"total": 1}"#).await;
    outbox.database.execute("insert into outbox.streams (type, key, version) values ('order', '42', 1)").await;
    outbox
        .database
        .execute("insert into outbox.stream_events (stream, version, seq) select s.id, 1, max(e.seq) from outbox.streams s, outbox.events e group by s.id")
        .await;
    let shredded = outbox.add_dead_with(r#"{"email": {"$shredded": {"v": 1}}}"#).await;
    let large = format!("{{\"total\": \"{}\"}}", "x".repeat(1_100_000));
    for (event, payload, want) in [
        (id, "{\"total\": 1", "is no JSON"),
        (id, "[1]", "is no JSON object"),
        (id, "", "is no JSON"),
        (id, " {\"total\" : 1}\r\n", "says what it said before"),
        (id, &large, "1048576 are allowed"),
        (id, "{\"total\": \"\\u0000\", \"a\": \"\u{0}\"}", "is no JSON"),
        (delivered, "{\"total\": 2}", "is delivered at billing"),
        (sourced, "{\"total\": 2}", "is the state of its aggregate"),
        (shredded, "{\"email\": \"a@example.org\"}", "encrypted values of a person"),
        (id, "{\"email\": {\"$shredded\": {}}}", "encrypted values of a person"),
        (Uuid::new_v4(), "{\"total\": 2}", "there is no event"),
    ] {
        let refused = outbox.edit(event, payload, &["--yes"]).await;
        assert!(refused.code != Some(0) && refused.stderr.contains(want), "{want}: {refused:?}");
    }
    let unknown =
        ["dead-letters", "edit", &id.to_string(), "--handler", "biling", "--payload", "/dev/null", "--because", "x", "--yes"];
    let unknown = outbox.run(&unknown).await;
    assert!(unknown.code != Some(0) && unknown.stderr.contains("did you mean \"billing\"?"), "{unknown:?}");
    outbox.database.execute("update outbox.subscriptions set type_patterns = '{invoice.%}'").await;
    let unwanted = outbox.edit(id, "{\"total\": 2}", &["--yes"]).await;
    assert!(unwanted.code != Some(0), "{unwanted:?}");
    assert_eq!((outbox.database.count("events").await, outbox.database.count("audit").await), (4, 0));
    assert_eq!(outbox.database.count("deliveries where state = 'discarded'").await, 0);
}

#[tokio::test]
async fn what_waits_behind_a_letter_goes_before_its_correction_only_if_the_operator_says_so() {
    let outbox = Outbox::create().await;
    let id = outbox.add_dead_with(r#"{"total": 1}"#).await;
    outbox.database.execute("update outbox.deliveries set holds_key = true").await;
    outbox.add("waiting", Some("order/42")).await;
    outbox.read_all().await;
    let refused = outbox.edit(id, "{\"total\": 2}", &["--yes"]).await;
    assert!(
        refused.code != Some(0) && refused.stderr.contains("1 delivery of key order/42 waits behind this letter"),
        "{refused:?}"
    );
    assert_eq!(outbox.database.count("events").await, 2);

    let (_binary, _relay) = start_relay(&outbox, "on_dead_letter = \"hold_key\"\nrecord = \"all\"").await;
    let done = outbox.edit(id, "{\"total\": 2}", &["--yes", "--force"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    wait_for_delivered(&outbox, 2).await;
    let order: Vec<i64> =
        sqlx::query_scalar("select seq from outbox.deliveries where state = 'delivered' order by handled_at, seq")
            .fetch_all(outbox.database.pool())
            .await
            .expect("the deliveries");
    assert_eq!(order, [2, 3], "the correction comes last in its key");
}

fn caller() -> Caller {
    Caller { name: "ann".to_owned(), role: Role::Operate, sees_payloads: true, via: Via::Api }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_operators_who_correct_one_letter_one_wins_and_the_others_are_told() {
    let outbox = Outbox::create().await;
    let id = outbox.add_dead_with(r#"{"total": 1}"#).await;
    let pool = outbox.database.pool();
    let correct = async |total: u32| {
        let payload = format!("{{\"total\": {total}}}");
        let draft = Draft { event: id, handler: "billing", payload: &payload, redact: &[] };
        let plan = corrections::plan(pool, None, &draft).await?;
        let change = PayloadChange { path: "total".to_owned(), was: Some("1".to_owned()), now: Some(total.to_string()) };
        assert_eq!(plan.changes, [change]);
        let order = CorrectionOrder { id: Uuid::new_v4(), reason: "a test", force: false };
        corrections::carry_out(pool, &caller(), &plan, &order).await
    };
    let results = futures_util::future::join_all((2..10).map(correct)).await;
    let (won, told): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), outbox.database.count("events").await), (1, 2), "{told:?}");
    for refused in told {
        assert!(matches!(&refused, Err(OperationError::Refused(refusal)) if refusal.kind == RefusalKind::NotNow), "{refused:?}");
    }
    assert_eq!(outbox.database.count("audit where action = 'edit'").await, 1);
}

/// A handler under another name would pass over what is for the old name.
#[tokio::test]
async fn a_handler_that_owes_a_correction_keeps_its_name() {
    let outbox = Outbox::create().await;
    let id = outbox.add_dead_with(r#"{"total": 1}"#).await;
    outbox.read_all().await;
    assert_eq!(outbox.edit(id, "{\"total\": 2}", &["--yes"]).await.code, Some(0));
    let rename = ["handlers", "rename", "billing", "invoices", "--yes"];
    let refused = outbox.run(&rename).await;
    assert!(refused.code != Some(0) && refused.stderr.contains("has not read 1 of its corrected events"), "{refused:?}");
    outbox.read_all().await;
    let renamed = outbox.run(&rename).await;
    assert_eq!(renamed.code, Some(0), "{renamed:?}");
}

/// The other handlers have had the original, and so have the clients of the feed.
#[tokio::test(flavor = "multi_thread")]
async fn a_correction_reaches_its_handler_and_nobody_else() {
    let database = TestDatabase::create().await;
    let handler = |name: &str| format!("[[handlers]]\nname = \"{name}\"\nkind = \"discard\"\n");
    let config = format!("[feed]\nevents = [\"*\"]\n{}{}", handler("billing"), handler("mail"));
    let binary = crate::support::Binary::relay(database.url(), &config);
    let running = binary.spawn(&["run"]);
    let headers = json!({ "outboxd-corrects": Uuid::new_v4(), "outboxd-only-for": "billing" });
    crate::support::eventually("the handlers are registered", || async {
        (database.count("subscriptions").await == 3).then_some(())
    })
    .await;
    let correction = database.insert_event(NewRow::new("order.placed").headers(headers)).await;
    let plain = database.insert_event(NewRow::new("order.placed")).await;
    crate::support::eventually("all have read both", || async {
        let places = "feed f join events e on e.seq = f.seq";
        let read = database.count("deliveries where state = 'delivered'").await >= 3 && database.count(places).await >= 1;
        let passed =
            database.count(&format!("event_states where state = 'pending' and id in ('{correction}', '{plain}')")).await == 0;
        (read && passed).then_some(())
    })
    .await;
    let received: Vec<(String, Uuid)> = sqlx::query_as(
        "select s.handler, e.id from deliveries d join subscriptions s on s.id = d.subscription join events e on e.seq = d.seq order by 1, e.seq",
    )
    .fetch_all(database.pool())
    .await
    .expect("the deliveries");
    let (billing, mail) = ("billing".to_owned(), "mail".to_owned());
    assert_eq!(received, [(billing.clone(), correction), (billing, plain), (mail, plain)]);
    let placed: Vec<Uuid> = sqlx::query_scalar("select e.id from feed f join events e on e.seq = f.seq")
        .fetch_all(database.pool())
        .await
        .expect("the places");
    assert_eq!(placed, [plain]);
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
