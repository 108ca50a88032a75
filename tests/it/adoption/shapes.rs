//! What an event is made of: the shapes, and whatever a row may hold.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};

use super::{DEBEZIUM, DEBEZIUM_ENTRY, Shop, execute};
use crate::support::{Binary, Receiver, eventually};

/// A role that every server has; what is granted to it goes away with the database of the test.
const ROLE: &str = "pg_monitor";

#[tokio::test(flavor = "multi_thread")]
async fn a_debezium_row_that_is_deleted_at_once_is_delivered_and_its_application_needs_no_right_on_the_outbox() {
    let shop = Shop::adopted(DEBEZIUM, DEBEZIUM_ENTRY).await;
    shop.database.execute(&format!("grant insert, select, delete on public.outboxevent to {ROLE}")).await;
    let mut application = shop.database.connect().await;
    execute(&mut application, &format!("set role {ROLE}")).await;

    execute(
        &mut application,
        "begin;
         insert into outboxevent values ('7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d', 'order', '42', 'OrderPlaced', '{\"total\": \"99.50\"}',
             E'#Thu Jan 01 00:00:00 UTC 2026\\ntraceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\\n', '2026-01-01 10:00Z');
         delete from outboxevent;
         commit",
    )
    .await;

    let event = shop.event().await;
    for (name, want) in [
        ("id", json!("7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d")),
        ("type", json!("OrderPlaced")),
        ("aggregate_type", json!("order")),
        ("aggregate_id", json!("42")),
        ("payload", json!({ "total": "99.50" })),
        ("headers", json!({ "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" })),
    ] {
        assert_eq!(event[name], want, "{name}");
    }
    assert!(event["occurred_at"].as_str().is_some_and(|moment| moment.starts_with("2026-01-01T10:00:00")), "{event:#}");
    assert_eq!(shop.database.count("public.outboxevent").await, 0);
    let receiver = Receiver::start().await;
    let handler = format!(
        "[[handlers]]\nname = \"h\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"",
        receiver.url()
    );
    let relay = Binary::relay(shop.database.url(), &handler).spawn(&["run"]);
    eventually("the receiver has it", || async { (receiver.received().len() == 1).then_some(()) }).await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

/// Each as one row of a table that has the column with the given type.
#[tokio::test]
async fn no_payload_fails_the_application_and_none_is_lost() {
    for (kind, value, want) in [
        ("jsonb", "'{\"a\": 1}'", json!({ "a": 1 })),
        ("jsonb", "'[1]'", json!({ "value": [1] })),
        ("jsonb", "'null'", json!({ "value": null })),
        ("jsonb", "null", json!({ "value": null })),
        ("json", "'\"text\"'", json!({ "value": "text" })),
        ("text", "'{\"a\": 1}'", json!({ "a": 1 })),
        ("text", "'7'", json!({ "value": 7 })),
        ("text", "'no {json'", json!({ "value": "no {json" })),
        ("text", "''", json!({ "value": "" })),
        ("text", "null", json!({ "value": null })),
        ("text", "repeat('[', 100000)", json!({ "value": "[".repeat(100_000) })),
        ("varchar(20)", "'{\"b\": 2}'", json!({ "b": 2 })),
        ("xml", "'<a/>'", json!({ "value": "<a/>" })),
        ("bytea", "'{\"a\": 1}'", json!({ "a": 1 })),
        ("bytea", "'text'", json!({ "value": "text" })),
        ("bytea", "'\\x00ff'", json!({ "base64": "AP8=" })),
        ("bytea", "null", json!({ "value": null })),
    ] {
        let tables = format!("create table public.o (kind text, body {kind})");
        let shop =
            Shop::adopted(&tables, "[[adopt]]\ntable = \"o\"\nshape = \"custom\"\ntype = \"kind\"\npayload = \"body\"\n").await;
        execute(&mut shop.database.connect().await, &format!("insert into o values ('a', {value})")).await;
        assert_eq!(shop.event().await["payload"], want, "{kind} {value}");
    }
}

#[tokio::test]
async fn a_payload_of_text_goes_out_byte_for_byte() {
    let shop = Shop::adopted(&DEBEZIUM.replace("jsonb", "text"), DEBEZIUM_ENTRY).await;
    let text = "{\"b\":1.50,  \"a\":\"\\u0000\",\"a\":2}";
    execute(
        &mut shop.database.connect().await,
        &format!("insert into outboxevent values (gen_random_uuid(), 'order', '1', 't', '{text}')"),
    )
    .await;
    assert_eq!(shop.events("payload").await, [text]);
}

#[tokio::test]
async fn nothing_else_in_a_row_fails_the_application_either() {
    let tables = "create table public.o (id text, kind text, body jsonb, head text, at timestamp, ms bigint, trace text)";
    let entry = "[[adopt]]\ntable = \"o\"\nshape = \"custom\"\nid = \"id\"\ntype = \"kind\"\npayload = \"body\"\nheaders = \"head\"\n\
                 trace_context = \"trace\"\n";
    let shop = Shop::adopted(tables, &format!("{entry}occurred_at = \"at\"\n")).await;
    let mut application = shop.database.connect().await;
    for row in [
        "null, null, null, null, null, null, null",
        "'x', '', '{}', '[1]', 'infinity', 0, 'traceparent=nonsense'",
        "'x', repeat('é', 200), '{}', 'no json', '-infinity', 0, ''",
        "'not-a-uuid', 'a', '{}', '{\"a\":\"\\u0000\"}', '0001-01-01', 0, null",
        "'11111111-1111-1111-1111-111111111111', 'a', '{}', '{\"tenant\":\"acme\"}', '2026-01-01 10:00', 0, null",
    ] {
        execute(&mut application, &format!("insert into o values ({row})")).await;
    }
    let long = "é".repeat(63);
    assert_eq!(shop.events("type").await, ["unknown", "unknown", long.as_str(), "a", "a"]);
    let headers = shop.events("headers").await;
    assert_eq!(
        (headers[0].as_str(), headers[1].as_str(), headers[2].as_str()),
        ("{}", "{\"value\": [1]}", "{\"value\": \"no json\"}")
    );
    assert_eq!(headers[4], "{\"tenant\": \"acme\"}");
    let moments = shop.events("occurred_at at time zone 'UTC'").await;
    assert_eq!((moments[3].as_str(), moments[4].as_str()), ("0001-01-01 00:00:00", "2026-01-01 10:00:00"));
    assert_eq!(shop.database.count("events where isfinite(occurred_at)").await, 5);
    assert_eq!(shop.events("id").await[4], "11111111-1111-1111-1111-111111111111");

    // And as milliseconds.
    let shop = Shop::adopted(tables, &format!("{entry}occurred_at = \"ms\"\n")).await;
    let mut application = shop.database.connect().await;
    for number in ["1767261600123", "-1", "9223372036854775807", "null"] {
        execute(&mut application, &format!("insert into o values (gen_random_uuid()::text, 'a', '{{}}', null, null, {number})"))
            .await;
    }
    assert_eq!(shop.events("occurred_at at time zone 'UTC'").await[0], "2026-01-01 10:00:00.123");
    assert_eq!(shop.database.count("events where occurred_at > now() - interval '1 hour'").await, 3);
}

/// The one exception: there is no true event to record in its place.
#[tokio::test]
async fn a_payload_above_the_bound_is_refused_with_what_to_do() {
    let shop = Shop::adopted(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let insert =
        "insert into outboxevent values (gen_random_uuid(), 'order', '1', 't', jsonb_build_object('a', repeat('x', 2000000)))";
    let error = shop.database.connect().await.execute(insert).await.expect_err("it is too large");
    let error = error.into_database_error().expect("the server says so");
    let postgres = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    assert!(postgres.message().contains("1048576 are allowed"), "{}", postgres.message());
    assert!(postgres.hint().is_some_and(|hint| hint.contains("outbox.max_payload")));
    assert_eq!(shop.database.count("public.outboxevent").await, 0);
}

#[tokio::test]
async fn both_tables_of_open_outbox_are_known() {
    // As examples/postgres.sql of the specification and schema/postgres of its relay have them, without what no event is made of.
    for (columns, payload) in [
        (
            "event_id uuid primary key, event_type text not null, occurred_at timestamptz not null default '2026-01-01Z',
             partition_key text not null, payload jsonb not null, headers jsonb not null default '{}',
             status text not null default 'PENDING', created_at timestamptz not null default now()",
            "'{\"total\": 1}'",
        ),
        (
            "event_id uuid primary key, event_type text not null, partition_key text, payload bytea not null,
             headers jsonb not null default '{}', status text not null default 'PENDING', created_at timestamptz not null default '2026-01-01Z'",
            "convert_to('{\"total\": 1}', 'UTF8')",
        ),
    ] {
        let shop = Shop::adopted(
            &format!("create table public.openoutbox_events ({columns})"),
            "[[adopt]]\ntable = \"openoutbox_events\"\nshape = \"open-outbox\"\n",
        )
        .await;
        let insert = format!(
            "insert into openoutbox_events (event_id, event_type, partition_key, payload, headers)
             values ('11111111-1111-1111-1111-111111111111', 'order.placed', '42', {payload}, '{{\"trace_id\": \"t\"}}')"
        );
        execute(&mut shop.database.connect().await, &insert).await;
        let event = shop.event().await;
        assert_eq!(event["id"], "11111111-1111-1111-1111-111111111111");
        assert_eq!((&event["type"], &event["aggregate_type"], &event["aggregate_id"]), (&json!("order.placed"), &Value::Null, &json!("42")));
        assert_eq!((&event["payload"], &event["headers"]), (&json!({ "total": 1 }), &json!({ "trace_id": "t" })));
        assert!(event["occurred_at"].as_str().is_some_and(|moment| moment.starts_with("2026-01-01T00:00:00")), "{event:#}");
    }
}

#[tokio::test]
async fn a_table_of_any_shape_is_mapped_column_by_column_and_with_constants() {
    let tables = "create schema shop;
                  create type shop.kind as enum ('placed', 'paid');
                  create table shop.\"Messages\" (\"No\" bigint primary key, kind shop.kind, \"order\" integer, v smallint, body json, tenant uuid)";
    let entry = "[[adopt]]\ntable = \"shop.Messages\"\nshape = \"custom\"\nid = \"No\"\ntype = \"kind\"\naggregate_type = \"constant:it's\"\n\
                 aggregate_id = \"order\"\naggregate_version = \"v\"\npayload = \"body\"\n\
                 extra_headers = { tenant = \"tenant\", source = 'constant:a \"b\" \\ $adopt$ {events}' }\n";
    let shop = Shop::adopted(tables, entry).await;
    let mut application = shop.database.connect().await;
    let insert = "insert into shop.\"Messages\" values (7, 'paid', 42, 3, '{}', '11111111-1111-1111-1111-111111111111')";
    execute(&mut application, insert).await;
    let event = shop.event().await;
    assert_eq!((&event["type"], &event["aggregate_type"], &event["aggregate_id"]), (&json!("paid"), &json!("it's"), &json!("42")));
    assert_eq!(event["aggregate_version"], 3);
    let headers = json!({ "tenant": "11111111-1111-1111-1111-111111111111", "source": "a \"b\" \\ $adopt$ {events}" });
    assert_eq!(event["headers"], headers);
    let first = event["id"].clone();

    // The same row is the same event, also by a copy; the same number with another content is another one.
    execute(&mut application, &format!("delete from shop.\"Messages\"; {insert}")).await;
    shop.succeed(&["adopt", "--existing"]).await;
    assert_eq!(shop.event().await["id"], first);
    execute(&mut application, "truncate shop.\"Messages\"; insert into shop.\"Messages\" values (7, 'placed', 43, 1, '{}', null)")
        .await;
    assert_eq!(shop.events("aggregate_id").await, ["42", "43"]);
}

#[tokio::test]
async fn rows_are_seen_whichever_way_they_come_in_and_updates_and_deletes_change_nothing() {
    let tables = "create table public.o (id uuid default gen_random_uuid(), kind text, body jsonb) partition by list (kind);
                  create table public.o_a partition of public.o for values in ('a');
                  create table public.o_rest partition of public.o default";
    for copy in ["statement", "commit"] {
        let entry = format!(
            "[[adopt]]\ntable = \"o\"\nshape = \"custom\"\ncopy = \"{copy}\"\nid = \"id\"\ntype = \"kind\"\npayload = \"body\"\n"
        );
        let shop = Shop::adopted(tables, &entry).await;
        let mut application = shop.database.connect().await;
        for sql in [
            "insert into o (kind, body) values ('a', '{\"n\": 1}'), ('b', '{\"n\": 2}')",
            "insert into o_a (kind, body) values ('a', '{\"n\": 3}')",
            "create table o_c partition of o for values in ('c'); insert into o_c (kind, body) values ('c', '{\"n\": 4}')",
            "update o set body = '{\"n\": 5}'",
            "delete from o",
            "insert into o (kind, body) select 'a', '{}' where false",
        ] {
            execute(&mut application, sql).await;
        }
        assert_eq!(shop.events("payload ->> 'n'").await, ["1", "2", "3", "4"], "{copy}");
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe("select count(*) from o")).fetch_one(&mut application).await.expect("a count");
        assert_eq!(count, 0);
    }
}

#[tokio::test]
async fn an_id_that_comes_twice_is_one_event_and_the_application_is_none_the_wiser() {
    let shop = Shop::adopted(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let mut application = shop.database.connect().await;
    let insert = "insert into outboxevent values ('11111111-1111-1111-1111-111111111111', 'order', '1', 't', '{}')";
    execute(&mut application, &format!("{insert}; delete from outboxevent; {insert}")).await;
    execute(&mut application, &format!("{insert} on conflict do nothing")).await;
    execute(&mut application, &format!("{insert} on conflict (id) do update set type = 'u'")).await;
    assert_eq!(shop.events("type").await, ["t"]);
}
