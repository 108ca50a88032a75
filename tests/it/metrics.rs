//! Series that move: each of them seen on the `/metrics` of a running relay when what it counts happens.

use serde_json::json;

use crate::support::{Answer, Binary, NewRow, Proxy, Receiver, TestDatabase, eventually, get};

/// The value of one series.
async fn value(address: &str, series: &str) -> Option<f64> {
    let text = get(address, "/metrics").await.ok()?.1;
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn wait_for(address: &str, series: &str, condition: impl Fn(f64) -> bool) -> f64 {
    eventually(series, || async { value(address, series).await.filter(|value| condition(*value)) }).await
}

/// Waits until the counter has risen above what it is now.
async fn wait_for_rise(address: &str, series: &str) {
    let before = value(address, series).await.expect("the series is there from the start");
    wait_for(address, series, |now| now > before).await;
}

fn webhook(url: &str, more: &str) -> String {
    format!("[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{url}\"\negress = \"any\"\n{more}")
}

fn errors(operation: &str) -> String {
    format!("outboxd_database_errors_total{{operation=\"{operation}\"}}")
}

fn circuit(state: &str) -> String {
    format!("outboxd_handler_circuit_state{{handler=\"hook\",state=\"{state}\"}}")
}

const DISCARD: &str = "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_counted_while_events_are_held_and_given_back_with_them() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|_| Answer::Hang).await;
    let more = "concurrency = 4\nrequest_timeout = \"1s\"\n[handlers.retry]\nbase = \"20ms\"\nmax_delay = \"20ms\"\n[handlers.circuit]\nfirst_probe = \"50ms\"\n";
    let (running, address) = Binary::relay_with_http(database.url(), &webhook(&receiver.url(), more)).serve().await;
    let text = "x".repeat(10_000);
    database.insert_events((0..20).map(|n| NewRow::new("order.placed").of("order", n).payload(json!({ "text": text })))).await;

    wait_for(&address, "outboxd_memory_bytes", |bytes| bytes > 200_000.0).await;
    receiver.answer_with(|_| Answer::ok());
    wait_for(&address, "outboxd_memory_bytes", |bytes| bytes == 0.0).await;

    wait_for(&address, "outboxd_pending_deliveries{handler=\"hook\",state=\"ready\"}", |count| count == 0.0).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_that_ends_is_counted_by_what_ended_it() {
    let database = TestDatabase::create().await;
    let (bell, poll) = ("outboxd_wake_ups_total{source=\"bell\"}", "outboxd_wake_ups_total{source=\"poll\"}");

    let (running, address) = Binary::relay_with_http(database.url(), DISCARD).serve().await;
    wait_for_rise(&address, poll).await;
    eventually("the relay sleeps and the bell wakes it", || async {
        let before = value(&address, bell).await?;
        if !database.has_sleeping_relay().await {
            return None;
        }
        database.insert_event(NewRow::new("a")).await;
        eventually("the event is delivered", || async {
            (database.count("events").await == database.count("deliveries").await).then_some(())
        })
        .await;
        (value(&address, bell).await? > before).then_some(())
    })
    .await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));

    let config = DISCARD.to_owned();
    let text = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[relay]\nwake_up = \"poll\"\nlease = \"3s\"\n{config}",
        database.url()
    );
    let (running, address) = Binary::with_config(&text).serve().await;
    wait_for_rise(&address, poll).await;
    assert_eq!(value(&address, bell).await, Some(0.0));
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_at_the_database_is_counted_by_what_was_wanted_of_it() {
    let database = TestDatabase::create().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let config = |url: &str| {
        format!(
            "[database]\nurl = \"{url}\"\nconnect_timeout = \"1s\"\n[outbox]\nretention = \"1ms\"\nretention_interval = \"1s\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[relay]\nlease = \"3s\"\nflush_interval = \"20ms\"\n{DISCARD}"
        )
    };
    proxy.cut();
    let (running, address) = Binary::with_config(&config(&url)).serve().await;
    wait_for(&address, &errors("connect"), |count| count > 0.0).await;
    assert_eq!(value(&address, "outboxd_ready").await, Some(0.0));
    proxy.heal();
    wait_for(&address, "outboxd_leases_held", |count| count == 1.0).await;
    wait_for(&address, "outboxd_ready", |ready| ready == 1.0).await;
    wait_for(&address, "outboxd_last_read_timestamp_seconds", |time| time > 1.7e9).await;

    database
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'the disk is full'; end $$;
             create trigger refuse before insert on deliveries for each statement execute function refuse()",
        )
        .await;
    database.insert_event(NewRow::new("a")).await;
    wait_for(&address, &errors("flush"), |count| count > 0.0).await;
    assert_eq!(value(&address, &errors("retention")).await, Some(0.0));
    database.execute("drop trigger refuse on deliveries; create trigger refuse before delete on events for each statement execute function refuse()").await;
    wait_for(&address, &errors("retention"), |count| count > 0.0).await;
    eventually("it is recorded", || async { (database.count("deliveries").await == 1).then_some(()) }).await;
    database.execute("drop trigger refuse on events").await;
    wait_for(&address, "outboxd_retention_removed_total", |count| count == 1.0).await;

    proxy.cut();
    for operation in ["read", "lease", "listen"] {
        wait_for(&address, &errors(operation), |count| count > 0.0).await;
    }
    // The leases are given up before they run out, and nobody says otherwise.
    wait_for(&address, "outboxd_leases_lost_total", |count| count > 0.0).await;
    wait_for(&address, "outboxd_leases_held", |count| count == 0.0).await;
    assert_eq!(value(&address, "outboxd_ready").await, Some(0.0));
    proxy.heal();
    wait_for(&address, "outboxd_leases_held", |count| count == 1.0).await;
    wait_for(&address, "outboxd_ready", |ready| ready == 1.0).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_handlers_are_all_paused_still_tells_that_it_looks() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay_with_http(database.url(), DISCARD);
    let (running, address) = binary.serve().await;
    wait_for(&address, "outboxd_leases_held", |count| count == 1.0).await;

    let paused = binary.run(&["handlers", "pause", "one", "--because", "a test"]).await;
    assert_eq!(paused.code, Some(0), "{}", paused.stderr);
    wait_for(&address, "outboxd_handler_paused{handler=\"one\"}", |paused| paused == 1.0).await;
    wait_for_rise(&address, "outboxd_last_read_timestamp_seconds").await;
    wait_for_rise(&address, "outboxd_last_read_timestamp_seconds").await;

    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// Seen before: the last partition to close its circuit hid that the other's was open, and after a loop had ended its circuit stayed open.
