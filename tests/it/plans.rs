//! The plans of the hot statements on a large log, with generic plans, which is what a long-lived session runs.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::support::TestDatabase;

const EVENTS: i64 = 1_000_000;

/// A large log, a subscription near its end, and a handler with a long audit trail, some retries among it.
async fn large_outbox() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    let mut connection = database.connect().await;
    let sql = format!(
        "set search_path = outbox, pg_catalog, public; set synchronous_commit = off;
         insert into events (type, aggregate_type, aggregate_id, payload)
         select 'order.placed', 'order', (n % 1000)::text, '{{\"n\": 1}}' from generate_series(1, {EVENTS}) n;
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq)
         values ('h', 'discard', pg_current_snapshot(), {EVENTS}, {EVENTS});
         insert into deliveries (subscription, seq, state, attempts, handled_at)
         select 1, n, 'delivered', 1, now() from generate_series(1, {EVENTS} - 100000) n;
         insert into deliveries (subscription, seq, state, attempts, due_at, key)
         select s, n, case n % 2 when 0 then 'retrying' else 'waiting' end::delivery_state, 1, now() + n * interval '1 s', 'order/' || n % 1000
           from generate_series({EVENTS} - 99999, {EVENTS} - 50000) n, generate_series(1, 2) s;
         insert into types values (1, 'order.placed');
         insert into feed select n, n, 1 from generate_series(1, {EVENTS} / 5) n; insert into feed_places (places) values ({EVENTS} / 5);
         analyze events; analyze deliveries; analyze subscriptions; analyze feed; analyze types;
         set plan_cache_mode = force_generic_plan"
    );
    connection.execute(AssertSqlSafe(sql)).await.expect("the outbox is filled");
    (database, connection)
}

/// The plan of a statement file, prepared as the driver prepares it.
async fn plan(connection: &mut PgConnection, types: &str, sql: &str, arguments: &str) -> String {
    let parentheses = |text: &str| if text.is_empty() { String::new() } else { format!("({text})") };
    let prepare = format!("prepare hot {} as {sql}", parentheses(types));
    connection.execute(AssertSqlSafe(prepare)).await.expect("the statement prepares");
    let explain = format!("explain execute hot {}", parentheses(arguments));
    let explained = connection.fetch_all(AssertSqlSafe(explain)).await.expect("a plan");
    connection.execute("deallocate hot").await.expect("the statement is there");
    explained.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
}

