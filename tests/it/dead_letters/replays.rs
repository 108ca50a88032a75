//! Replays as durable objects, without a relay: what is frozen, what leaves and in which order, what a cancel gives back.
//! The owner's part is done by hand, step by step; with relays that run, see `replay_runs`.

use std::collections::BTreeMap;

use outboxd::store::{self, Changed, DeliveryFilter, NewReplay, Replay};
use serde_json::Value;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use super::{Outbox, due, state};

/// Counts in the order in which they are told: delivered, failed, cancelled, dropped, released, held.
fn counts(replay: &Replay) -> [u64; 6] {
    let Replay { delivered, failed, cancelled, dropped, released, held, .. } = replay;
    [*delivered, *failed, *cancelled, *dropped, *released, *held]
}

impl Outbox {
    /// Does what a flush of the owner does: every delivery that is due or waits is delivered.
    async fn deliver_all(&self) {
        self.database
            .execute(
                "with done as (update outbox.deliveries set state = 'delivered', handled_at = clock_timestamp(), due_at = null
                                where state in ('retrying', 'waiting') returning subscription, seq)
                 update outbox.replay_items i set state = 'delivered' from done
                  where i.seq = done.seq and i.subscription = done.subscription and i.state = 'released'",
            )
            .await;
    }

    async fn cancel(&self, id: Uuid) -> Changed {
        store::cancel_replay(self.database.pool(), id, store::Actor::cli("ada"), Some("they are down again"))
            .await
            .expect("the replay can be cancelled")
    }

    async fn resume(&self, id: Uuid) -> Changed {
        store::resume_replay(self.database.pool(), id, store::Actor::cli("ada")).await.expect("the replay can be resumed")
    }
}

#[tokio::test]
async fn a_replay_is_frozen_first_and_leaves_in_the_order_of_its_keys() {
    let outbox = Outbox::create().await;
    for key in [Some("a"), Some("b"), Some("a"), None, None, Some("a")] {
        outbox.add("dead", key).await;
    }
    let mut listener = PgListener::connect_with(outbox.database.pool()).await.expect("a session");
    listener.listen("outboxd_outbox").await.expect("it listens");
    let before = outbox.states().await;

    let done = outbox.run_json(&["replay", "--all", "--because", "their fix is out", "--yes"]).await;

    assert_eq!(done["replay"]["asked"].as_u64(), Some(6));
    assert_eq!(outbox.states().await, before, "what is held is not changed");
    assert_eq!(listener.recv().await.expect("the bell rings").payload(), "control");
    assert_eq!(outbox.database.count("replays where actor = 'ada' and asked = 6 and note = 'their fix is out'").await, 1);
    let audit = "audit where actor = 'ada' and action = 'replay' and affected = 6 and reason = 'their fix is out'";
    assert_eq!(outbox.database.count(audit).await, 1);

    assert_eq!(outbox.release().await.released, 6);

    assert_eq!(outbox.states().await, [due(), due(), state("waiting"), due(), due(), state("waiting")]);
    let replay = done["replay"]["id"].as_str().expect("the replay has an id");
    let fresh =
        format!("deliveries where replay = '{replay}' and attempts = 0 and first_attempt_at is null and handled_at is null");
    assert_eq!(outbox.database.count(&format!("{fresh} and reason = 'server_error' and detail = 'boom'")).await, 6);
}

#[tokio::test]
async fn a_replay_waits_behind_an_older_unfinished_delivery_of_its_key() {
    for older in ["retrying", "waiting"] {
        let outbox = Outbox::create().await;
        outbox.add(older, Some("a")).await;
        for key in ["a", "a", "b"] {
            outbox.add("dead", Some(key)).await;
        }
        // A later one is no reason to wait.
        outbox.add("waiting", Some("b")).await;
        let replay = outbox.replay_all().await;

        assert_eq!(outbox.release().await.released, 1);

        assert_eq!(outbox.states().await[1..], [state("dead"), state("dead"), due(), state("waiting")], "{older}");
        assert_eq!(counts(&outbox.read_replay(replay.id).await), [0, 0, 0, 0, 1, 2]);
        outbox.deliver_all().await;
        outbox.release().await;
        assert_eq!(outbox.states().await[1..3], [due(), state("waiting")], "{older}");
    }
}