#[tokio::test(flavor = "multi_thread")]
async fn the_circuit_of_a_handler_is_the_worst_of_its_partitions_and_goes_with_its_lease() {
    let database = TestDatabase::create().await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let receiver = Receiver::answering(|_| Answer::status(401)).await;
    let handlers = webhook(&receiver.url(), "partitions = 2\n[handlers.circuit]\nfirst_probe = \"10m\"\n");
    let (running, address) = Binary::relay_with_http(&url, &handlers).serve().await;
    wait_for(&address, "outboxd_leases_held", |count| count == 2.0).await;
    assert_eq!(value(&address, &circuit("closed")).await, Some(1.0));

    // One event, so one of the two partitions meets the refusal; the other goes on being measured.
    database.insert_event(NewRow::new("a").of("order", 1)).await;
    wait_for(&address, &circuit("open"), |open| open == 1.0).await;
    wait_for(&address, "outboxd_handler_concurrency{handler=\"hook\"}", |count| count == 32.0).await;
    assert_eq!(value(&address, &circuit("open")).await, Some(1.0));
    assert_eq!(value(&address, &circuit("closed")).await, Some(0.0));

    proxy.cut();
    wait_for(&address, "outboxd_leases_held", |count| count == 0.0).await;
    wait_for(&address, &circuit("closed"), |closed| closed == 1.0).await;
    assert_eq!(value(&address, &circuit("open")).await, Some(0.0));
    proxy.heal();
    // The next owner finds it as it was left.
    wait_for(&address, &circuit("open"), |open| open == 1.0).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_failure_and_of_a_dead_letter_names_the_trace() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|_| Answer::status(500)).await;
    let more = "[handlers.retry]\nbase = \"20ms\"\nmax_delay = \"20ms\"\nmax_attempts = 2\n";
    let running = Binary::relay(database.url(), &webhook(&receiver.url(), more)).spawn(&["run"]);
    let traced = |trace: &str| json!({ "traceparent": format!("00-{trace}-00f067aa0ba902b7-01"), "tracestate": "shop=1" });
    database.insert_event(NewRow::new("a").headers(traced("4bf92f3577b34da6a3ce929d0e0e4736"))).await;

    let failed = running.wait_for_output("delivery failed").await;
    let dead = running.wait_for_output("dead letter").await;
    for line in [failed, dead] {
        assert!(line.contains("trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\""), "{line}");
    }
    let request = &receiver.wait_for(2).await[1];
    assert_eq!(request.header("traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!(request.header("tracestate"), Some("shop=1"));
    // A trace of zeros is none.
    database.insert_event(NewRow::new("b").headers(traced("00000000000000000000000000000000"))).await;
    let another = running.wait_for_output("another dead letter").await;
    assert!(!another.contains("trace_id"), "{another}");
    assert_eq!(receiver.wait_for(4).await[3].header("traceparent"), None);
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
