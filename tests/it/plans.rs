//! The plans of the hot statements on a large log, with generic plans, which is what a long-lived session runs.

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
         analyze events; analyze deliveries; analyze subscriptions;
         set plan_cache_mode = force_generic_plan"
    );
    connection.execute(AssertSqlSafe(sql)).await.expect("the outbox is filled");
    (database, connection)
}

/// The plan of a statement file, prepared as the driver prepares it.
async fn plan(connection: &mut PgConnection, types: &str, sql: &str, arguments: &str) -> String {
    connection.execute(AssertSqlSafe(format!("prepare hot ({types}) as {sql}"))).await.expect("the statement prepares");
    let explained = connection.fetch_all(AssertSqlSafe(format!("explain execute hot ({arguments})"))).await.expect("a plan");
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
    for table in ["events", "deliveries"] {
        assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{name} scans {table}:\n{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_statements_use_their_indexes_on_a_large_log() {
    let (database, mut connection) = large_outbox().await;
    let selection = "text[], text[], jsonb, text, text[], integer, integer";
    let everything = "null, null, null, 'aggregate', '{}', 1, 0";
    let reached = format!("1, 0, '3:3:', {EVENTS}, {EVENTS}, null, null, null, null");
    let reached_types = "integer, bigint, text, bigint, bigint, text, bigint, bigint, text";

    let window = plan(
        &mut connection,
        &format!("text, bigint, bigint, {selection}"),
        include_str!("../../src/store/sql/read_window.sql"),
        &format!("pg_current_snapshot()::text, 500, 1000000, {everything}"),
    )
    .await;
    assert_plan("read_window", &window, &["events_window"]);

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

    let due =
        plan(&mut connection, "integer, bigint, bigint", include_str!("../../src/store/sql/read_due.sql"), "1, 64, 1000000").await;
    assert_plan("read_due", &due, &["deliveries_due", "events_pkey", "deliveries_by_key"]);

    let next_due = plan(&mut connection, "integer", include_str!("../../src/store/sql/find_next_due.sql"), "1").await;
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

    let backlog = plan(
        &mut connection,
        "integer, text[], text[], jsonb, text, text[], integer, integer",
        include_str!("../../src/store/sql/read_backlog.sql"),
        "1, null, null, null, 'aggregate', null, 1, 0",
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

    let removed = plan(
        &mut connection,
        "bigint, bigint, bigint",
        include_str!("../../src/store/sql/remove_finished.sql"),
        "0, 1000000, 5000",
    )
    .await;
    assert_plan("remove_finished", &removed, &["events_pkey"]);
    connection.close().await.ok();
    drop(database);
}