#[tokio::test]
async fn two_replays_of_the_same_set_take_each_row_once() {
    let outbox = Outbox::create().await;
    for number in 0..200 {
        outbox.add("dead", Some(&format!("k{}", number % 20))).await;
    }
    let (pool, new) = (outbox.database.pool(), || NewReplay { id: Uuid::new_v4(), ..NewReplay::default() });
    let (one, other) = (new(), new());

    let (one, other) = tokio::join!(
        store::start_replay(pool, &one, store::Actor::cli("ada")),
        store::start_replay(pool, &other, store::Actor::cli("bob"))
    );

    let mut started = [one.expect("it works"), other.expect("it works")];
    started.sort_by_key(|started| *started != store::Started::Frozen(200));
    assert_eq!(started, [store::Started::Frozen(200), store::Started::Frozen(0)]);
    assert_eq!(outbox.database.count("replays").await, 1, "the second found nothing and wrote nothing");
    assert_eq!(outbox.database.count("audit").await, 1);
    let again = outbox.run_json(&["replay", "--all", "--yes"]).await;
    assert_eq!((again["matched"].as_u64(), &again["replay"]), (Some(0), &Value::Null));
    assert_eq!(outbox.release().await.released, 200);
    assert_eq!(outbox.database.count("deliveries where state = 'retrying'").await, 20);
}

/// Whatever two people do: the database refuses a delivery in two replays.
#[tokio::test]
async fn no_delivery_is_in_two_replays_at_once() {
    let outbox = Outbox::create().await;
    outbox.add("dead", Some("a")).await;
    outbox.replay_all().await;
    let twice =
        "insert into outbox.replay_items (replay, seq, subscription, round, was) values (gen_random_uuid(), 1, 1, 0, 'dead')";
    let refused = sqlx::query(twice).execute(outbox.database.pool()).await.expect_err("it is in a replay");
    assert!(refused.to_string().contains("replay_items_open"), "{refused}");
}

#[tokio::test]
async fn what_dies_after_the_command_is_not_part_of_the_replay() {
    let outbox = Outbox::create().await;
    outbox.add("dead", Some("a")).await;
    let replay = outbox.replay_all().await;
    outbox.add("dead", Some("b")).await;

    assert_eq!(outbox.release().await.released, 1);

    assert_eq!(outbox.states().await, [due(), state("dead")]);
    assert_eq!(outbox.read_replay(replay.id).await.asked, 1);
}

/// In the middle of it, with some delivered, some under way and some discarded meanwhile.
#[tokio::test]
async fn a_cancel_gives_back_what_has_not_left_and_a_resume_takes_it_up() {
    let outbox = Outbox::create().await;
    for number in 0..60 {
        outbox.add("dead", Some(&format!("k{}", number % 3))).await;
    }
    let dead =
        "deliveries where state = 'dead' and reason = 'server_error' and detail = 'boom' and attempts = 12 and replay is null";
    let replay = outbox.replay(NewReplay { rate: Some(1e9), ..NewReplay::default() }).await;
    // Half of it leaves: another command has its hands on the rest, and is not waited for.
    let mut other = outbox.database.pool().begin().await.expect("a transaction");
    sqlx::query("select from outbox.deliveries where seq > 30 for update").execute(&mut *other).await.expect("they are free");
    assert_eq!(outbox.release().await.released, 30);
    other.rollback().await.expect("it ends");
    outbox.deliver_all().await;
    outbox.run_json(&["dead-letters", "discard", "--key", "k0", "--because", "by hand", "--yes"]).await;
    assert_eq!(counts(&outbox.read_replay(replay.id).await), [30, 0, 0, 10, 0, 20]);

    assert_eq!(outbox.cancel(replay.id).await, Changed::Done(20));

    let cancelled = outbox.read_replay(replay.id).await;
    assert_eq!((counts(&cancelled), cancelled.state.as_str()), ([30, 0, 20, 10, 0, 0], "cancelled"));
    assert_eq!(outbox.database.count(dead).await, 20, "dead letters with their reason as before");
    assert_eq!(outbox.release().await.released, 0);
    assert_eq!(outbox.cancel(replay.id).await, Changed::NotNow);

    // Meanwhile somebody replays a few of them otherwise.
    let filter = DeliveryFilter { key: Some("k1".to_owned()), ..DeliveryFilter::default() };
    assert_eq!(outbox.replay(NewReplay { filter, ..NewReplay::default() }).await.asked, 10);
    assert_eq!(outbox.resume(replay.id).await, Changed::Done(10));
    assert_eq!(outbox.resume(replay.id).await, Changed::NotNow);
    assert_eq!(outbox.release().await.released, 20);
    outbox.deliver_all().await;
    store::finish_replays(outbox.database.pool()).await.expect("the outcome is written");

    let over = outbox.read_replay(replay.id).await;
    assert_eq!((counts(&over), over.state.as_str(), over.is_over()), ([40, 0, 10, 10, 0, 0], "done", true));
    let audit = "audit where actor = 'ada' and action in ('cancel_replay', 'resume_replay') and filter->>'replay' is not null";
    assert_eq!(outbox.database.count(audit).await, 2);
    assert_eq!(outbox.database.count("audit where action = 'cancel_replay' and affected = 20 and reason is not null").await, 1);
}

