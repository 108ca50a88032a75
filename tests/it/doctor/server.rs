//! The server, its sessions and tables, the rights of the role, and whose outbox it is.

use outboxd::launcher::{Options, Postgres};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{findings, fix, found, gone, json as parse, make_and_mend, paste, report};
use crate::support::{Binary, NewRow, TestDatabase, eventually};

/// A server as a careful person sets it up, with an outbox in `postgres`. Its settings stand in its files, where they can be changed.
async fn careful_server() -> (Postgres, String) {
    let start = || Postgres::start(Options::default().setting("max_prepared_transactions", "5"));
    let server = tokio::task::spawn_blocking(start).await.expect("no panic").expect("a server starts");
    let url = server.url("postgres");
    let migrated = Binary::with_config("").run(&["migrate", "--database-url", &url]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    (server, url)
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the server takes connections");
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careful_server_has_nothing_to_tell_and_a_careless_one_is_mended() {
    let (_server, url) = careful_server().await;
    let report = report(&url).await;
    assert_eq!((&report["level"], &report["findings"]), (&json!("ok"), &json!([])), "{report:#}");
    let left_out: Vec<&str> =
        report["left_out"].as_array().expect("a list").iter().filter_map(|out| out["check"].as_str()).collect();
    assert_eq!(left_out, ["configuration"]);
    let text = Binary::with_config("").run(&["doctor", "--database-url", &url]).await.stdout;
    assert!(text.starts_with("ok: nothing was found\n\nskipped:\n  configuration: "), "{text}");

    for (setting, check) in
        [("fsync", "durability"), ("full_page_writes", "durability"), ("autovacuum", "autovacuum"), ("track_counts", "autovacuum")]
    {
        for statement in [format!("alter system set {setting} = off"), "select pg_reload_conf()".to_owned()] {
            execute(&url, &statement).await;
        }
        let finding = found(&url, check, setting).await;
        assert_eq!(finding["level"], "critical");
        paste(&url, fix(&finding).1).await;
        gone(&url, check, setting).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_not_waited_for_are_found_and_mended() {
    let database = TestDatabase::create().await;
    let fault = "do $$ begin
                     execute format('alter role %I in database %I set synchronous_commit = off', current_user, current_database());
                 end $$";
    make_and_mend(&database, fault, "durability", "synchronous_commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_open_for_long_is_found_by_its_process_and_ended() {
    let database = TestDatabase::create().await;
    let mut forgotten = database.connect().await;
    forgotten.execute("set application_name = 'nightly report'; begin; create temp table t ()").await.expect("an open transaction");
    let old = || async {
        let finished =
            Binary::with_config("").run(&["doctor", "--json", "--older-than", "50ms", "--database-url", database.url()]).await;
        let report = parse(&finished);
        findings(&report, "transactions", "\"nightly report\"").first().map(|finding| (*finding).clone())
    };
    let finding = eventually("it is told", old).await;
    assert!(finding["why"].as_str().is_some_and(|why| why.contains("its own events are delivered when it commits")), "{finding:#}");
    paste(database.url(), fix(&finding).1).await;
    eventually("it is told no more", || async { old().await.is_none().then_some(()) }).await;
    forgotten.execute("select 1").await.expect_err("its session was ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_that_was_forgotten_is_found_and_ended() {
    let database = TestDatabase::create().await;
    let gid = format!("it's {}", database.url().rsplit('/').next().expect("a name"));
    let mut session = database.connect().await;
    let prepare = format!("begin; create table public.t (); prepare transaction '{}'", gid.replace('\'', "''"));
    session.execute(AssertSqlSafe(prepare)).await.expect("it is prepared");
    let old = || async {
        let finished =
            Binary::with_config("").run(&["doctor", "--json", "--older-than", "0s", "--database-url", database.url()]).await;
        let name = gid.replace('\'', "''");
        let report = parse(&finished);
        findings(&report, "prepared", &name).first().map(|finding| (*finding).clone())
    };
    let finding = eventually("it is told", old).await;
    assert_eq!(finding["fixes"].as_array().map(Vec::len), Some(2), "{finding:#}");
    paste(database.url(), fix(&finding).1).await;
    assert!(old().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vacuum_has_left_is_found_and_mended() {
    let database = TestDatabase::create().await;
    make_and_mend(&database, "alter table deliveries set (autovacuum_enabled = false)", "autovacuum", "outbox.deliveries").await;
    let rows =
        "insert into deliveries (subscription, seq, state, attempts) select 1, n, 'delivered', 1 from generate_series(1, 130000) n";
    make_and_mend(
        &database,
        &format!("alter table deliveries set (autovacuum_enabled = false); {rows}"),
        "statistics",
        "outbox.deliveries",
    )
    .await;
    make_and_mend(&database, "update deliveries set attempts = 2", "dead_rows", "outbox.deliveries").await;

    // As after a burst of failures: what is left stands at the end of the file, so nothing can be cut off.
    make_and_mend(&database, "delete from deliveries where seq < 129990", "dead_rows", "outbox.deliveries").await;
    let finding = found(database.url(), "bloat", "outbox.deliveries").await;
    paste(database.url(), fix(&finding).1).await;
    gone(database.url(), "bloat", "outbox.deliveries").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_a_relay_lacks_are_found_and_granted() {
    let (server, url) = careful_server().await;
    execute(&url, "create role relay login password 'r'").await;
    let role_url = format!("postgres://relay:r@127.0.0.1:{}/postgres", server.port());
    let finding = found(&role_url, "grants", "may not use schema outbox").await;
    paste(&url, fix(&finding).1).await;
    execute(&url, "revoke execute on function outbox.last_seq() from public").await;
    let finding = found(&role_url, "grants", "role relay lacks rights on").await;
    let (_, text) = fix(&finding);
    for statement in [
        "grant select, delete on outbox.events to relay;",
        "grant select on sequence outbox.events_seq_seq to relay;",
        "grant select on outbox.migrations to relay;",
        "to relay;",
    ] {
        assert!(text.contains(statement), "{statement}: {text}");
    }
    paste(&url, text).await;
    let report = report(&role_url).await;
    assert_eq!(report["level"], "ok", "{report:#}");
    let left_out = report["left_out"].as_array().expect("a list");
    assert_eq!(left_out.iter().filter_map(|out| out["check"].as_str()).collect::<Vec<_>>(), ["configuration", "transactions"]);
    let reason = left_out[1]["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("grant pg_read_all_stats to relay;"), "{reason}");

    // And they are enough.
    let relay = Binary::relay(&role_url, "[[handlers]]\nname = \"h\"\nkind = \"discard\"").spawn(&["run", "--no-migrate"]);
    execute(&url, "insert into outbox.events (type, payload) values ('a', '{}')").await;
    eventually("it is delivered", || async {
        let mut connection = PgConnection::connect(&url).await.expect("the server takes connections");
        let delivered: i64 =
            sqlx::query_scalar("select count(*) from outbox.deliveries").fetch_one(&mut connection).await.expect("a count");
        (delivered == 1).then_some(())
    })
    .await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_died_are_found_and_signed_off() {
    let database = TestDatabase::create().await;
    make_and_mend(
        &database,
        "insert into instances (id, host, pid, version, seen_at)
         values ('r''1', 'old-host', 7, '0', clock_timestamp() - interval '10 minutes'), ('r2', 'new-host', 8, '0', clock_timestamp())",
        "relays",
        "old-host/7 has been silent for 10m",
    )
    .await;
    database.execute("delete from instances; insert into subscriptions (handler, kind, snapshot, low_seq, high_seq) values ('h', 'discard', '3:3:', 0, 0)").await;
    let finding = found(database.url(), "relays", "no relay is running").await;
    assert_eq!((finding["level"].as_str(), fix(&finding)), (Some("critical"), ("shell", "outboxd run")));
    let relay = Binary::relay(database.url(), "[[handlers]]\nname = \"h\"\nkind = \"discard\"").spawn(&["run"]);
    gone(database.url(), "relays", "").await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_of_another_server_is_found_and_rebased() {
    let database = TestDatabase::create().await;
    let relay = Binary::relay(database.url(), "[[handlers]]\nname = \"h\"\nkind = \"discard\"").spawn(&["run"]);
    database.insert_event(NewRow::new("a")).await;
    eventually("it is delivered", || async { (database.count("deliveries").await == 1).then_some(()) }).await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
    for fault in [
        "system_identifier = 42",
        "database = 42",
        "confirmed_at = clock_timestamp()",
        "timeline = '000000AA', tx = pg_current_xact_id()",
    ] {
        database.execute(&format!("update incarnation set {fault}")).await;
        let finding = found(database.url(), "identity", "").await;
        assert_eq!(fix(&finding), ("shell", "outboxd rebase"), "{finding:#}");
        let rebased = Binary::with_config("").run(&["rebase", "--yes", "--database-url", database.url()]).await;
        assert_eq!(rebased.code, Some(0), "{fault}: {rebased:?}");
        gone(database.url(), "identity", "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_is_not_there_or_too_new_is_told() {
    let database = TestDatabase::empty().await;
    let finding = found(database.url(), "schema", "no outbox in schema outbox").await;
    assert_eq!(fix(&finding), ("shell", "outboxd migrate"));
    let migrated = Binary::with_config("").run(&["migrate", "--database-url", database.url()]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    gone(database.url(), "schema", "").await;
    database.execute("insert into migrations (version, name, checksum) values (99, '0099_future', '')").await;
    found(database.url(), "schema", "version 99").await;

    let nobody = report("postgres://127.0.0.1:1/x").await;
    assert_eq!((&nobody["level"], &nobody["findings"][0]["check"]), (&json!("critical"), &json!("database")), "{nobody:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told() {
    let database = TestDatabase::create().await;
    assert!(findings(&report(database.url()).await, "clock", "").is_empty());
    // Ours is first in the search path, so this is the clock that the server has for us.
    database
        .execute("create function clock_timestamp() returns timestamptz language sql as 'select pg_catalog.clock_timestamp() - interval ''10 minutes'''")
        .await;
    let finding = found(database.url(), "clock", "behind the clock here").await;
    assert_eq!((finding["level"].as_str(), fix(&finding)), (Some("critical"), ("shell", "timedatectl set-ntp true")));
    database.execute("drop function outbox.clock_timestamp()").await;
    gone(database.url(), "clock", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_queue_that_fills_is_found_and_emptied() {
    let (_server, url) = careful_server().await;
    let mut listener = PgConnection::connect(&url).await.expect("the server takes connections");
    listener.execute("listen x").await.expect("it listens");
    listener.execute("begin; select 1; savepoint s").await.expect("it sits there");
    execute(&url, "select pg_notify('x', i || repeat('a', 7900)) from generate_series(1, 13000) i").await;
    let finding = found(&url, "notification_queue", "% full").await;
    assert_eq!(finding["level"], "warning");
    paste(&url, fix(&finding).1).await;
    gone(&url, "notification_queue", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_told_and_its_promotion_is_a_new_timeline() {
    let (server, url) = careful_server().await;
    let relay = Binary::relay(&url, "[[handlers]]\nname = \"h\"\nkind = \"discard\"").spawn(&["run"]);
    relay.wait_for_output("relay started").await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
    std::fs::write(server.data_dir().join("standby.signal"), "").expect("the data is ours");
    let _server = tokio::task::spawn_blocking(move || {
        let mut server = server;
        server.restart().expect("it starts again");
        server
    })
    .await
    .expect("no panic");

    let finding = found(&url, "standby", "").await;
    assert_eq!(finding["fixes"][1]["text"], "select pg_promote();", "{finding:#}");
    paste(&url, "select pg_promote();").await;
    gone(&url, "standby", "").await;
    let finding = found(&url, "identity", "promoted").await;
    let follow =
        finding["fixes"].as_array().expect("a list").iter().any(|fix: &Value| fix["text"] == "outboxd run --follow-new-timeline");
    assert!(follow, "{finding:#}");
    let rebased = Binary::with_config("").run(&["rebase", "--yes", "--database-url", &url]).await;
    assert_eq!(rebased.code, Some(0), "{rebased:?}");
    let after = report(&url).await;
    assert!(findings(&after, "identity", "").is_empty(), "{after:#}");
}
