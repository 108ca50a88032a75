//! The producer's contract: a plain insert is enough, a bad row is refused in the producer's own transaction, and what
//! the relay's algorithms assume about the table is true of the table.

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::TestDatabase;

/// Message, hint and SQLSTATE of a refused statement.
async fn refusal(connection: &mut PgConnection, sql: &str) -> (String, String, String) {
    let error = connection.execute(AssertSqlSafe(sql.to_owned())).await.expect_err(sql);
    let error = error.into_database_error().expect("the server refuses it");
    let code = error.code().unwrap_or_default().into_owned();
    let postgres = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    (postgres.message().to_owned(), postgres.hint().unwrap_or_default().to_owned(), code)
}

#[tokio::test]
async fn a_plain_insert_needs_only_type_and_payload() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;

    producer.execute("insert into outbox.events (type, payload) values ('order.placed', '{}')").await.expect("it is enough");

    let (tx_known, seq, has_id, headers): (bool, i64, bool, String) =
        sqlx::query_as("select tx < pg_current_xact_id(), seq, id is not null, headers::text from outbox.events")
            .fetch_one(database.pool())
            .await
            .expect("the row is there");
    assert_eq!((tx_known, seq, has_id, headers.as_str()), (true, 1, true, "{}"));
}

#[tokio::test]
async fn a_bad_row_is_refused_with_words_that_help() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;
    let long_type = "x".repeat(256);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024));
    for (values, message, hint) in [
        ("'', '{}', '{}'".to_owned(), "the event has no type", "Name what happened"),
        (format!("'{long_type}', '{{}}', '{{}}'"), "the event type has 256 bytes, 255 are allowed", "Put what varies"),
        ("'a', '[1]', '{}'".to_owned(), "the payload of event \"a\" is a JSON array, not an object", "Wrap the value"),
        ("'a', 'null', '{}'".to_owned(), "the payload of event \"a\" is a JSON null, not an object", "Wrap the value"),
        (
            format!("'a', '{large}', '{{}}'"),
            "the payload of event \"a\" has 1048584 bytes, 1048576 are allowed",
            "outbox.max_payload",
        ),
        ("'a', '{}', '[]'".to_owned(), "the headers of event \"a\" are a JSON array, not an object", "traceparent"),
    ] {
        let sql = format!("insert into outbox.events (type, payload, headers) values ({values})");
        let (got_message, got_hint, code) = refusal(&mut producer, &sql).await;
        assert_eq!(got_message, format!("outbox: {message}"));
        assert!(got_hint.contains(hint), "{got_hint}");
        assert_eq!(code, "23514", "{message}"); // check_violation, which libraries know as a mistake of the caller
    }
}

#[tokio::test]
async fn a_row_without_type_payload_or_headers_is_refused() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;
    for (columns, values, named) in
        [("payload", "'{}'", "type"), ("type", "'a'", "payload"), ("type, payload, headers", "'a', '{}', null", "headers")]
    {
        let (message, _, code) = refusal(&mut producer, &format!("insert into outbox.events ({columns}) values ({values})")).await;
        assert!(code == "23502" || code == "23514", "{message} ({code})");
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test]
async fn a_refused_row_takes_the_producers_transaction_with_it() {
    let database = TestDatabase::create().await;
    database.execute("create table public.orders (id integer)").await;
    let mut producer = database.connect().await;

    let mut transaction = producer.begin().await.expect("a transaction begins");
    transaction.execute("insert into public.orders values (1)").await.expect("the order is fine");
    transaction.execute("insert into outbox.events (type, payload) values ('', '{}')").await.expect_err("the event is not");
    transaction.rollback().await.expect("the producer gives up");

    assert_eq!((database.count("public.orders").await, database.count("events").await), (0, 0));
}

#[tokio::test]
async fn a_producer_may_insert_jsonb() {
    let database = TestDatabase::create().await;
    database.execute("insert into outbox.events (type, payload) values ('a', '{\"b\": 1, \"a\": 2}'::jsonb)").await;
    database.execute("insert into outbox.events (type, payload) select 'a', to_jsonb(o) from (select 1 as id) as o").await;
    database.execute("insert into outbox.events (type, payload) values ('a', jsonb_build_object('id', 2))").await;
    assert_eq!(database.count("events").await, 3);
}

#[tokio::test]
async fn a_payload_is_kept_byte_for_byte() {
    let database = TestDatabase::create().await;
    let payload = "{ \"z\":1.10,\t\"a\":12345678901234567890, \"a\":\"\\u00e4 ö\",\n\"e\":1E+2 }";
    sqlx::query("insert into outbox.events (type, payload) values ('a', $1::text::json)")
        .bind(payload)
        .execute(database.pool())
        .await
        .expect("it is an object");

    let (kept, bytes): (String, i32) = sqlx::query_as("select payload::text, payload_bytes from outbox.events")
        .fetch_one(database.pool())
        .await
        .expect("the row is there");
    assert_eq!((kept.as_str(), bytes as usize), (payload, payload.len()));
}

