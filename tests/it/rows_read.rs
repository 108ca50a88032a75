//! What statements read on a large log, counted in rows by `explain (analyze)`: a plan may look right and still read everything.
//! And a list that notices a statement on the large tables which nobody has measured.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::support::TestDatabase;

const EVENTS: i64 = 1_000_000;

/// A million events that nobody has read but subscription 1. 2: far behind, with a filter that matches nothing. 3: a window is open
/// in the middle. 4: the second of two partitions. 5: a thousand parked deliveries at the end, and nothing unread. 6: 20,000 dead letters,
/// which an index over all handlers would have to pass, a circuit with one witness and a destination in trouble. Two tenths of the
/// events, behind seven, are one stream.
async fn outbox() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    let mut connection = database.connect().await;
    let sql = format!(
        "set search_path = outbox, pg_catalog, public; set synchronous_commit = off;
         insert into events (id, type, aggregate_type, aggregate_id, payload)
         select lpad(n::text, 32, '0')::uuid, 'order.placed', 'order', (n % 1000)::text, '{{}}' from generate_series(1, {EVENTS}) n;
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('near', 'discard', pg_current_snapshot(), {EVENTS}, {EVENTS});
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, type_patterns) values ('far', 'discard', '3:3:', 0, 0, '{{rare.%}}');
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, window_snapshot, window_seq, window_high_seq)
         values ('window', 'discard', '3:3:', 0, 0, pg_current_snapshot(), {EVENTS} / 2, {EVENTS});
         insert into subscriptions (handler, partition, partitions, kind, snapshot, low_seq, high_seq) values ('split', 1, 2, 'discard', '3:3:', 0, 0);
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('parked', 'discard', pg_current_snapshot(), {EVENTS}, {EVENTS});
         insert into deliveries (subscription, seq, state, attempts, handled_at)
         select 1, n, 'delivered', 1, now() from generate_series(1, {EVENTS} / 2) n;
         insert into deliveries (subscription, seq, state, attempts, due_at, key)
         select 5, n, case n % 2 when 0 then 'retrying' else 'waiting' end::delivery_state, 1, now() + interval '1 h', 'order/' || n % 1000
           from generate_series({EVENTS} - 999, {EVENTS}) n;
         insert into subscriptions (handler, kind, snapshot, low_seq, high_seq, circuit, circuit_since, circuit_witness)
         values ('buried', 'discard', pg_current_snapshot(), {EVENTS}, {EVENTS}, 'open', now(), lpad('600000', 32, '0')::uuid);
         insert into deliveries (subscription, seq, state, attempts, handled_at, key)
         select 6, n, 'dead', 1, now(), 'order/' || n % 1000 from generate_series({EVENTS} / 2 + 1, {EVENTS} / 2 + 20000) n;
         insert into destinations (subscription, name, probes, reason) values (6, 'away', 1, 'unroutable');
         insert into deliveries (subscription, seq, state, attempts, due_at, destination)
         select 6, n, 'retrying', 0, now() + interval '1 h', 'away' from generate_series({EVENTS} / 2 + 20001, {EVENTS} / 2 + 20050) n;
         insert into inbox (receiver, source, id) select 'stock', 'test', n::text from generate_series(1, 100000) n;
         insert into types values (1, 'order.placed');
         insert into feed select n, n, 1 from generate_series(1, {EVENTS} / 4) n; insert into feed_places (places) values ({EVENTS} / 4);
         insert into streams (type, key, version) values ('account', 'ann', {EVENTS} / 5);
         insert into stream_events select 1, n, {EVENTS} / 10 * 7 + n from generate_series(1, {EVENTS} / 5) n;
         analyze events; analyze streams; analyze stream_events; analyze deliveries; analyze subscriptions; analyze inbox; analyze feed; analyze types;
         set plan_cache_mode = force_generic_plan"
    );
    // One transaction each: a snapshot that is taken by the transaction that writes the events has not passed them.
    for statement in sql.split_inclusive(';') {
        connection.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    (database, connection)
}