fn assert_plan(name: &str, plan: &str, indexes: &[&str]) {
    for index in indexes {
        assert!(
            plan.contains(&format!("using {index} ")) || plan.contains(&format!("on {index} ")),
            "{name} without {index}:\n{plan}"
        );
    }
    for table in ["events", "deliveries", "feed"] {
        assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{name} scans {table}:\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_statements_use_their_indexes_on_a_large_log() {
    let (database, mut connection) = large_outbox().await;
    let selection = "text[], text[], jsonb, text, text[], integer, integer";
    let everything = "null, null, null, 'aggregate', '{}', 1, 0";
    let reached = format!("1, 0, '3:3:', {EVENTS}, {EVENTS}, null, null, null, null, true");
    let reached_types = "integer, bigint, text, bigint, bigint, text, bigint, bigint, text, boolean";

    // To now, and to where the tail stands.
    for end in ["null", "pg_current_snapshot()::text"] {
        let window = plan(
            &mut connection,
            &format!("text, bigint, bigint, {selection}, text"),
            include_str!("../../src/store/sql/read_window.sql"),
            &format!("pg_current_snapshot()::text, 500, 1000000, {everything}, {end}"),
        )
        .await;
        assert_plan("read_window", &window, &["events_window"]);
    }

    for (recorded, indexes) in [("null, null", &["events_pkey"][..]), ("1, null", &["events_pkey", "deliveries_pkey"])] {
        let page = plan(
            &mut connection,
            &format!("text, text, bigint, bigint, bigint, bigint, bigint, {selection}, integer, text"),
            include_str!("../../src/store/sql/read_page.sql"),
            &format!("'3:3:', pg_current_snapshot()::text, 500000, {EVENTS}, 50000, 500, 1000000, {everything}, {recorded}"),
        )
        .await;
        assert_plan("read_page", &page, indexes);
    }

    let due = plan(
        &mut connection,
        "integer, bigint, bigint, bigint[]",
        include_str!("../../src/store/sql/read_due.sql"),
        "1, 64, 1000000, array[7]::bigint[]",
    )
    .await;
    assert_plan("read_due", &due, &["deliveries_due", "events_pkey", "deliveries_by_key"]);

    let next_due =
        plan(&mut connection, "integer, bigint[]", include_str!("../../src/store/sql/find_next_due.sql"), "1, array[7]::bigint[]")
            .await;
    assert_plan("find_next_due", &next_due, &["deliveries_due"]);

    let opened = plan(&mut connection, "text", include_str!("../../src/store/sql/open_window.sql"), "'3:3:'").await;
    assert_plan("open_window", &opened, &["events_window"]);

    let waiting = plan(
        &mut connection,
        "integer, text[], bigint, bigint",
        include_str!("../../src/store/sql/read_waiting.sql"),
        "1, array['order/1', 'order/2'], 64, 1000000",
    )
    .await;
    assert_plan("read_waiting", &waiting, &["deliveries_by_key", "events_pkey"]);

    let lanes = plan(&mut connection, "integer, boolean", include_str!("../../src/store/sql/read_lanes.sql"), "1, false").await;
    assert_plan("read_lanes", &lanes, &["deliveries_by_key"]);

    let traffic =
        plan(&mut connection, "bigint, bigint", include_str!("../../src/store/sql/list_type_traffic.sql"), "20000, 200").await;
    assert_plan("list_type_traffic", &traffic, &["events_pkey"]);

    let troubles = plan(&mut connection, "bigint", include_str!("../../src/store/sql/list_type_troubles.sql"), "20000").await;
    assert_plan("list_type_troubles", &troubles, &["deliveries_unfinished", "events_pkey"]);

    let backlog = plan(
        &mut connection,
        "integer, text[], text[], jsonb, text, text[], integer, integer, bigint, bigint",
        include_str!("../../src/store/sql/read_backlog.sql"),
        "1, null, null, null, 'aggregate', null, 1, 0, 10000, 100000",
    )
    .await;
    assert_plan("read_backlog", &backlog, &["events_window"]);

    let position = plan(&mut connection, reached_types, include_str!("../../src/store/sql/record_position.sql"), &reached).await;
    assert_plan("record_position", &position, &[]);

    let delivered = plan(
        &mut connection,
        &format!("{reached_types}, bigint[]"),
        include_str!("../../src/store/sql/record_delivered.sql"),
        &format!("{reached}, array[1, 2]"),
    )
    .await;
    assert_plan("record_delivered", &delivered, &[]);

    let together = plan(
        &mut connection,
        "integer[], bigint[], text[], bigint[], bigint[], text[], bigint[], bigint[], text[], boolean[], integer[], bigint[]",
        include_str!("../../src/store/sql/record_together.sql"),
        &format!(
            "array[1], array[0], array['3:3:'], array[{EVENTS}], array[{EVENTS}], array[null]::text[], array[null]::bigint[], \
             array[null]::bigint[], array[null]::text[], array[true], array[1, 1], array[1, 2]"
        ),
    )
    .await;
    assert_plan("record_together", &together, &[]);

    let published = plan(
        &mut connection,
        "integer, bigint, text, bigint, text[], text, boolean",
        include_str!("../../src/store/sql/publish_window.sql"),
        "1, 0, pg_current_snapshot()::text, 10000, null, '00000001', false",
    )
    .await;
    assert_plan("publish_window", &published, &["events_window"]);

    let page = plan(
        &mut connection,
        "integer, bigint, text, text, bigint, bigint, bigint, bigint, bigint, text[], text, boolean, boolean",
        include_str!("../../src/store/sql/publish_page.sql"),
        &format!(
            "1, 0, '3:3:', pg_current_snapshot()::text, 500000, {EVENTS}, {EVENTS}, 50000, 10000, null, '00000001', true, true"
        ),
    )
    .await;
    assert_plan("publish_page", &page, &["events_pkey", "feed_seq_key"]);

    let read_page = plan(
        &mut connection,
        "bigint, bigint, bigint, bigint, bigint, text[], text[], text[], jsonb, text",
        include_str!("../../src/store/sql/read_feed_page.sql"),
        "1000, 50000, 100, 100, 4000000, array['order.%'], null, null, null, null",
    )
    .await;
    assert_plan("read_feed_page", &read_page, &["feed_pkey", "events_pkey"]);

    let ground = plan(&mut connection, "bigint", include_str!("../../src/store/sql/read_feed_ground.sql"), "1000").await;
    assert_plan("read_feed_ground", &ground, &["feed_pkey", "events_pkey"]);

    let cursors = plan(&mut connection, "", include_str!("../../src/store/sql/list_client_cursors.sql"), "").await;
    assert_plan("list_client_cursors", &cursors, &["feed_pkey", "events_pkey"]);

    let status = plan(&mut connection, "", include_str!("../../src/store/sql/read_feed_status.sql"), "").await;
    assert_plan("read_feed_status", &status, &["feed_pkey"]);

    let by_id = plan(
        &mut connection,
        "uuid, text[], text[], jsonb",
        include_str!("../../src/store/sql/find_feed_event.sql"),
        "'00000000-0000-4000-8000-000000000000', array['order.%'], null, null",
    )
    .await;
    assert_plan("find_feed_event", &by_id, &["events_id_key", "feed_seq_key"]);

    let by_time =
        plan(&mut connection, "timestamptz, bigint", include_str!("../../src/store/sql/find_feed_time.sql"), "now(), 10000").await;
    assert_plan("find_feed_time", &by_time, &["feed_pkey", "events_pkey", "moments_pkey"]);

    let removed = plan(
        &mut connection,
        "bigint, bigint, bigint, bigint, boolean",
        include_str!("../../src/store/sql/remove_finished.sql"),
        "0, 1000000, 5000, null, false",
    )
    .await;
    assert_plan("remove_finished", &removed, &["events_pkey"]);
    connection.close().await.ok();
    drop(database);
}

/// Rows that the scans of an executed plan have read of a table.
fn rows_read(plan: &Value, table: &str) -> u64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let own = if plan["Relation Name"] == table { number("Actual Rows") * number("Actual Loops") } else { 0.0 };
    own.round() as u64 + plan["Plans"].as_array().into_iter().flatten().map(|child| rows_read(child, table)).sum::<u64>()
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_first_that_wait_behind_a_key_does_not_read_all_that_do() {
    let database = TestDatabase::create().await;
    let mut connection = database.connect().await;
    let fill = "set search_path = outbox, pg_catalog, public;
         insert into events (type, aggregate_type, aggregate_id, payload)
         select 'order.placed', 'order', (n % 2)::text, '{}' from generate_series(1, 20000) n;
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('h', 'discard', pg_current_snapshot(), 20000, 20000);
         insert into deliveries (subscription, seq, state, attempts, key)
         select 1, n, 'waiting', 0, 'order/' || n % 2 from generate_series(1, 20000) n;
         analyze events; analyze deliveries; set plan_cache_mode = force_generic_plan";
    connection.execute(fill).await.expect("the outbox is filled");
    let prepare =
        concat!("prepare hot (integer, text[], bigint, bigint) as ", include_str!("../../src/store/sql/read_waiting.sql"));
    connection.execute(prepare).await.expect("the statement prepares");
    let explain = "explain (analyze, format json) execute hot (1, array['order/0', 'order/1'], 64, 1000000)";
    let Json(explained): Json<Value> = connection.fetch_one(explain).await.expect("it is executed").get(0);
    let read = rows_read(&explained[0]["Plan"], "deliveries");
    assert_eq!(read, 2 * (64 + 65), "seen under faults: it read all 10,000 for each of the 64, and met its time limit");
}

/// After a restore nothing is known of the log. A plan made for one look then scanned all of it, at every look of a filtered handler.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_log_without_statistics_uses_its_index() {
    let database = TestDatabase::create().await;
    let mut connection = database.connect().await;
    let fill = "set search_path = outbox, pg_catalog, public; alter table events set (autovacuum_enabled = false);
         insert into events (type, aggregate_type, aggregate_id, payload)
         select 'order.placed', 'order', n::text, '{}' from generate_series(1, 200000) n;
         set plan_cache_mode = force_generic_plan";
    connection.execute(fill).await.expect("the outbox is filled");
    let types = "text, bigint, bigint, text[], text[], jsonb, text, text[], integer, integer, text";
    for end in ["null", "pg_current_snapshot()::text"] {
        let arguments =
            format!("pg_current_snapshot()::text, 256, 1000000, array['invoice.%'], null, null, 'aggregate', '{{}}', 1, 0, {end}");
        let read = plan(&mut connection, types, include_str!("../../src/store/sql/read_window.sql"), &arguments).await;
        assert_plan("read_window", &read, &["events_window"]);
    }
}

/// A relay reads the log with the plans that these tests look at.
#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_that_read_the_log_plan_once_and_the_others_as_the_server_likes() {
    let database = TestDatabase::create().await;
    let second = std::time::Duration::from_secs(30);
    let options = outboxd::store::Options {
        url: database.url(),
        schema: "outbox",
        application_name: "a test",
        max_connections: 4,
        connect_timeout: second,
        statement_timeout: second,
        lock_timeout: second,
    };
    let connections = outboxd::store::connect_relay(&options, std::sync::Arc::default()).await.expect("the server is there");
    for (pool, want) in [(&connections.log, "force_generic_plan"), (&connections.ledger, "auto"), (&connections.aside, "auto")] {
        let mode: String = sqlx::query_scalar("show plan_cache_mode").fetch_one(pool).await.expect("a setting");
        assert_eq!(mode, want);
    }
    connections.close().await;
}