/// The relay bounds the paging of a large window by "every row with tx >= X has a seq drawn after X was current".
#[tokio::test]
async fn a_transaction_has_its_number_before_the_sequence_is_drawn() {
    let database = TestDatabase::create().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select attname::text from pg_attribute where attrelid = 'outbox.events'::regclass and attnum > 0 order by attnum limit 2",
    )
    .fetch_all(database.pool())
    .await
    .expect("the catalogue answers");
    assert_eq!(columns, ["tx", "seq"]);

    // With the sequence exhausted, what came before the draw has happened and what comes after has not.
    database.execute("alter table outbox.events alter column seq set maxvalue 2").await;
    database.execute("insert into outbox.events (type, payload) values ('a', '{}'), ('a', '{}')").await;
    let mut producer = database.connect().await;
    producer.execute("begin; savepoint before").await.expect("a transaction begins");
    let insert = "insert into outbox.events (type, payload) values ('a', '{}')";
    assert_eq!(refusal(&mut producer, insert).await.2, "2200H"); // sequence limit exceeded
    producer.execute("rollback to before").await.expect("the savepoint is there");
    let has_number: bool = sqlx::query_scalar("select pg_current_xact_id_if_assigned() is not null")
        .fetch_one(&mut producer)
        .await
        .expect("an answer");
    assert!(has_number);
}

/// A cache would hand each session a block of numbers, and a later transaction could get the smaller one.
#[tokio::test]
async fn sessions_do_not_cache_sequence_numbers() {
    let database = TestDatabase::create().await;
    assert_eq!(
        database.count("pg_sequences where schemaname = 'outbox' and sequencename = 'events_seq_seq' and cache_size = 1").await,
        1
    );

    let (mut one, mut other) = (database.connect().await, database.connect().await);
    for expected in 1..=4_i64 {
        let producer = if expected % 2 == 0 { &mut one } else { &mut other };
        let seq: i64 = sqlx::query_scalar("insert into outbox.events (type, payload) values ('a', '{}') returning seq")
            .fetch_one(producer)
            .await
            .expect("it is well formed");
        assert_eq!(seq, expected);
    }
}

#[tokio::test]
async fn nobody_can_choose_the_sequence_number() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;
    let (message, _, code) = refusal(&mut producer, "insert into outbox.events (seq, type, payload) values (7, 'a', '{}')").await;
    assert_eq!(code, "428C9", "{message}"); // generated always
}

#[tokio::test]
async fn an_id_is_taken_only_once() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;
    let insert = "insert into outbox.events (id, type, payload) values ('11111111-1111-1111-1111-111111111111', 'a', '{}')";
    producer.execute(insert).await.expect("the first is new");
    assert_eq!(refusal(&mut producer, insert).await.2, "23505");
}

#[tokio::test]
async fn the_bell_rings_only_while_somebody_holds_the_key() {
    let database = TestDatabase::create().await;
    let insert = "insert into outbox.events (type, payload) values ('a', '{}')";
    let mut sleeper = PgListener::connect_with(database.pool()).await.expect("a listener connects");
    sleeper.listen("outboxd_outbox").await.expect("it listens");

    // Awake: nobody holds the key. A notification of our own afterwards proves that none of the trigger came before it.
    database.execute(insert).await;
    database.execute("select pg_notify('outboxd_outbox', 'the test')").await;
    let first =
        tokio::time::timeout(Duration::from_secs(30), sleeper.recv()).await.expect("it arrives").expect("the connection lives");
    assert_eq!(first.payload(), "the test");

    // Asleep: it holds the key on its own session.
    let taken: bool =
        sqlx::query_scalar("select pg_try_advisory_lock(outbox.bell_key())").fetch_one(&mut sleeper).await.expect("an answer");
    assert!(taken);
    database.execute(insert).await;
    let second =
        tokio::time::timeout(Duration::from_secs(30), sleeper.recv()).await.expect("it rings").expect("the connection lives");
    assert_eq!(second.payload(), "");
}

/// The relay may fall asleep only when no writer is in flight that has skipped the bell: its event would wait for the poll.
#[tokio::test]
async fn the_key_is_not_to_be_had_while_a_writer_has_skipped_the_bell() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;
    let take = "select pg_try_advisory_lock(outbox.bell_key())";
    let mut relay = database.connect().await;

    let mut transaction = producer.begin().await.expect("a transaction begins");
    transaction.execute("insert into outbox.events (type, payload) values ('a', '{}')").await.expect("it is well formed");
    let while_writing: bool = sqlx::query_scalar(take).fetch_one(&mut relay).await.expect("an answer");
    transaction.commit().await.expect("it commits");
    let afterwards: bool = sqlx::query_scalar(take).fetch_one(&mut relay).await.expect("an answer");

    assert_eq!((while_writing, afterwards), (false, true));
}
