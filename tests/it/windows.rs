//! What the relay reads: every committed event once, whatever the transactions around it do.
//! A long file, because every kind of transaction has its test here, and they are read beside one another.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{self, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outboxd::Notification;
use outboxd::config::{HandlerConfig, Start};
use outboxd::domain::{EventFilter, Ordering, Position};
use outboxd::launcher::Postgres;
use outboxd::store::{OpenedPage, PAGE_SPAN, Room, Selection};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{NewRow, Recorder, TestDatabase, eventually, number, own_server, quick, quick_handler, relay};

/// A row with a number, of an aggregate.
fn numbered(key: impl ToString, number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", key).payload(json!({ "n": number }))
}

/// Inserts `count` numbered events over `keys` keys in one statement; the numbers go from 1.
async fn insert_many(database: &TestDatabase, event_type: &str, keys: i64, count: i64) {
    database
        .execute(&format!(
            "insert into events (type, aggregate_type, aggregate_id, payload)
             select '{event_type}', 'order', (n % {keys})::text, json_build_object('n', n) from generate_series(1, {count}) n"
        ))
        .await;
}

fn ids(notifications: &[Notification]) -> Vec<uuid::Uuid> {
    let mut ids: Vec<_> = notifications.iter().map(|notification| notification.id).collect();
    ids.sort_unstable();
    ids
}

fn payloads(notifications: &[Notification]) -> Vec<&str> {
    notifications.iter().map(|notification| notification.payload.as_str()).collect()
}

fn assert_ascending_per_key(notifications: &[Notification]) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    for notification in notifications {
        let key = notification.aggregate_id.as_deref().expect("these events have an aggregate");
        let previous = last.insert(key, notification.seq).unwrap_or(0);
        assert!(notification.seq > previous, "key {key}: {} came after {previous}", notification.seq);
    }
}

/// The outbox in the first database of a server of the test's own.
async fn with_outbox(server: &Postgres) -> PgPool {
    let options: PgConnectOptions = server.url("postgres").parse().expect("an address");
    let connecting = PgPool::connect_with(options.options([("search_path", "outbox,public")]));
    let pool = connecting.await.expect("the server takes connections");
    outboxd::store::migrate(&pool, "outbox", None).await.expect("the migrations apply");
    pool
}

/// Waits until the stored position of every subscription lies behind everything that is committed.
async fn wait_until_stored(database: &TestDatabase) {
    eventually("the stored position is behind every event", || async {
        let pending = database.count("event_states where state = 'pending'").await;
        (pending == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_event_arrives_once_and_no_other() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    let writers = (0..8).map(|writer| {
        let url = database.url().to_owned();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.expect("the server takes connections");
            let mut committed = Vec::new();
            for round in 0..50 {
                let mut transaction = connection.begin().await.expect("a transaction begins");
                let mut ids = Vec::new();
                for _ in 0..1 + round % 3 {
                    let insert = "insert into outbox.events (type, payload) values ('t', '{}') returning id";
                    ids.push(sqlx::query_scalar::<_, uuid::Uuid>(insert).fetch_one(&mut *transaction).await.expect("inserted"));
                }
                if (round + writer) % 4 == 0 {
                    transaction.rollback().await.expect("rolled back");
                } else {
                    transaction.commit().await.expect("committed");
                    committed.extend(ids);
                }
            }
            committed
        })
    });
    let mut committed = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        committed.extend(writer.await.expect("the writer works"));
    }
    committed.sort_unstable();

    recorder.wait_for(committed.len()).await;
    wait_until_stored(&database).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!(ids(&recorder.calls()), committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_commits_last_delays_only_itself() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    let mut straggler = database.connect().await;
    straggler.execute("begin; insert into outbox.events (type, payload) values ('late', '{\"n\": 0}')").await.expect("inserted");
    for number in 1..=20 {
        database.insert_event(numbered(number, number)).await;
    }

    recorder.wait_for(20).await;
    assert!(!recorder.numbers().contains(&0));
    straggler.execute("commit").await.expect("committed");
    recorder.wait_for(21).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers().last(), Some(&0));
    assert_eq!(recorder.calls().len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_straggler_is_remembered_over_a_restart() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let start = || relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    let first = start();
    let mut straggler = database.connect().await;
    straggler.execute("begin; insert into outbox.events (type, payload) values ('late', '{\"n\": 0}')").await.expect("inserted");
    database.insert_event(numbered("a", 1)).await;
    recorder.wait_for(1).await;
    first.stop().await.expect("the relay stops");

    straggler.execute("commit").await.expect("committed");
    let second = start();
    recorder.wait_for(2).await;

    second.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), [1, 0]);
    assert_eq!(recorder.calls().len(), 2);
}

