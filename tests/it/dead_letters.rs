//! What a person does about dead letters and handlers: on a real database, by the built binary where words or exit codes matter.
//! No relay runs here; the rows are those that one would have left.

mod edits;
mod groups;
mod handlers;
mod keys;
mod relay;
mod replays;

use outboxd::domain::{EventFilter, Ordering};
use outboxd::store::{self, Fence, NewReplay, Released, Replay, Selection};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Binary, Finished, NewRow, TestDatabase};

const MAX_PAYLOAD: Option<u64> = Some(1_048_576);

/// An outbox with the handler `billing` and the binary pointed at it.
struct Outbox {
    database: TestDatabase,
    binary: Binary,
}

impl Outbox {
    async fn create() -> Self {
        let database = TestDatabase::empty().await;
        store::migrate(database.pool(), "outbox", MAX_PAYLOAD).await.expect("the migration applies");
        let binary = Binary::with_config("").env("OUTBOXD_DATABASE_URL", database.url()).env("OUTBOXD_ACTOR", "ada");
        let outbox = Self { database, binary };
        outbox.add_handler("billing").await;
        outbox
    }

    async fn add_handler(&self, name: &str) {
        let sql = format!(
            "insert into outbox.subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('{name}', 'webhook', '3:3:', 0, 0)"
        );
        self.database.execute(&sql).await;
    }

    /// The position is behind everything that is recorded: what waits beyond it would be forgotten, and read from the log again.
    async fn read_all(&self) {
        let last = "(select max(seq) from outbox.events)";
        let sql = format!("update outbox.subscriptions set snapshot = pg_current_snapshot(), low_seq = {last}, high_seq = {last}");
        self.database.execute(&sql).await;
    }

    /// Records one event and a delivery of it to `billing`, and gives the id of the event.
    async fn add(&self, state: &str, key: Option<&str>) -> Uuid {
        let id = self.database.insert_event(NewRow::new("order.placed")).await;
        sqlx::query(
            "insert into outbox.deliveries (subscription, seq, state, attempts, key, reason, status, detail, first_attempt_at, handled_at)
             select s.id, e.seq, $2::outbox.delivery_state, 12, $3, 'server_error', 500, 'boom', clock_timestamp(),
                    case when $2 = 'dead' then clock_timestamp() end
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

    /// State of each event's delivery, and whether it is due now; in the order of the events.
    async fn states(&self) -> Vec<(String, bool)> {
        sqlx::query_as("select state::text, coalesce(due_at <= clock_timestamp(), false) from outbox.deliveries order by seq")
            .fetch_all(self.database.pool())
            .await
            .expect("the deliveries can be read")
    }

    /// Freezes every dead letter in a new replay.
    async fn replay_all(&self) -> Replay {
        self.replay(NewReplay::default()).await
    }

    async fn replay(&self, replay: NewReplay) -> Replay {
        let replay = NewReplay { id: Uuid::new_v4(), ..replay };
        store::start_replay(self.database.pool(), &replay, store::Actor::cli("ada")).await.expect("the replay is frozen");
        self.read_replay(replay.id).await
    }

    async fn read_replay(&self, id: Uuid) -> Replay {
        store::read_replay(self.database.pool(), id).await.expect("the replays can be read").expect("it is there")
    }

    /// Does what the owner of `billing` does from time to time.
    async fn release(&self) -> Released {
        let selection = Selection::new(&EventFilter::default(), &Ordering::Aggregate, 1, 0);
        let fence = Fence { subscription: 1, epoch: 0 };
        store::release_replays(self.database.pool(), fence, &selection, 1_000).await.expect("the next are released")
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        self.binary.run(arguments).await
    }

    async fn run_json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let finished = self.run(&arguments).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }
}

fn due() -> (String, bool) {
    ("retrying".to_owned(), true)
}

fn state(name: &str) -> (String, bool) {
    (name.to_owned(), false)
}

#[tokio::test]
async fn nothing_is_changed_by_a_dry_run_or_without_a_yes() {
    let outbox = Outbox::create().await;
    for _ in 0..7 {
        outbox.add("dead", Some("a")).await;
    }
    let before = outbox.states().await;

    let dry = outbox.run_json(&["dead-letters", "replay", "--handler", "billing", "--dry-run"]).await;
    assert_eq!((dry["matched"].as_u64(), dry["sample"].as_array().map(Vec::len)), (Some(7), Some(5)));
    assert_eq!(dry["replay"], Value::Null);

    for verb in [&["replay"][..], &["discard", "--because", "x"]] {
        let refused = outbox.run(&[&["dead-letters"], verb, &["--all"]].concat()).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""), "{refused:?}");
        assert!(refused.stderr.contains("7 dead letters (7 of billing); the newest 5:"), "{}", refused.stderr);
        assert!(refused.stderr.contains("add --yes"), "{}", refused.stderr);
    }

    assert_eq!(outbox.states().await, before);
    assert_eq!(outbox.database.count("audit").await + outbox.database.count("replays").await, 0);
}