/// Counted, not timed: by the times at which the database says that each has left.
#[tokio::test]
async fn a_rate_bounds_what_leaves_over_all_partitions_together() {
    let outbox = Outbox::create().await;
    outbox
        .database
        .execute(
            "insert into outbox.subscriptions (handler, partition, partitions, kind, snapshot, low_seq, high_seq)
             select 'billing', n, 3, 'webhook', '3:3:', 0, 0 from generate_series(1, 2) n;
             insert into outbox.events (type, payload) select 'order.placed', '{}' from generate_series(1, 300);
             insert into outbox.deliveries (subscription, seq, state, attempts, reason, handled_at)
             select 1 + seq % 3, seq, 'dead', 1, 'timeout', now() from outbox.events",
        )
        .await;
    let replay = outbox.replay(NewReplay { rate: Some(40.0), ..NewReplay::default() }).await;

    // Three owners that ask as often as they can.
    let owner = async |subscription: i32| {
        let fence = store::Fence { subscription, epoch: 0 };
        let selection = store::Selection::new(&Default::default(), &outboxd::domain::Ordering::None, 3, 0);
        while outbox.read_replay(replay.id).await.held > 200 {
            store::release_replays(outbox.database.pool(), fence, &selection, 1_000).await.expect("the next are released");
        }
    };
    tokio::join!(owner(1), owner(2), owner(3));

    let left: Vec<i64> = sqlx::query_scalar(
        "select (extract(epoch from released_at - r.at) * 1000000)::bigint
           from outbox.replay_items i join outbox.replays r on r.id = i.replay where i.state = 'released' order by 1",
    )
    .fetch_all(outbox.database.pool())
    .await
    .expect("the items can be read");
    assert!((100..=110).contains(&left.len()), "{}", left.len());
    for (place, start) in left.iter().enumerate() {
        let within = left[place..].iter().filter(|at| **at < start + 1_000_000).count();
        assert!(within <= 50, "{within} in the second after {start}: 40, and the quarter that the bucket holds");
    }
    let partitions: BTreeMap<i32, i64> =
        sqlx::query_as("select subscription, count(*) from outbox.replay_items where state = 'released' group by 1")
            .fetch_all(outbox.database.pool())
            .await
            .expect("the items can be read")
            .into_iter()
            .collect();
    assert_eq!(partitions.len(), 3, "each owner had its part: {partitions:?}");
}

/// A key with a thousand dead letters stood before all others, and while it failed none of them was delivered.
#[tokio::test]
async fn a_key_that_fails_keeps_back_its_own_part_of_the_set_only() {
    let outbox = Outbox::create().await;
    outbox.add("retrying", Some("bad")).await;
    outbox
        .database
        .execute(
            "insert into outbox.events (type, payload) select 'order.placed', '{}' from generate_series(1, 6000);
             insert into outbox.deliveries (subscription, seq, state, attempts, key, reason, handled_at)
             select 1, seq, 'dead', 1, case when seq < 5900 then 'bad' else 'good' || seq end, 'timeout', now()
               from outbox.events where seq > 1",
        )
        .await;
    outbox.replay_all().await;

    assert_eq!(outbox.release().await.released, 102);

    assert_eq!(outbox.database.count("deliveries where state = 'retrying' and key like 'good%'").await, 102);
}

#[tokio::test]
async fn what_was_delivered_is_sent_again_only_with_force() {
    let outbox = Outbox::create().await;
    outbox.add("delivered", Some("a")).await;
    outbox
        .database
        .execute(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.paid', 'order', '42', '{}'), ('order.paid', 'order', '42', '{}');
             insert into outbox.deliveries (subscription, seq, state, attempts, handled_at)
             select 1, seq, 'delivered', 1, now() from outbox.events where seq > 1",
        )
        .await;
    let arguments = ["replay", "--delivered", "--handler", "billing", "--key", "order/42"];
    let refused = outbox.run(&[&arguments[..], &["--yes"]].concat()).await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("add --force"), "{}", refused.stderr);
    assert_eq!(outbox.database.count("replays").await, 0);

    let done = outbox.run_json(&[&arguments[..], &["--force", "--yes"]].concat()).await;
    assert_eq!((done["matched"].as_u64(), done["replay"]["asked"].as_u64()), (Some(2), Some(2)));
    outbox.release().await;

    assert_eq!(outbox.states().await, [state("delivered"), due(), state("waiting")], "in the order of their key");
    assert_eq!(outbox.database.count("deliveries where key = 'order/42' and replay is not null").await, 2);
}