/// Seen: a snapshot ends at the last transaction that had completed and does not name those that ran beyond it, so the number of such a
/// writer lay below the bound of the next window, and after a restart the event was never read.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_nobody_overtook_is_found_by_the_next_window() {
    let server = own_server(&[]).await; // on a shared one somebody else would overtake it
    let pool = with_outbox(&server).await;
    let mut writer = PgConnection::connect(&server.url("postgres")).await.expect("the server takes connections");
    writer.execute("begin; insert into outbox.events (type, payload) values ('late', '{}')").await.expect("inserted");
    let first = outboxd::store::open_window(&mut pool.acquire().await.expect("a connection"), &Position::beginning())
        .await
        .expect("a window");
    let read = Position::beginning().inside(first.window.clone()).after(first.moment.snapshot, first.window.high_seq);
    assert_eq!(read.low_seq, 1, "its number was drawn before the bound was read");

    writer.execute("commit").await.expect("committed");
    let second = outboxd::store::open_window(&mut pool.acquire().await.expect("a connection"), &read).await.expect("a window");

    let selection = Selection::new(&EventFilter::default(), &Ordering::Aggregate, 1, 0);
    let room = Room { rows: 10, bytes: 1 << 20 };
    let opened = OpenedPage { begin: &read.snapshot, window: &second.window, room, selection: &selection, recorded: None };
    let page = outboxd::store::read_page(&pool, &opened, PAGE_SPAN).await.expect("a page");
    assert_eq!(page.notifications.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_delivered_when_it_commits_and_never_when_it_rolls_back() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    // Names of prepared transactions are known to the whole server.
    let name = database.url().rsplit('/').next().expect("an address has a path").to_owned();
    let mut producer = database.connect().await;
    for (suffix, number) in [("kept", 1), ("gone", 2)] {
        let sql = format!(
            "begin; insert into outbox.events (type, payload) values ('prepared', '{{\"n\": {number}}}');
             prepare transaction '{name}_{suffix}'"
        );
        producer.execute(AssertSqlSafe(sql)).await.expect("prepared");
    }
    database.insert_event(numbered("a", 3)).await;
    recorder.wait_for(1).await;

    producer.execute(AssertSqlSafe(format!("rollback prepared '{name}_gone'"))).await.expect("rolled back");
    producer.execute(AssertSqlSafe(format!("commit prepared '{name}_kept'"))).await.expect("committed");
    database.insert_event(numbered("a", 4)).await;
    recorder.wait_for(3).await;
    wait_until_stored(&database).await;

    relay.stop().await.expect("the relay stops");
    let mut numbers = recorder.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_savepoint_takes_back_is_not_delivered() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    let insert =
        |number| format!("insert into outbox.events (type, aggregate_id, payload) values ('t', 'a', '{{\"n\": {number}}}');");
    let sql = format!(
        "begin; {} savepoint a; {} rollback to a; savepoint b; {} savepoint c; {} release b; {} commit",
        insert(1),
        insert(2),
        insert(3),
        insert(4),
        insert(5)
    );
    database.connect().await.execute(AssertSqlSafe(sql)).await.expect("committed");

    recorder.wait_for(4).await;
    wait_until_stored(&database).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), [1, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_paged_in_order_and_resumed_in_the_middle() {
    const COUNT: i64 = 20_000;
    let database = TestDatabase::create().await;
    insert_many(&database, "order.placed", 50, COUNT).await;
    let first_half = Recorder::new();
    let first = relay(&database).handler("all", &[], first_half.handler()).start().expect("the relay starts");
    first_half.wait_for(5_000).await;
    first.stop().await.expect("the relay stops");
    let stopped_at = first_half.calls().len();
    assert!(stopped_at < 20_000, "the relay was too fast to be stopped in the middle");
    assert_eq!(database.count("subscriptions where window_snapshot is not null").await, 1, "the open window is stored");

    let second_half = Recorder::new();
    let second = relay(&database).handler("all", &[], second_half.handler()).start().expect("the relay starts");
    second_half.wait_for(20_000 - stopped_at).await;
    wait_until_stored(&database).await;
    second.stop().await.expect("the relay stops");

    let all = [first_half.calls(), second_half.calls()].concat();
    assert_eq!(all.len(), 20_000);
    assert_ascending_per_key(&all);
    assert_eq!(database.count("deliveries where state = 'delivered'").await, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_events_of_one_transaction_arrive_in_order() {
    const COUNT: i64 = 100_000;
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database)
        .configured_handler("all", recorder.handler(), |config| config.record = outboxd::domain::Record::Failures)
        .start()
        .expect("the relay starts");
    eventually("the relay is there", || async { (database.count("subscriptions where epoch > 0").await == 1).then_some(()) }).await;
    insert_many(&database, "order.placed", 100, COUNT).await;

    let all = recorder.wait_for(100_000).await;
    wait_until_stored(&database).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls().len(), 100_000);
    assert_ascending_per_key(&all);
}

type SetFilter = fn(&mut EventFilter);

#[tokio::test(flavor = "multi_thread")]
async fn filters_let_through_exactly_what_they_name() {
    let database = TestDatabase::create().await;
    let kinds: [(&str, SetFilter); 6] = [
        ("glob", |filter| filter.types = vec!["order.*".into()]),
        ("literal", |filter| filter.types = vec!["order_placed".into()]),
        ("two", |filter| filter.types = vec!["order.paid".into(), "stock.*".into()]),
        ("aggregate", |filter| filter.aggregate_types = vec!["stock".into()]),
        ("header", |filter| filter.headers = BTreeMap::from([("tenant".into(), "acme".into())])),
        ("all_parts", |filter| {
            filter.types = vec!["order.*".into()];
            filter.aggregate_types = vec!["order".into()];
            filter.headers = BTreeMap::from([("tenant".into(), "acme".into())]);
        }),
    ];
    let recorders: Vec<Recorder> = kinds.iter().map(|_| Recorder::new()).collect();
    let mut builder = relay(&database);
    for ((name, set), recorder) in kinds.iter().zip(&recorders) {
        builder = builder.configured_handler(name, recorder.handler(), |config| set(&mut config.filter));
    }
    let relay = builder.start().expect("the relay starts");
    let row = |number, event_type, aggregate: &str, headers| {
        let row = NewRow::new(event_type).payload(json!({ "n": number })).headers(headers);
        if aggregate.is_empty() { row } else { row.of(aggregate, number) }
    };
    database
        .insert_events([
            row(1, "order.placed", "order", json!({ "tenant": "acme" })),
            row(2, "order.paid", "order", json!({ "tenant": "other" })),
            row(3, "order_placed", "", json!({})),
            row(4, "orderXplaced", "", json!({ "tenant": "acme" })),
            row(5, "stock.moved", "stock", json!({ "tenant": ["acme"] })),
            row(6, "order.", "stock", json!({ "tenant": "acme", "more": 1 })),
        ])
        .await;
    eventually("every handler is registered", || async { (database.count("subscriptions").await == 6).then_some(()) }).await;
    wait_until_stored(&database).await;
    relay.stop().await.expect("the relay stops");

    let got: Vec<Vec<i64>> = recorders
        .iter()
        .map(|recorder| {
            let mut numbers = recorder.numbers();
            numbers.sort_unstable();
            numbers
        })
        .collect();
    assert_eq!(got, [vec![1, 2, 6], vec![3], vec![2, 5], vec![5, 6], vec![1, 4, 6], vec![1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selective_filter_does_not_wade_through_what_it_leaves_out() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    insert_many(&database, "noise", 1_000, 200_000).await;
    database.insert_event(numbered("a", 1)).await;
    let began = Instant::now();
    let relay = relay(&database).handler("few", &["order.*"], recorder.handler()).start().expect("the relay starts");

    recorder.wait_for(1).await;
    let took = began.elapsed();

    relay.stop().await.expect("the relay stops");
    assert!(took < Duration::from_secs(5), "{took:?} for 200,000 unwanted events");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_arrives_byte_for_byte() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    let texts = [
        r#"{"z":1,"a":2,"z":3}"#,
        r#"{ "big" : 123456789012345678901234567890.10,  "exact":1.10 }"#,
        r#"{"text":"\u00e9 é \\ \"quoted\" 🦀 \/"}"#,
        "{\n  \"lines\": [1,\n 2]\n}",
    ];
    for text in texts {
        sqlx::query("insert into outbox.events (type, aggregate_id, payload) values ('t', 'a', $1::text::json)")
            .bind(text)
            .execute(database.pool())
            .await
            .expect("inserted");
    }

    let delivered = recorder.wait_for(texts.len()).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(payloads(&delivered), texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_added_later_begins_where_it_is_told_to() {
    let database = TestDatabase::create().await;
    let (first, auto, beginning) = (Recorder::new(), Recorder::new(), Recorder::new());
    let relay_before = relay(&database).handler("first", &[], first.handler()).start().expect("the relay starts");
    database.insert_events((1..=3).map(|number| numbered("a", number))).await;
    first.wait_for(3).await;
    relay_before.stop().await.expect("the relay stops");

    let relay_after = relay(&database)
        .handler("first", &[], first.handler())
        .handler("later", &[], auto.handler())
        .configured_handler("backfilled", beginning.handler(), |config| config.start = Start::Beginning)
        .start()
        .expect("the relay starts");
    eventually("the handlers are registered", || async { (database.count("subscriptions").await == 3).then_some(()) }).await;
    database.insert_event(numbered("a", 4)).await;
    first.wait_for(4).await;
    auto.wait_for(1).await;
    beginning.wait_for(4).await;

    relay_after.stop().await.expect("the relay stops");
    assert_eq!((first.numbers(), auto.numbers(), beginning.numbers()), (vec![1, 2, 3, 4], vec![4], vec![1, 2, 3, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_arrive_in_the_order_of_its_transactions() {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 60;
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    database.execute("create table counters (key text primary key, version bigint not null)").await;
    database.execute("insert into counters select 'k' || n, 0 from generate_series(0, 4) n").await;
    // A little failure now and then: the order must survive retries, too.
    let calls = Arc::new(AtomicI64::new(0));
    let flaky = Recorder::answering(move |_, call| match calls.fetch_add(1, atomic::Ordering::Relaxed) % 17 {
        0 if call == 1 => outboxd::Verdict::retry(outboxd::Reason::ServerError, "now and then"),
        _ => outboxd::Verdict::delivered(),
    });
    let relay = relay(&database)
        .handler("all", &[], recorder.handler())
        .configured_handler("flaky", flaky.handler(), |config: &mut HandlerConfig| {
            quick_handler(config);
            config.circuit.failure_rate = 1.0;
        })
        .start()
        .expect("the relay starts");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let url = database.url().to_owned();
            tokio::spawn(async move {
                let mut connection = PgConnection::connect(&url).await.expect("the server takes connections");
                for round in 0..ROUNDS {
                    let sql = format!(
                        "begin; select pg_current_xact_id();
                         with next as (update outbox.counters set version = version + 1 where key = 'k{}' returning key, version)
                         insert into outbox.events (type, aggregate_type, aggregate_id, payload)
                         select 'counted', 'counter', key, json_build_object('n', version) from next;
                         commit",
                        (writer + round) % 5
                    );
                    connection.execute(AssertSqlSafe(sql)).await.expect("committed");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("the writer works");
    }

    recorder.wait_for(WRITERS * ROUNDS).await;
    flaky.wait_for(WRITERS * ROUNDS).await;

    relay.stop().await.expect("the relay stops");
    for key in 0..5 {
        let want: Vec<i64> = (1..=(WRITERS * ROUNDS / 5) as i64).collect();
        assert_eq!(recorder.numbers_of(&format!("k{key}")), want);
        assert_eq!(flaky.numbers_of(&format!("k{key}")), want);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_that_do_not_wait_for_the_disk_are_delivered() {
    let (database, recorder) = (TestDatabase::create().await, Recorder::new());
    let relay = relay(&database).handler("all", &[], recorder.handler()).start().expect("the relay starts");
    let mut producer = database.connect().await;
    producer.execute("set synchronous_commit = off").await.expect("set");
    for number in 1..=20 {
        let sql = format!("insert into outbox.events (type, aggregate_id, payload) values ('t', 'a', '{{\"n\": {number}}}')");
        producer.execute(AssertSqlSafe(sql)).await.expect("inserted");
    }

    recorder.wait_for(20).await;

    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.numbers(), (1..=20).collect::<Vec<_>>());
}

/// What a writer that waits for a lock does: its transaction has begun before the one that it waits for has ended.
#[tokio::test]
async fn a_window_is_in_the_order_of_its_numbers_and_not_of_its_transactions() {
    let database = TestDatabase::create().await;
    let (mut early, mut late) = (database.connect().await, database.connect().await);
    let insert = |number| format!("insert into outbox.events (type, payload) values ('t', '{{\"n\": {number}}}'); commit");
    early.execute("begin; select pg_current_xact_id()").await.expect("it has its number");
    late.execute("begin; select pg_current_xact_id()").await.expect("it has its number");
    late.execute(AssertSqlSafe(insert(1))).await.expect("committed");
    early.execute(AssertSqlSafe(insert(2))).await.expect("committed");

    let selection = Selection::new(&EventFilter::default(), &Ordering::Aggregate, 1, 0);
    let (room, begin) = (Room { rows: 10, bytes: 1 << 20 }, Position::beginning());
    let mut connection = database.pool().acquire().await.expect("a connection");
    let bounds = outboxd::store::WindowBounds { begin: &begin.snapshot, end: None };
    let whole = outboxd::store::read_window(&mut connection, bounds, room, &selection).await.expect("a window");
    let opened = outboxd::store::open_window(&mut connection, &begin).await.expect("a window");
    let opened = OpenedPage { begin: &begin.snapshot, window: &opened.window, room, selection: &selection, recorded: None };
    let page = outboxd::store::read_page(database.pool(), &opened, PAGE_SPAN).await.expect("a page");

    for notifications in [whole.notifications, page.notifications] {
        assert_eq!(notifications.iter().map(|notification| number(notification)).collect::<Vec<_>>(), [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_on_before_the_server_has_flushed_it() {
    // Its own server, which flushes by itself once in ten seconds: on a shared one the commits of others flush, too.
    let server = own_server(&[("wal_writer_delay", "10s")]).await;
    let pool = with_outbox(&server).await;
    let flushed_at_call: Arc<Mutex<Vec<i64>>> = Arc::default();
    let (looking, noting) = (pool.clone(), Arc::clone(&flushed_at_call));
    let recorder = Recorder::answering_later(move |_, _| {
        let (pool, noted) = (looking.clone(), Arc::clone(&noting));
        async move {
            let flushed = outboxd::store::read_flush_lsn(&pool).await.expect("the server answers");
            noted.lock().expect("nobody panics").push(flushed);
            outboxd::Verdict::delivered()
        }
    });
    let relay = outboxd::RelayBuilder::new(server.url("postgres"))
        .configure(quick)
        .handler("all", &[], recorder.handler())
        .start()
        .expect("the relay starts");
    let mut producer = PgConnection::connect(&server.url("postgres")).await.expect("the server takes connections");
    producer.execute("set synchronous_commit = off").await.expect("set");
    let mut written = Vec::new();
    for number in 1..=20 {
        let mut transaction = producer.begin().await.expect("a transaction begins");
        let insert = "insert into outbox.events (type, payload) values ('t', '{}')";
        transaction.execute(insert).await.expect("inserted");
        let lsn = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
        written.push(sqlx::query_scalar::<_, i64>(lsn).fetch_one(&mut *transaction).await.expect("a position in the log"));
        transaction.commit().await.expect("committed");
        recorder.wait_for(number).await;
        // The flush of this outcome flushes the log, too, and must not do it for the next event.
        eventually("the outcome is recorded", || async {
            let count = "select count(*) from outbox.deliveries where state = 'delivered'";
            let count: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.expect("the rows can be counted");
            (count == number as i64).then_some(())
        })
        .await;
    }
    relay.stop().await.expect("the relay stops");

    let flushed = flushed_at_call.lock().expect("nobody panics").clone();
    let too_early: Vec<_> = written.iter().zip(&flushed).filter(|(written, flushed)| flushed < written).collect();
    assert!(too_early.is_empty(), "handed on before they were durable (written, flushed): {too_early:?}");
}