#[tokio::test]
async fn a_replay_or_discard_of_nothing_in_particular_is_refused() {
    let outbox = Outbox::create().await;
    for arguments in [
        &["replay", "--yes"][..],
        &["discard", "--because", "x", "--yes"],
        &["discard", "--all", "--yes"],
        &["discard", "--all", "--because", " ", "--yes"],
        &["replay", "--all", "--handler", "billing", "--yes"],
        &["replay", "--all", "--reason", "timeout", "--yes"],
        &["list", "--reason", "no_such_reason"],
    ] {
        let refused = outbox.run(&[&["dead-letters"], arguments].concat()).await;
        assert_eq!(refused.code, Some(64), "{arguments:?}: {refused:?}");
    }
}

#[tokio::test]
async fn only_what_matches_the_filter_is_replayed() {
    let outbox = Outbox::create().await;
    let ids = [outbox.add("dead", Some("a")).await, outbox.add("dead", Some("b")).await, outbox.add("dead", None).await];
    outbox.database.execute("update outbox.deliveries set reason = 'timeout' where key = 'b'").await;
    outbox.database.execute("update outbox.events set type = 'order_x' where seq = 3").await;
    outbox.database.execute("update outbox.deliveries set fingerprint = 7 where seq = 1").await;
    let by_id = ids[2].to_string();
    for (filter, want) in [
        (&["--type", "order.*"][..], 2),
        (&["--type", "*"], 3),
        (&["--type", "order_*"], 1),
        (&["--key", "a"], 1),
        (&["--reason", "timeout", "--handler", "billing"], 1),
        (&["--id", &by_id], 1),
        (&["--id", &by_id, "--key", "a"], 0),
        (&["--text", "BOO"], 3),
        (&["--text", "b%m"], 0),
        (&["--since", "1h"], 3),
        (&["--until", "1h"], 0),
        (&["--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00+01:00"], 0),
        (&["--group", "0000000000000007"], 1),
    ] {
        let found = outbox.run_json(&[&["dead-letters", "replay", "--dry-run"], filter].concat()).await;
        assert_eq!(found["matched"].as_u64(), Some(want), "{filter:?}");
    }
    outbox.run_json(&["dead-letters", "replay", "--key", "b", "--yes"]).await;
    outbox.release().await;
    assert_eq!(outbox.states().await, [state("dead"), due(), state("dead")]);
    assert_eq!(outbox.database.count("replays where filter @> '{\"key\":\"b\"}' and filter ? 'until'").await, 1);
}