/// Rows of the large tables that a plan has read, those that it threw away included.
fn rows_read(plan: &Value) -> u64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let is_large = ["events", "deliveries", "attempts", "replay_items", "inbox", "feed", "stream_events"]
        .iter()
        .any(|table| plan["Relation Name"] == *table);
    let thrown_away = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    // What a modification lists are the rows that its source has read already.
    let is_read = is_large && plan["Node Type"] != "ModifyTable";
    let own = if is_read { (number("Actual Rows") + thrown_away) * number("Actual Loops") } else { 0.0 };
    own.round() as u64 + plan["Plans"].as_array().into_iter().flatten().map(rows_read).sum::<u64>()
}

/// Executes a statement, takes it back, and gives the rows it read.
async fn measure(connection: &mut PgConnection, types: &str, sql: &str, arguments: &str) -> u64 {
    connection
        .execute(AssertSqlSafe(format!("prepare hot ({types}) as {sql}")))
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    connection.execute("begin").await.expect("a transaction");
    let explain = AssertSqlSafe(format!("explain (analyze, buffers, format json) execute hot ({arguments})"));
    let Json(explained): Json<Value> = connection.fetch_one(explain).await.unwrap_or_else(|error| panic!("{error}: {sql}")).get(0);
    connection.execute("rollback").await.expect("it is taken back");
    connection.execute("deallocate hot").await.expect("the statement is there");
    rows_read(&explained[0]["Plan"])
}

/// As a table is before the first vacuum or analyze, which comes a minute after the rows at the earliest.
const FORGET_STATISTICS: &str = "
    delete from pg_statistic where starelid in ('events'::regclass, 'deliveries'::regclass, 'subscriptions'::regclass, 'inbox'::regclass, 'feed'::regclass,
                                                 'streams'::regclass, 'stream_events'::regclass);
    update pg_class set reltuples = -1, relpages = 0
     where oid in ('events'::regclass, 'deliveries'::regclass, 'subscriptions'::regclass, 'inbox'::regclass, 'feed'::regclass,
                'streams'::regclass, 'stream_events'::regclass)";

