//! Sessions: what functions hold while they run is nothing that leases, other handlers and people need.

use sqlx::Executor;

use super::{TAKE, database, doing, numbered, stop, wait_for_rows};
use crate::support::{Binary, Receiver};

const GATE: &str = "select pg_advisory_xact_lock_shared(42)";

/// How many functions stand at the gate.
const AT_THE_GATE: &str = "pg_locks l where l.locktype = 'advisory' and l.objid = 42 and not l.granted
                           and l.database = (select oid from pg_database where datname = current_database())";

/// Seen: twenty functions that waited had all connections of the relay, the leases could not be renewed, and every handler was abandoned. They
/// came with a reload here, which did not make the pool larger.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_wait_keep_no_connection_from_leases_and_other_handlers() {
    const MANY: i64 = 24;
    let (database, receiver) = (database().await, Receiver::start().await);
    let mut gate = database.connect().await;
    gate.execute("select pg_advisory_lock(42)").await.expect("locked");
    let hook = format!(
        "[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"\n",
        receiver.url()
    );
    let many: String = (0..MANY)
        .map(|n| TAKE.replace("\"take\"", &format!("\"take{n}\"")) + "statement_timeout = \"200s\"\nlock_timeout = \"200s\"\n")
        .collect();
    let binary = Binary::relay(database.url(), &hook);
    let running = binary.spawn(&["run"]);
    database.insert_event(doing("gate", 1, GATE)).await;
    receiver.wait_for(1).await;

    binary.rewrite(&Binary::relay_config(database.url(), &format!("{hook}{many}")));
    running.hang_up();
    wait_for_rows(&database, AT_THE_GATE, MANY).await;
    let began: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(database.pool()).await.expect("a time");
    for n in 2..=50 {
        database.insert_event(numbered(n % 7, n)).await;
        receiver.wait_for(usize::try_from(n).expect("small")).await;
    }
    // Longer than the lease, by the only clock that counts for it.
    let renewed = format!("subscriptions where lease_until > '{began}'::timestamptz + interval '7 s'");
    wait_for_rows(&database, &renewed, MANY + 1).await;
    assert_eq!(database.count(AT_THE_GATE).await, MANY);
    gate.execute("select pg_advisory_unlock(42)").await.expect("unlocked");
    wait_for_rows(&database, "deliveries where state = 'delivered'", 50 * (MANY + 1)).await;

    let log = stop(running).await;
    assert!(!log.contains("lease lost") && !log.contains("could not renew"), "{log}");
    assert_eq!(database.count("app.effects").await, 50 * MANY);
}

/// The least that can be asked for is enough to work with.
#[tokio::test(flavor = "multi_thread")]
async fn two_connections_are_enough_for_three_handlers() {
    let (database, receiver) = (database().await, Receiver::start().await);
    let hook = |n: i64| {
        format!(
            "[[handlers]]\nname = \"hook{n}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nstart = \"beginning\"\n",
            receiver.url()
        )
    };
    let config = Binary::relay_config(database.url(), &format!("{}{}{TAKE}", hook(1), hook(2)));
    let binary = Binary::with_config(&config.replace("[http]", "max_connections = 2\n[http]"));
    let running = binary.spawn(&["run"]);
    for n in 0..100 {
        database.insert_event(numbered(n % 7, n)).await;
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", 300).await;
    let log = stop(running).await;
    assert!(!log.contains("could not"), "{log}");
    let checked = binary.run(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("database.max_connections: 2 is little for 3 handlers"), "{}", checked.stdout);
}
