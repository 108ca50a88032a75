//! How handlers enter the database when several relays start at once.

use crate::support::{NewRow, Recorder, TestDatabase, relay};

// Seen under faults: of two relays, the second took the outbox for an old one because the first had registered one handler of two.
// The other handler began now, and what had been committed before was lost to it.
#[tokio::test(flavor = "multi_thread")]
async fn relays_that_start_together_begin_a_new_outbox_at_its_beginning() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(|number| NewRow::new("t").of("a", number))).await;
    let recorders: Vec<Recorder> = (0..8).map(|_| Recorder::new()).collect();

    let relays: Vec<_> = (0..4)
        .map(|_| {
            let handlers = recorders.iter().enumerate();
            let with_handlers = handlers.fold(relay(&database), |relay, (number, recorder)| {
                relay.handler(&format!("handler-{number}"), &[], recorder.handler())
            });
            with_handlers.start().expect("the relay starts")
        })
        .collect();

    for recorder in &recorders {
        recorder.wait_for_ids(3).await;
    }
    for relay in relays {
        relay.stop().await.expect("the relay stops");
    }
}