/// The id of an event of this log.
fn event(seq: i64) -> String {
    format!("{seq:032}")
}

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../src/store/sql/", $name, ".sql"))
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_million_events_reads_no_more_than_its_bound() {
    let (_database, mut connection) = outbox().await;
    let backlog = "integer, text[], text[], jsonb, text, text[], integer, integer, bigint, bigint";
    let retention = "bigint, bigint, bigint, bigint, boolean";
    let day = 86_400_000_000_i64;
    let publishing = "integer, bigint, text, bigint, text[], text, boolean";
    let reading = "bigint, bigint, bigint, bigint, bigint, text[], text[], text[], jsonb, text";
    let (convert, unreadable) = (sql!("convert_payload").replace("{schema}", "outbox"), sql!("read_unreadable").to_owned());
    // Name, statement, types, arguments, most rows.
    let table: Vec<(&str, &str, &str, String, u64)> = vec![
        ("a look for all loops, nothing new", sql!("find_news"), "text", "pg_current_snapshot()::text".into(), 0),
        ("a look for all loops, a straggler", sql!("find_news"), "text", "'3:3:'".into(), 1),
        ("what rests and has a row", sql!("find_parked"), "integer[]", "'{1,2,3,4,5,6}'".into(), 2),
        (
            "gauges, nothing pending",
            sql!("read_backlog"),
            backlog,
            "1, null, null, null, 'aggregate', '{}', 1, 0, 1000, 1000".into(),
            10,
        ),
        (
            "gauges, far behind a filter",
            sql!("read_backlog"),
            backlog,
            "2, '{rare.%}', null, null, 'aggregate', '{}', 1, 0, 1000, 1000".into(),
            1_100,
        ),
        (
            "gauges, an open window",
            sql!("read_backlog"),
            backlog,
            "3, null, null, null, 'aggregate', '{}', 1, 0, 1000, 1000".into(),
            2_100,
        ),
        (
            "gauges, a partition",
            sql!("read_backlog"),
            backlog,
            "4, null, null, null, 'aggregate', '{}', 2, 1, 1000, 1000".into(),
            1_100,
        ),
        (
            "gauges, parked deliveries",
            sql!("read_backlog"),
            backlog,
            "5, null, null, null, 'aggregate', '{}', 1, 0, 1000, 100".into(),
            120,
        ),
        ("status, far behind a filter", sql!("read_handler_backlog"), "text, bigint, bigint", "'far', 1000, 1000".into(), 1_100),
        ("status, an open window", sql!("read_handler_backlog"), "text, bigint, bigint", "'window', 1000, 1000".into(), 2_100),
        ("status, nothing pending", sql!("read_handler_backlog"), "text, bigint, bigint", "'near', 1000, 1000".into(), 10),
        // Of its own handler only; a plan that sorts them reads all that are parked, at most max_parked.
        ("unfinished rows at a take-over", sql!("count_unfinished"), "integer, bigint", "5, 100".into(), 1_000),
        ("unfinished rows, none", sql!("count_unfinished"), "integer, bigint", "1, 100".into(), 0),
        // And the dead letters, those of all handlers at worst: an operator asks for it.
        ("moving back", sql!("count_again"), "integer, bigint, bigint", "1, 1, 1000".into(), 3_000 + 21_050),
        ("moving back, nothing handled", sql!("count_again"), "integer, bigint, bigint", "2, 1, 1000".into(), 3_000 + 21_050),
        (
            "moving forwards",
            sql!("count_skipped"),
            "integer, bigint, text, bigint",
            "2, 900000, pg_current_snapshot()::text, 1000".into(),
            2_100,
        ),
        (
            "replays, none",
            sql!("release_replays"),
            "integer, bigint, bigint, bigint, text, text[]",
            "1, 0, 1000, 4000, 'aggregate', '{}'".into(),
            10,
        ),
        ("retention, nothing expired", sql!("remove_finished"), retention, format!("0, {day}, 5000, null, false"), 10),
        ("retention, a handler that has passed nothing", sql!("remove_finished"), retention, "0, 0, 5000, null, false".into(), 10),
        ("types, far behind a filter", sql!("count_pending_types"), "text, bigint, jsonb", "'far', 1000, null".into(), 1_100),
        ("types, an open window", sql!("count_pending_types"), "text, bigint, jsonb", "'window', 1000, null".into(), 2_100),
        ("unfinished and dead, of one handler", sql!("count_parked"), "text", "'parked'".into(), 1_000),
        ("unfinished and dead, none", sql!("count_parked"), "text", "'near'".into(), 0),
        ("what is due and cannot be read", sql!("find_unread_due"), "integer, bigint[]", "5, '{}'".into(), 10),
        // At worst what the handler has parked.
        ("what waits and cannot be read", sql!("find_unread_waiting"), "integer, text", "5, 'order/999'".into(), 1_000),
        (
            "an event that cannot be read",
            &unreadable,
            "bigint, text, text, text[], text[], jsonb, integer, integer, integer, text, text, text[]",
            "600000, '3:3:', pg_current_snapshot()::text, null, null, null, 1, 0, 2, null, 'aggregate', '{}'".into(),
            10,
        ),
        ("a payload to convert", &convert, "bigint", "600000".into(), 1),
        ("events that a function was called for", sql!("count_events"), "bigint[]", "'{600000, 600001}'".into(), 2),
        ("events that are gone", sql!("end_orphans"), "integer, bigint, bigint[]", "5, 0, '{999001, 999002}'".into(), 1_010),
        ("destinations", sql!("list_destinations"), "text, bigint", "null, 100".into(), 50),
        (
            "a destination that takes events again",
            sql!("remove_destinations"),
            "integer, bigint, text[]",
            "6, 0, '{away}'".into(),
            50,
        ),
        ("only witnesses", sql!("list_only_witnesses"), "text", "null".into(), 1),
        ("an event at one handler", sql!("find_owed_event"), "text, uuid", format!("'buried', '{}'", event(510_000)), 5),
        (
            "burying an event",
            sql!("bury_event"),
            "integer, bigint, text, text, text, bigint",
            "5, 999001, 'order/1', 'w', 'e', 7".into(),
            10,
        ),
        ("erasing two events", sql!("erase_events"), "bigint[]", "'{600000, 600001}'".into(), 100),
        ("who has not received two events", sql!("find_pending_events"), "bigint[]", "'{600000, 600001}'".into(), 100),
        ("what is due, nothing is", sql!("read_due"), "integer, bigint, bigint, bigint[]", "5, 500, 1000000, '{}'".into(), 0),
        (
            "a window to publish, larger than may be",
            sql!("publish_window"),
            publishing,
            "1, 0, '3:3:', 1000, null, '00000001', false".into(),
            2_100,
        ),
        (
            "a window to publish, none",
            sql!("publish_window"),
            publishing,
            "1, 0, pg_current_snapshot()::text, 1000, null, '00000001', false".into(),
            0,
        ),
        // Of a page, a plan that sorts reads the numbers that it may look at, and no more.
        (
            "a page to publish",
            sql!("publish_page"),
            "integer, bigint, text, text, bigint, bigint, bigint, bigint, bigint, text[], text, boolean, boolean",
            format!("1, 0, '3:3:', pg_current_snapshot()::text, 600000, {EVENTS}, 0, 50000, 500, null, '00000001', true, true"),
            50_100,
        ),
        (
            "a page to publish again",
            sql!("publish_page"),
            "integer, bigint, text, text, bigint, bigint, bigint, bigint, bigint, text[], text, boolean, boolean",
            format!("1, 0, '3:3:', pg_current_snapshot()::text, 1000, {EVENTS}, 0, 50000, 500, null, '00000001', true, true"),
            100_100,
        ),
        (
            "a page of the feed",
            sql!("read_feed_page"),
            reading,
            "1000, 50000, 100, 100, 1000000, '{order.%}', null, null, null, null".into(),
            210,
        ),
        // Places of another type cost a look at an index each, and no event.
        (
            "a page of the feed, of a type that has no place",
            sql!("read_feed_page"),
            reading,
            "1000, 50000, 100, 100, 1000000, '{order.%}', '{rare.%}', null, null, null".into(),
            50_100,
        ),
        (
            "a page of the feed, of headers that no event has",
            sql!("read_feed_page"),
            reading,
            "1000, 50000, 1000, 100, 1000000, null, null, null, '{\"tenant\": \"acme\"}', null".into(),
            2_100,
        ),
        (
            "a damaged event of the feed",
            sql!("read_feed_place"),
            "bigint, text[], text[], text[], jsonb, text, boolean",
            "1000, '{order.%}', null, null, null, null, true".into(),
            2,
        ),
        ("the state of the feed", sql!("read_feed_ground"), "bigint", "1000".into(), 10),
        (
            "the place of an event",
            sql!("find_feed_event"),
            "uuid, text[], text[], jsonb",
            format!("'{}', '{{order.%}}', null, null", event(1_000)),
            10,
        ),
        (
            "how far handlers are with an event",
            sql!("read_event_progress"),
            "uuid, text[], text[], jsonb, text[]",
            format!("'{}', null, null, null, '{{near,parked,split}}'", event(EVENTS - 1)),
            20,
        ),
        // Of each probe one place and one event, and at the end those that are looked back at.
        ("the place of a time", sql!("find_feed_time"), "timestamptz, bigint", "now(), 1000".into(), 2_200),
        (
            "deliveries of streams",
            sql!("remove_handled"),
            "integer, bigint, bigint, bigint, bigint",
            format!("1, 0, {EVENTS}, 0, 5000"),
            5_000,
        ),
        // A version and its event each.
        (
            "a stream, its first page",
            sql!("read_stream"),
            "text, text, integer, bigint",
            "'account', 'ann', null, 500".into(),
            1_000,
        ),
        (
            "a stream, the next page",
            sql!("read_stream_page"),
            "bigint, bigint, bigint, bigint",
            "1, 100000, 200000, 500".into(),
            1_000,
        ),
        (
            "a stream, for a client",
            sql!("read_stream_events"),
            "bigint, bigint, bigint, bigint, bigint, text[]",
            "1, 100000, 200000, 100, 4000000, '{}'".into(),
            200,
        ),
        ("marks of receivers, none is old", sql!("remove_inbox"), "bigint, bigint", format!("{day}, 1000"), 0),
    ];
    let mut exceeded = Vec::new();
    // The first executions of a session have plans of their own, later ones a plan for any arguments.
    let passes = [("analyzed", "generic"), ("analyzed", "custom"), ("never analyzed", "generic"), ("never analyzed", "custom")];
    for (statistics, plans) in passes {
        if statistics == "never analyzed" {
            connection.execute(FORGET_STATISTICS).await.expect("the statistics are gone");
        }
        let set = format!("set plan_cache_mode = force_{plans}_plan");
        connection.execute(AssertSqlSafe(set)).await.expect("the plans are chosen");
        for (name, sql, types, arguments, most) in &table {
            // Looks choose the plan for any arguments themselves (`bound_statement.sql`), and the sessions of clients of the feed have it.
            if plans == "custom" && ["gauges", "status", "a page of the feed"].iter().any(|look| name.starts_with(look)) {
                continue;
            }
            let read = measure(&mut connection, types, sql, arguments).await;
            if read > *most {
                exceeded.push(format!("{name}, {statistics}, {plans} plan: {read} rows, {most} are allowed"));
            }
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
    connection
        .execute("analyze events; analyze deliveries; set plan_cache_mode = force_generic_plan")
        .await
        .expect("they are made anew");

    // Without those that hold it back, retention reads what goes and little else.
    connection
        .execute("delete from subscriptions where id <> 1; delete from deliveries where subscription = 5")
        .await
        .expect("gone");
    let read = measure(&mut connection, retention, sql!("remove_finished"), "0, 0, 100, null, false").await;
    assert!(read < 1_500, "{read} rows were read to remove 100 events");
    // Where a stream lies, an entry of two indexes each, and no event.
    let walking = format!("{EVENTS} / 10 * 7, 0, 5000, null, false");
    let read = measure(&mut connection, retention, sql!("remove_finished"), &walking).await;
    assert!(read < 10_100, "{read} rows were read to walk over 5,000 events of a stream");
}

/// Statements on the large tables whose cost is given by their arguments, by one transaction, or by what an operator asked for.
const BOUNDED_OTHERWISE: &str = include_str!("rows_read.txt");

#[test]
fn every_statement_on_the_large_tables_is_measured_or_says_why_not() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sql");
    let measured = [include_str!("rows_read.rs"), include_str!("plans.rs"), include_str!("status.rs")].join("\n");
    let known: BTreeSet<&str> = BOUNDED_OTHERWISE.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let mut unknown = Vec::new();
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the folder of the statements") {
        let path = entry.expect("a file").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = std::fs::read_to_string(&path).expect("a statement");
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ");
        let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let is_large = ["events", "deliveries", "attempts", "replay_items", "event_states", "stream_events"]
            .iter()
            .any(|table| words.contains(table));
        let is_measured = measured.contains(&format!("\"{name}\"")) || measured.contains(&format!("{name}.sql"));
        if is_large && !is_measured && !known.contains(name.as_str()) {
            unknown.push(name.clone());
        }
        names.insert(name);
    }
    unknown.sort();
    assert!(unknown.is_empty(), "measure what they read in this file, or say in rows_read.txt what bounds it: {unknown:#?}");
    let stale: Vec<_> = known.iter().filter(|name| !names.contains(**name)).collect();
    assert!(stale.is_empty(), "{stale:?}");
}