/// A statement with its condition as the store puts it in.
fn with_filter(statement: &str) -> String {
    let condition = include_str!("../../src/store/sql/filter_deliveries.sql");
    let condition: Vec<&str> = condition.lines().filter(|line| !line.starts_with("--")).collect();
    statement.replace("{filter}", &condition.join("\n")).replace("{state}", "'dead'").replace("{key}", "d.key")
}

/// A million events, of which 100,000 are dead letters, and half of these in a replay.
async fn outbox_with_dead_letters() -> (TestDatabase, PgConnection) {
    let (database, mut connection) = large_outbox().await;
    let sql = format!(
        "insert into deliveries (subscription, seq, state, attempts, handled_at, key, reason, detail, error, fingerprint, holds_key)
         select 3, n, 'dead', 12, now() - n * interval '1 ms', 'order/' || n % 1000, 'timeout', 'boom ' || n, 'boom <n>', n % 20, false
           from generate_series({EVENTS} - 99999, {EVENTS}) n;
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq)
         select 'h' || n, 'discard', pg_current_snapshot(), {EVENTS}, {EVENTS} from generate_series(2, 3) n;
         insert into replays (id, actor, asked, rate) values ('{REPLAY}', 'ada', 50000, 50);
         insert into replay_items (replay, subscription, seq, round, was, state)
         select '{REPLAY}', 3, seq, 0, 'dead', case when seq % 4 = 0 then 'held' else 'delivered' end::replay_item_state
           from deliveries where subscription = 3 and seq % 2 = 0;
         vacuum analyze deliveries; analyze replay_items; analyze subscriptions"
    );
    for statement in sql.split(';') {
        connection.execute(AssertSqlSafe(statement.to_owned())).await.expect("the outbox is filled");
    }
    (database, connection)
}

