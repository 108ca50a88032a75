//! Only one event to judge by: it is held, unspent, and shown; the next event of another key decides.

use std::time::Duration;

use super::{faulty, numbered, strict, wait_for_rows};
use crate::support::{TestDatabase, number, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_lonely_event_is_held_and_named_until_another_one_shows_whose_fault_it_is() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| number(event) == 1));
    let relay = relay(&database).configured_handler("shop", recorder.handler(), strict).start().expect("the relay starts");
    database.insert_event(numbered("a", 1)).await;
    wait_for_rows(&database, "subscriptions s join events e on e.id = s.circuit_witness where s.circuit = 'open' and e.seq = 1", 1)
        .await;
    assert_eq!(database.count("deliveries").await, 0, "nothing is spent");
    // One of its own key waits behind it, and tells nothing.
    database.insert_event(numbered("a", 2)).await;
    // Although the next probe is ten minutes away.
    database.insert_event(numbered("b", 3)).await;
    recorder.wait_for(2).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'not_found' and attempts = 3", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 2).await;
    wait_for_rows(&database, "subscriptions where circuit = 'closed' and circuit_witness is null", 1).await;
    assert_eq!(recorder.numbers(), [3, 2]);
    relay.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_an_event_is_suspected_neither_spends_nor_loses_it() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| number(event) == 1));
    let start = || {
        relay(&database)
            .configured_handler("shop", recorder.handler(), |config| {
                strict(config);
                config.circuit.first_probe = Duration::from_millis(300);
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    database.insert_event(numbered("a", 1)).await;
    recorder.wait_for_calls(1).await;
    first.stop().await.expect("the relay stops");
    assert_eq!(database.count("deliveries").await, 0, "nothing is spent");
    let second = start();
    database.insert_event(numbered("b", 2)).await;
    wait_for_rows(&database, "deliveries where state = 'dead' and reason = 'not_found' and attempts = 3", 1).await;
    wait_for_rows(&database, "deliveries where state = 'delivered' and attempts = 1", 1).await;
    second.stop().await.expect("the relay stops");
}

/// Its guilt is in its row: after a restart it need not be proven anew, although no other event is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_two_attempts_of_a_guilty_event_does_not_hold_it() {
    let (database, recorder) = (TestDatabase::create().await, faulty(|event| number(event) == 1));
    let start = || {
        relay(&database)
            .configured_handler("shop", recorder.handler(), |config| {
                strict(config);
                config.retry.max_attempts = 30;
            })
            .start()
            .expect("the relay starts")
    };
    let first = start();
    database.insert_events([numbered("a", 1), numbered("b", 2), numbered("c", 3)]).await;
    wait_for_rows(&database, "deliveries where state = 'retrying' and attempts >= 1", 1).await;
    first.stop().await.expect("the relay stops");
    let calls = recorder.calls().len();
    let second = start();
    recorder.wait_for_calls(calls + 3).await;
    assert_eq!(database.count("subscriptions where circuit <> 'closed'").await, 0);
    second.stop().await.expect("the relay stops");
}
