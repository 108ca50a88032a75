//! With a relay that runs and sleeps: what a person decided is done. How soon is not asserted; the ring itself is, elsewhere.

use super::Outbox;
use crate::support::{Binary, Running, eventually};

/// A relay that has read the log and holds the bell.
pub(super) async fn start_relay(outbox: &Outbox, settings: &str) -> (Binary, Running) {
    let url = outbox.database.url();
    let config = format!(
        "[database]\nurl = \"{url}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[handlers]]\nname = \"billing\"\nkind = \"discard\"\n{settings}"
    );
    let binary = Binary::with_config(&config);
    let relay = binary.spawn(&["run"]);
    eventually("the relay sleeps", || async {
        let asleep = "pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
                      and database = (select oid from pg_database where datname = current_database())";
        let owned = outbox.database.count("subscriptions where owner is not null and high_seq > 0").await > 0;
        (owned && outbox.database.count(asleep).await > 0).then_some(())
    })
    .await;
    (binary, relay)
}

pub(super) async fn wait_for_delivered(outbox: &Outbox, count: i64) {
    eventually(&format!("{count} are delivered"), || async {
        (outbox.database.count("deliveries where state = 'delivered'").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replay_reaches_a_sleeping_relay() {
    let outbox = Outbox::create().await;
    for key in [Some("a"), Some("a"), None] {
        outbox.add("dead", key).await;
    }
    let (_binary, _relay) = start_relay(&outbox, "").await;
    assert_eq!(outbox.replay_all().await.asked, 3);

    wait_for_delivered(&outbox, 3).await;
}

#[tokio::test]
async fn a_discard_lets_the_key_go_on_that_it_held() {
    let outbox = Outbox::create().await;
    let dead = outbox.add("dead", Some("a")).await.to_string();
    outbox.database.execute("update outbox.deliveries set holds_key = true").await;
    outbox.add("waiting", Some("a")).await;
    outbox.read_all().await;
    let (_binary, _relay) = start_relay(&outbox, "on_dead_letter = \"hold_key\"").await;
    assert_eq!(outbox.database.count("deliveries where state = 'waiting'").await, 1, "the dead letter holds its key");
    outbox.run_json(&["dead-letters", "discard", "--id", &dead, "--because", "x", "--yes"]).await;

    wait_for_delivered(&outbox, 1).await;
}