#[tokio::test]
async fn the_key_of_what_was_delivered_is_that_of_the_handler() {
    let outbox = Outbox::create().await;
    outbox
        .database
        .execute(
            r#"update outbox.subscriptions set key_source = 'header', key_path = '{tenant}' where handler = 'billing';
             insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) values
                ('order.paid', 'order', '42', '{}', '{"tenant":"acme"}'), ('order.paid', 'order', '42', '{}', '{"tenant":"other"}');
             insert into outbox.deliveries (subscription, seq, state, attempts, handled_at) select 1, seq, 'delivered', 1, now() from outbox.events"#,
        )
        .await;
    for (key, want) in [("acme", 1), ("order/42", 0)] {
        let arguments = ["replay", "--delivered", "--handler", "billing", "--key", key, "--force", "--dry-run"];
        assert_eq!(outbox.run_json(&arguments).await["matched"].as_u64(), Some(want), "{key}");
    }
}

#[tokio::test]
async fn retention_leaves_what_a_replay_still_holds() {
    let outbox = Outbox::create().await;
    for _ in 0..2 {
        outbox.add("delivered", None).await;
    }
    outbox.database.execute("update outbox.events set occurred_at = now() - interval '1 year'; update outbox.subscriptions set snapshot = pg_current_snapshot(), high_seq = outbox.last_seq()").await;
    let filter = DeliveryFilter { delivered: true, ids: vec![first_id(&outbox).await], ..DeliveryFilter::default() };
    outbox.replay(NewReplay { filter, ..NewReplay::default() }).await;

    let removed = store::remove_finished(
        outbox.database.pool(),
        store::Stretch::Onwards { after: 0 },
        std::time::Duration::from_secs(60),
        100,
    )
    .await
    .expect("it works");

    assert_eq!(removed.map(|removed| removed.removed), Some(1));
    assert_eq!(outbox.release().await.released, 1);
}

#[tokio::test]
async fn an_old_replay_keeps_its_outcome_when_its_set_is_removed() {
    let outbox = Outbox::create().await;
    outbox.add("dead", Some("a")).await;
    let (old, young) = (outbox.replay_all().await, {
        outbox.add("dead", None).await;
        outbox.replay_all().await
    });
    outbox.release().await;
    outbox.deliver_all().await;
    let remove = async || {
        store::remove_replay_items(outbox.database.pool(), std::time::Duration::from_secs(60), 100).await.expect("it works")
    };
    assert_eq!(remove().await, 0, "what is not written down is not over");
    store::finish_replays(outbox.database.pool()).await.expect("the outcome is written");
    outbox
        .database
        .execute(&format!("update outbox.replays set ended_at = now() - interval '1 hour' where id = '{}'", old.id))
        .await;

    assert_eq!((remove().await, remove().await), (1, 0));

    assert_eq!(counts(&outbox.read_replay(old.id).await), [1, 0, 0, 0, 0, 0]);
    assert_eq!(outbox.database.count(&format!("replay_items where replay = '{}'", young.id)).await, 1);
}

async fn first_id(outbox: &Outbox) -> Uuid {
    sqlx::query_scalar("select id from outbox.events where seq = 1").fetch_one(outbox.database.pool()).await.expect("it is there")
}

#[tokio::test]
async fn replays_are_listed_shown_cancelled_and_resumed_by_commands() {
    let outbox = Outbox::create().await;
    for _ in 0..3 {
        outbox.add("dead", Some("a")).await;
    }
    let started = outbox.run(&["replay", "--handler", "billing", "--rate", "30/m", "--yes"]).await;
    assert_eq!(started.code, Some(0), "{started:?}");
    assert!(started.stderr.contains("billing does not deliver now; the replay starts when it does"), "{}", started.stderr);
    let listed = outbox.run_json(&["replays", "list"]).await;
    let id = listed["replays"][0]["id"].as_str().expect("it is listed").to_owned();
    assert_eq!(listed["replays"][0]["rate"].as_f64(), Some(0.5));
    assert!(outbox.run(&["replays", "list"]).await.stdout.contains("3 asked: 0 delivered, 0 failed again, 3 to leave"));

    let cancelled = outbox.run_json(&["replays", "cancel", &id, "--because", "wrong filter"]).await;
    assert_eq!((cancelled["state"].as_str(), cancelled["cancelled"].as_u64()), (Some("cancelled"), Some(3)));
    let again = outbox.run(&["replays", "cancel", &id]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("is left to cancel: cancelled, 3 asked"), "{}", again.stderr);
    let resumed = outbox.run_json(&["replays", "resume", &id]).await;
    assert_eq!((resumed["state"].as_str(), resumed["held"].as_u64()), (Some("running"), Some(3)));
    let shown = outbox.run(&["replays", "show", &id]).await;
    for want in ["by         ada", "rate       30/m", "state      running", "stopped    billing", "3 to leave"] {
        assert!(shown.stdout.contains(want), "{want}: {}", shown.stdout);
    }
    let unknown = outbox.run(&["replays", "show", &Uuid::new_v4().to_string()]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
}