#[tokio::test]
async fn a_discard_keeps_who_and_why() {
    let outbox = Outbox::create().await;
    let id = outbox.add("dead", Some("a")).await.to_string();
    outbox.add("retrying", Some("a")).await;

    let done = outbox
        .run_json(&["dead-letters", "discard", "--id", &id, "--handler", "billing", "--because", "cancelled by hand", "--yes"])
        .await;

    assert_eq!(done["discarded"].as_u64(), Some(1));
    let kept =
        "deliveries where state = 'discarded' and reason = 'operator' and detail = 'cancelled by hand' and handled_at is not null";
    assert_eq!(outbox.database.count(kept).await, 1);
    let audit = format!(
        "audit where action = 'discard' and actor = 'ada' and reason = 'cancelled by hand' and affected = 1
          and handler = 'billing' and filter->'ids' ? '{id}'"
    );
    assert_eq!(outbox.database.count(&audit).await, 1);
    assert_eq!(outbox.states().await[1], state("retrying"));
    let again = outbox.run_json(&["dead-letters", "discard", "--id", &id, "--because", "x", "--yes"]).await;
    assert_eq!((again["matched"].as_u64(), again["discarded"].as_u64()), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_reason_chooses_what_is_discarded() {
    let outbox = Outbox::create().await;
    for _ in 0..4 {
        outbox.add("dead", Some("a")).await;
    }
    outbox.database.execute("update outbox.deliveries set reason = 'client_error' where seq <= 2").await;
    // Words behind `--reason` were how it was typed once: nothing may happen then.
    let refused = outbox.run(&["dead-letters", "discard", "--handler", "billing", "--reason", "cancelled", "--yes"]).await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("--because 'your words'"), "{}", refused.stderr);

    let done = outbox.run_json(&["dead-letters", "discard", "--handler", "billing", "--reason", "client_error", "--yes"]).await;
    assert_eq!(done["discarded"].as_u64(), Some(2));
    assert_eq!(outbox.database.count("audit where action = 'discard' and reason = 'failed with client_error'").await, 1);
    let arguments = ["dead-letters", "discard", "--reason", "server_error", "--because", "by hand", "--yes"];
    outbox.database.execute("update outbox.deliveries set reason = 'timeout' where seq = 3").await;
    assert_eq!(outbox.run_json(&arguments).await["discarded"].as_u64(), Some(1));
    assert_eq!(outbox.database.count("deliveries where state = 'dead' and reason = 'timeout'").await, 1);
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_numbers_attempts_and_commands() {
    let outbox = Outbox::create().await;
    let id = outbox.add("dead", Some("a")).await.to_string();
    outbox.database.execute("update outbox.events set payload = '{\"n\":12345678901234567890.10}'").await;
    outbox
        .database
        .execute(
            "insert into outbox.attempts (seq, subscription, attempt, duration_ms, status, outcome, reason, detail)
             select seq, subscription, n, 7, 503, 'retry', 'server_error', 'try ' || n from outbox.deliveries, generate_series(1, 3) n",
        )
        .await;

    let shown = outbox.run(&["dead-letters", "show", &id]).await;
    for want in [
        "12345678901234567890.10",
        "try 1",
        "try 3",
        "server_error (500): The receiver reported",
        &format!("outboxd dead-letters replay --id {id} --handler billing\n"),
        &format!("outboxd dead-letters discard --id {id} --handler billing --because"),
    ] {
        assert!(shown.stdout.contains(want), "{want}: {}", shown.stdout);
    }
    let json = outbox.run(&["dead-letters", "show", &id, "--handler", "billing", "--json"]).await;
    assert!(json.stdout.contains("{\"n\":12345678901234567890.10}"), "{}", json.stdout);
    let json: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(json["deliveries"][0]["attempts_made"].as_array().map(Vec::len), Some(3));

    let unknown = outbox.run(&["dead-letters", "show", &Uuid::new_v4().to_string()]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
}

#[tokio::test]
async fn a_list_is_bounded_and_says_so() {
    let outbox = Outbox::create().await;
    let ids = [outbox.add("dead", Some("a")).await, outbox.add("dead", None).await, outbox.add("delivered", None).await];

    let listed = outbox.run_json(&["dead-letters", "list", "--limit", "1"]).await;
    assert_eq!(
        (listed["dead_letters"][0]["id"].as_str(), &listed["more"]),
        (Some(ids[1].to_string().as_str()), &Value::Bool(true))
    );
    let listed = outbox.run_json(&["dead-letters", "list"]).await;
    assert_eq!((listed["dead_letters"].as_array().map(Vec::len), &listed["more"]), (Some(2), &Value::Bool(false)));
    assert!(outbox.run(&["dead-letters", "list"]).await.stdout.contains("server_error (500)"));
}

#[tokio::test]
async fn a_database_without_an_outbox_is_told_what_to_do() {
    let database = TestDatabase::empty().await;
    let binary = Binary::with_config("");
    let refused = binary.run(&["dead-letters", "list", "--database-url", database.url()]).await;
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("there is no outbox in schema \"outbox\"; run \"outboxd migrate\""), "{}", refused.stderr);
    let refused = binary.run(&["handlers", "list", "--database-url", database.url(), "--schema", "a;b"]).await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    // Neither a database nor a configuration that names one.
    assert_eq!(binary.run(&["handlers", "list"]).await.code, Some(64));
}
