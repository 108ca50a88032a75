//! Backfill: a handler that is added later reads history at its own pace, and nobody waits for it but its own new events.

use outboxd::config::Start;

use super::{insert, migrated, numbered, outboxd_json};
use crate::support::{Recorder, eventually, relay};

#[tokio::test(flavor = "multi_thread")]
async fn live_traffic_of_others_does_not_wait_for_a_backfill() {
    let (database, live, history) = (migrated().await, Recorder::new(), Recorder::new());
    let first = relay(&database).handler("live", &[], live.handler()).start().expect("the relay starts");
    insert(&database, 1, 500).await;
    live.wait_for(500).await;

    // At this pace the history takes longer than any test may.
    let both = relay(&database).handler("live", &[], live.handler()).configured_handler("history", history.handler(), |config| {
        config.start = Start::Beginning;
        config.backfill = Some(1);
    });
    first.reload(both).await.expect("the names are unique").expect("the relay lives");
    history.wait_for(1).await;
    for number in 501..=600 {
        database.insert_event(numbered(number % 5, number)).await;
        live.wait_for(number as usize).await;
    }
    let (read, new) = (history.numbers().len(), history.numbers().iter().filter(|number| **number > 500).count());
    first.stop().await.expect("the relay stops");

    assert!(read < 500, "the pace was not kept: {read}");
    assert_eq!(new, 0, "its own new events come after its history");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_over_restarts_delivers_history_and_then_new_events_in_order_per_key() {
    let (database, history) = (migrated().await, Recorder::new());
    insert(&database, 1, 2_000).await;
    let start = || {
        relay(&database)
            .configured_handler("history", history.handler(), |config| {
                config.start = Start::Beginning;
                config.backfill = Some(2_000);
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    history.wait_for(300).await;
    insert(&database, 2_001, 2_050).await;
    first.stop().await.expect("the relay stops");
    assert!(history.numbers().len() < 2_000, "stopped in the middle");
    let second = start();
    insert(&database, 2_051, 2_100).await;
    history.wait_for(2_100).await;
    second.stop().await.expect("the relay stops");

    for key in 0..5 {
        let want: Vec<i64> = (1..=2_100).filter(|number| number % 5 == key).collect();
        assert_eq!(history.numbers_of(&key.to_string()), want, "key {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_keeps_the_pace_of_a_backfill() {
    let (database, recorder) = (migrated().await, Recorder::new());
    let begin = |backfill| {
        let recorder = recorder.clone();
        relay(&database).configured_handler("billing", recorder.handler(), move |config| config.backfill = backfill)
    };
    let relay = begin(None).start().expect("the relay starts");
    insert(&database, 1, 500).await;
    recorder.wait_for(500).await;
    eventually("all of it is recorded", || async { (database.count("deliveries").await == 500).then_some(()) }).await;
    relay.reload(begin(Some(1))).await.expect("the names are unique").expect("the relay lives");
    outboxd_json(&database, &["handlers", "rewind", "billing", "--to", "beginning", "--force", "--yes"]).await;
    recorder.wait_for(502).await;
    assert!(recorder.delivered().len() < 1_000, "the pace was not kept");

    // Whoever is in a hurry takes the bound away; nothing begins anew.
    relay.reload(begin(None)).await.expect("the names are unique").expect("the relay lives");
    recorder.wait_for(1_000).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(recorder.calls().len(), 1_000);
}
