//! Keys longer than an index entry: the same for lanes, rows and commands, and no two of them are taken for one another.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{insert, outcomes, stop, wait_for_rows};
use crate::support::{Answer, Binary, Receiver, TestDatabase, eventually};

/// Letters that no compression shortens much; the same for the same seed.
fn incompressible(length: usize, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.alphanumeric()).collect()
}

fn webhook(url: &str, more: &str) -> String {
    format!(
        "[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nurl = \"{url}\"\negress = \"any\"\n{more}\n\
         circuit = {{ minimum = 1000 }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_length_fails_alone_and_five_others_arrive_once() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|received| match received.json()["bad"].as_bool() {
        Some(true) => Answer::status(500),
        _ => Answer::ok(),
    })
    .await;
    let handlers = webhook(&receiver.url(), "retry = { schedule = [\"10ms\"], max_attempts = 2 }\npartitions = 2");
    let relays: Vec<_> = (0..2).map(|_| Binary::relay(database.url(), &handlers).spawn(&["run"])).collect();
    for relay in &relays {
        relay.wait_for_output("relay started").await;
    }
    let lengths = [1, 700, 793, 794, 795, 1_000, 2_600, 2_690, 2_704, 2_712, 8_000, 8_191, 100_000];
    let mut healthy = BTreeSet::new();
    for (place, length) in lengths.into_iter().enumerate() {
        insert(&database, Some(&incompressible(length, 7)), "{\"bad\":true}", "{}").await;
        for n in 0..5 {
            healthy.insert(insert(&database, Some(&format!("{place}-{n}")), "{}", "{}").await);
        }
    }
    wait_for_rows(&database, "deliveries where state in ('delivered', 'dead')", lengths.len() as i64 * 6).await;

    let seen = outcomes(&database, "billing").await;
    assert!(healthy.iter().all(|id| seen[id].0 == "delivered" && seen[id].3 == 1));
    let dead: Vec<_> = seen.iter().filter(|(id, _)| !healthy.contains(id)).map(|(_, outcome)| outcome).collect();
    assert!(dead.iter().all(|(state, reason, ..)| state == "dead" && reason.as_deref() == Some("exhausted")), "{dead:?}");
    let keys: BTreeSet<_> = dead.iter().map(|(_, _, key, _)| key.clone()).collect();
    assert_eq!(keys.len(), lengths.len(), "they begin alike and are different");
    let received = receiver.received();
    for id in &healthy {
        assert_eq!(received.iter().filter(|request| request.id == id.to_string()).count(), 1);
    }
    assert_eq!(received.len(), healthy.len() + 2 * lengths.len());
    for relay in relays {
        stop(relay).await;
    }
}

/// One blocks, its followers wait in rows, another one that begins alike flows; the relay is restarted and the key is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_key_is_held_listed_skipped_and_replayed_as_itself() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    receiver.answer_with(|received| match received.json()["bad"].as_bool() {
        Some(true) => Answer::status(500),
        _ => Answer::ok(),
    });
    let binary = Binary::relay(database.url(), &webhook(&receiver.url(), "retry = { schedule = [\"1h\"], max_attempts = 9 }"));
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let long = incompressible(8_000, 11);
    let (blocked, other) = (format!("{long}a"), format!("{long}b"));
    let head = insert(&database, Some(&blocked), "{\"bad\":true}", "{}").await;
    wait_for_rows(&database, "deliveries where state = 'retrying'", 1).await;
    let followers =
        [insert(&database, Some(&blocked), "{\"n\":1}", "{}").await, insert(&database, Some(&blocked), "{\"n\":2}", "{}").await];
    let free = insert(&database, Some(&other), "{\"n\":3}", "{}").await;
    wait_for_rows(&database, "deliveries where state = 'waiting'", 2).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 1).await;
    assert_eq!(outcomes(&database, "billing").await[&free].0, "delivered", "another key that begins alike");
    stop(running).await;

    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let listed = binary.run(&["keys", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let shown = listed["keys"][0]["key"].as_str().expect("it is blocked").to_owned();
    assert!(shown.len() <= 800 && shown.starts_with(&format!("order/{}", &long[..100])), "{shown}");
    assert_eq!(listed["keys"][0]["followers"].as_u64(), Some(2));

    // By the key as it was recorded, which is longer than the one that is listed.
    let skipped = binary.run(&["keys", "skip", "billing", &format!("order/{blocked}"), "--because", "by hand", "--yes"]).await;
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    wait_for_rows(&database, "deliveries where state = 'delivered'", 3).await;
    let ids: Vec<Uuid> = receiver.received().iter().map(|request| request.id.parse().expect("an id")).collect();
    let places = followers.map(|id| ids.iter().position(|seen| *seen == id).expect("it arrived"));
    assert!(places[0] < places[1], "in order");
    for key in [&shown, &format!("order/{blocked}")] {
        let found = binary.run(&["dead-letters", "list", "--key", key, "--json"]).await;
        assert!(found.stdout.contains(&head.to_string()), "{found:?}");
    }

    receiver.answer_with(|_| Answer::ok());
    let replayed = binary.run(&["replay", "--id", &head.to_string(), "--yes"]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    eventually("the head is delivered", || async { (outcomes(&database, "billing").await[&head].0 == "delivered").then_some(()) })
        .await;
    stop(running).await;
}

#[tokio::test]
async fn a_receivers_mark_for_an_event_with_a_long_name_is_made_once() {
    let database = TestDatabase::create().await;
    let (long, other) = (incompressible(8_000, 3), incompressible(8_000, 4));
    let mut connection = database.connect().await;
    for (id, source, want) in [(&long, &other, true), (&long, &other, false), (&other, &other, true), (&long, &long, true)] {
        assert_eq!(outboxd::uow::inbox::once(&mut connection, "stock", source, id).await.expect("marked"), want);
    }
    // The function for other languages means the same mark.
    let again: bool = sqlx::query_scalar("select outbox.once('stock', $1, $2)")
        .bind(&other)
        .bind(&long)
        .fetch_one(&mut connection)
        .await
        .expect("marked");
    assert!(!again);
}
