//! Events that a read fails on: the page is narrowed down to them, they are dead letters that say why, and reading goes on. A function
//! of the schema that fails on some keys stands for whatever we do not know.

use std::collections::BTreeSet;

use outboxd::domain::{EventFilter, Ordering, Position};
use outboxd::store::{OpenedPage, PAGE_SPAN, Room, Selection, read_page};
use uuid::Uuid;

use super::{insert, outcomes, stop, wait_for_rows};
use crate::support::{Binary, Receiver, TestDatabase};

/// From now on a read of an event of these aggregates fails with a data exception.
const POISON: &str = "create or replace function outbox.bounded_key(key text) returns text language sql immutable as $$
     select case when key like 'order/poison%' then (1 / (length(key) - length(key)))::text else key end $$";

fn discard(name: &str, more: &str) -> String {
    format!("[[handlers]]\nname = \"{name}\"\nkind = \"discard\"\nstart = \"beginning\"\n{more}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_read_is_narrowed_down_to_its_events() {
    let database = TestDatabase::create().await;
    database.execute(POISON).await;
    let mut poison: BTreeSet<Uuid> = BTreeSet::new();
    let mut healthy: BTreeSet<Uuid> = BTreeSet::new();
    let insert_some = async |database: &TestDatabase, from: usize, poison: &mut BTreeSet<Uuid>, healthy: &mut BTreeSet<Uuid>| {
        for n in from..from + 40 {
            match n % 20 {
                3 | 4 => poison.insert(insert(database, Some(&format!("poison-{n}")), "{}", "{}").await),
                _ => healthy.insert(insert(database, Some(&n.to_string()), "{}", "{}").await),
            };
        }
    };
    insert_some(&database, 0, &mut poison, &mut healthy).await;
    let receiver = Receiver::start().await;
    let hook = format!(
        "[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nstart = \"beginning\"\nurl = \"{}\"\negress = \"any\"\n",
        receiver.url()
    );
    let handlers =
        [hook, discard("all", ""), discard("parts", "partitions = 3"), discard("failures", "record = \"failures\"")].concat();
    let binary = Binary::relay(database.url(), &handlers);
    let running = binary.spawn(&["run"]);
    let dead =
        "deliveries where state = 'dead' and reason = 'unreadable' and attempts = 0 and detail like '%division by zero%22012%'";
    wait_for_rows(&database, dead, 4 * 4).await;
    // And in windows, while the relay runs and after another one has taken over.
    insert_some(&database, 40, &mut poison, &mut healthy).await;
    wait_for_rows(&database, dead, 4 * 8).await;
    stop(running).await;
    insert_some(&database, 80, &mut poison, &mut healthy).await;
    let running = binary.spawn(&["run"]);
    wait_for_rows(&database, dead, 4 * 12).await;
    wait_for_rows(&database, "deliveries where state = 'delivered'", 3 * healthy.len() as i64).await;

    for name in ["hook", "all", "parts"] {
        let seen = outcomes(&database, name).await;
        assert!(healthy.iter().all(|id| seen[id].0 == "delivered"), "{name}");
        assert!(poison.iter().all(|id| seen[id].0 == "dead"), "{name}");
    }
    let sent: Vec<Uuid> = receiver.received().iter().map(|request| request.id.parse().expect("an id")).collect();
    assert_eq!((sent.len(), sent.iter().copied().collect::<BTreeSet<_>>()), (healthy.len(), healthy));
    stop(running).await;
}

/// What no event is to blame for fails as before: no event becomes a dead letter for a statement that was asked wrongly.
#[tokio::test]
async fn a_statement_that_fails_without_any_event_blames_none() {
    let database = TestDatabase::create().await;
    insert(&database, Some("a"), "{}", "{}").await;
    let filter = EventFilter { headers: [("tenant".to_owned(), "a\0".into())].into(), ..EventFilter::default() };
    let selection = Selection::new(&filter, &Ordering::Aggregate, 1, 0);
    let mut connection = database.pool().acquire().await.expect("a connection");
    let begin = Position::beginning();
    let opened = outboxd::store::open_window(&mut connection, &begin).await.expect("a window");
    let room = Room { rows: 10, bytes: 1 << 20 };
    let page = OpenedPage { begin: &begin.snapshot, window: &opened.window, room, selection: &selection, recorded: None };
    for span in [0, PAGE_SPAN] {
        let error = read_page(database.pool(), &page, span).await.expect_err("no filter can hold it");
        assert!(error.is_about_data(), "{error:?}");
        assert!(error.sqlstate().is_some() && error.innermost().contains("SQLSTATE"), "{}", error.innermost());
    }
}

/// More of them than there can be by chance: the events are not what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn when_nothing_can_be_read_the_handler_stops_and_says_so() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload)
             select 'order.placed', 'order', 'poison-' || n, '{}' from generate_series(1, 250) n",
        )
        .await;
    database.execute(POISON).await;
    let running = Binary::relay(database.url(), &discard("all", "")).spawn(&["run"]);
    running.wait_for_output("events in a row").await;
    let dead = database.count("deliveries").await;
    assert!((100..=200).contains(&dead), "{dead}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_that_no_calendar_has_are_delivered() {
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let hook = |name: &str, format: &str| {
        format!(
            "[[handlers]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\nformat = \"{format}\"\n",
            receiver.url()
        )
    };
    let exec = "[[handlers]]\nname = \"runs\"\nkind = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat > /dev/null\"]\n";
    let handlers = [
        hook("plain", "plain"),
        hook("binary", "cloudevents-binary"),
        hook("structured", "cloudevents-structured"),
        exec.to_owned(),
        "[[handlers]]\nname = \"lines\"\nkind = \"stdout\"\n".to_owned(),
    ];
    let binary = Binary::relay(database.url(), &handlers.concat());
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay started").await;
    let moments = ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC", "0044-03-15 BC", "10000-01-01", "1970-01-01"];
    for moment in moments {
        database
            .execute(&format!(
                "insert into outbox.events (type, aggregate_type, aggregate_id, aggregate_version, payload, occurred_at)
                 values ('t', 'order', '{moment}', -9223372036854775808, '{{}}', '{moment}')"
            ))
            .await;
    }
    wait_for_rows(&database, "deliveries where state = 'delivered'", 5 * moments.len() as i64).await;
    for arguments in [&["status", "--json"][..], &["events", "list", "--json"], &["handlers", "list", "--json"]] {
        let finished = binary.run(arguments).await;
        serde_json::from_str::<serde_json::Value>(&finished.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {finished:?}"));
    }
    stop(running).await;
}