const REPLAY: &str = "018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f";

#[tokio::test(flavor = "multi_thread")]
async fn what_people_ask_about_100_000_dead_letters_reads_an_index() {
    let (database, mut connection) = outbox_with_dead_letters().await;
    let filter = "text, text, text, text, uuid[], timestamptz, timestamptz, text, bigint";
    let nothing = "null, null, null, null, null, null, null, null";
    // As the store runs them: planned for the parts of the filter that are set.
    connection.execute("set plan_cache_mode = force_custom_plan").await.expect("it is a setting");

    let groups = with_filter(include_str!("../../src/store/sql/group_dead_letters.sql"));
    let groups = plan(&mut connection, &format!("{filter}, bigint"), &groups, &format!("{nothing}, null, 50")).await;
    assert_plan("group_dead_letters", &groups, &["events_pkey", "deliveries_pkey"]);

    let of_one = with_filter(include_str!("../../src/store/sql/count_deliveries.sql"));
    let of_one = plan(&mut connection, filter, &of_one, &format!("{nothing}, 7")).await;
    assert_plan("count_deliveries", &of_one, &["deliveries_by_group"]);

    let list = with_filter(include_str!("../../src/store/sql/list_dead_letters.sql"));
    let types = format!("{filter}, bigint, timestamptz, bigint, integer");
    // The first page, and one in the middle.
    for after in ["null, null, null", "now() - interval '50 s', 950000, 3"] {
        let listed = plan(&mut connection, &types, &list, &format!("{nothing}, null, 50, {after}")).await;
        assert_plan("list_dead_letters", &listed, &["deliveries_dead", "events_pkey"]);
        let is_bounded = listed.contains("ROW(") || after.starts_with("null");
        assert!(is_bounded, "the page does not begin where the last one ended: {listed}");
    }

    let oldest = with_filter(include_str!("../../src/store/sql/find_oldest_replayable.sql"));
    let oldest = plan(&mut connection, &format!("{filter}, bigint"), &oldest, &format!("{nothing}, null, 10")).await;
    assert_plan("find_oldest_replayable", &oldest, &["deliveries_dead", "events_pkey"]);

    let discard = with_filter(include_str!("../../src/store/sql/discard_dead_letters.sql"));
    let one = format!("null, null, 'order/7', {}, 'why'", "null, null, null, null, null, null");
    let discarded = plan(&mut connection, &format!("{filter}, text"), &discard, &one).await;
    assert_plan("discard_dead_letters", &discarded, &["deliveries_by_key", "replay_items_open"]);

    let head = include_str!("../../src/store/sql/find_key_head.sql");
    let head = plan(&mut connection, "text, integer, text, bigint", head, "'h', 0, 'order/7', 10000").await;
    assert_plan("find_key_head", &head, &["deliveries_by_key", "events_pkey"]);

    let keys = include_str!("../../src/store/sql/list_blocked_keys.sql");
    let keys = plan(&mut connection, "text, bigint", keys, "null, 50").await;
    assert_plan("list_blocked_keys", &keys, &["deliveries_by_key", "events_pkey"]);

    let replay = include_str!("../../src/store/sql/list_replays.sql");
    let replay = plan(&mut connection, "uuid, bigint, timestamptz, uuid", replay, &format!("'{REPLAY}', 1, null, null")).await;
    assert_plan("list_replays", &replay, &[]);
    connection.close().await.ok();
    drop(database);
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_and_counting_a_large_replay_uses_indexes() {
    let (database, mut connection) = outbox_with_dead_letters().await;
    let assert_items = |name: &str, plan: &str, indexes: &[&str]| {
        assert_plan(name, plan, indexes);
        assert!(!plan.contains("Seq Scan on replay_items "), "{name} scans the items:\n{plan}");
    };

    let release = include_str!("../../src/store/sql/release_replays.sql");
    let types = "integer, bigint, bigint, bigint, text, text[]";
    let release = plan(&mut connection, types, release, "3, 0, 1000, 4000, 'aggregate', '{}'").await;
    let indexes = ["replay_items_held", "deliveries_pkey", "deliveries_due", "deliveries_by_key", "events_pkey"];
    assert_items("release_replays", &release, &indexes);

    let settle = include_str!("../../src/store/sql/settle_replay_items.sql");
    let settle = plan(&mut connection, "integer, bigint[]", settle, "3, array[999999, 999998]").await;
    assert_items("settle_replay_items", &settle, &["deliveries_pkey"]);

    // Whether anything is open; what has ended is counted once, by whatever is best for a whole replay.
    let finish = include_str!("../../src/store/sql/finish_replays.sql");
    let finish = plan(&mut connection, "", finish, "").await;
    assert_plan("finish_replays", &finish, &["replay_items_unfinished", "replays_open"]);
    connection.close().await.ok();
    drop(database);
}
