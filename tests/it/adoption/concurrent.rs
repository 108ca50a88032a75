//! Transactions beside each other: what is seen when, in which order, and what becomes of rows that were there.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Executor};

use super::{DEBEZIUM, DEBEZIUM_ENTRY, Shop, execute};
use crate::support::eventually;

fn insert(aggregate: &str, number: usize) -> String {
    format!("insert into outboxevent values (gen_random_uuid(), 'order', '{aggregate}', 't', '{{\"n\": {number}}}')")
}

#[tokio::test]
async fn an_open_transaction_holds_nobody_up_and_one_that_rolls_back_leaves_nothing() {
    let shop = Shop::adopted(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let (mut slow, mut quick) = (shop.database.connect().await, shop.database.connect().await);
    execute(&mut slow, &format!("begin; {}", insert("1", 1))).await;
    execute(&mut quick, &insert("2", 2)).await;
    assert_eq!(shop.events("payload ->> 'n'").await, ["2"]);
    execute(&mut slow, &format!("savepoint s; {}; rollback to s; {}; commit", insert("1", 3), insert("1", 4))).await;
    assert_eq!(shop.events("payload ->> 'n'").await, ["1", "2", "4"]);
    execute(&mut slow, &format!("begin; {}; rollback", insert("1", 5))).await;
    assert_eq!(shop.events("payload ->> 'n'").await, ["1", "2", "4"]);
    // The row and its event belong to one transaction.
    let one = "events e join public.outboxevent o using (id) where e.tx = (select xmin::text::bigint from public.outboxevent where id = e.id)::text::xid8";
    assert_eq!(shop.database.count(one).await, 2, "all but the one that was inserted in a savepoint");
}

#[tokio::test]
async fn ten_thousand_rows_of_one_statement_keep_their_order() {
    for copy in ["statement", "commit"] {
        let shop = Shop::adopted(DEBEZIUM, &format!("{DEBEZIUM_ENTRY}copy = \"{copy}\"\n")).await;
        let insert = "insert into outboxevent select gen_random_uuid(), 'order', (n % 7)::text, 't', jsonb_build_object('n', n)
                        from generate_series(1, 10000) n";
        execute(&mut shop.database.connect().await, insert).await;
        let numbers: Vec<usize> = shop.events("payload ->> 'n'").await.iter().map(|n| n.parse().expect("a number")).collect();
        assert_eq!(numbers, (1..=10_000).collect::<Vec<_>>(), "{copy}");
    }
}

/// What an object-relational mapper does: it writes inserts before updates, so the event is there before the row is locked.
#[tokio::test]
async fn copied_at_the_commit_events_follow_the_commits_even_if_they_were_inserted_before_the_lock() {
    for (copy, want) in [("statement", ["2", "1"]), ("commit", ["1", "2"])] {
        let shop = Shop::adopted(
            &format!("{DEBEZIUM}; create table public.orders (id int); insert into public.orders values (42)"),
            &format!("{DEBEZIUM_ENTRY}copy = \"{copy}\"\n"),
        )
        .await;
        let (mut first, mut second) = (shop.database.connect().await, shop.database.connect().await);
        execute(&mut second, &format!("begin; {}; delete from outboxevent", insert("42", 2))).await;
        execute(&mut first, &format!("begin; {}; delete from outboxevent; update orders set id = id", insert("42", 1))).await;
        let waiting = tokio::spawn(async move { execute(&mut second, "update orders set id = id; commit").await });
        eventually("the second waits for the lock", || async {
            (shop.database.count("pg_stat_activity where wait_event_type = 'Lock' and query like 'update orders%'").await > 0)
                .then_some(())
        })
        .await;
        execute(&mut first, "commit").await;
        waiting.await.expect("it commits");
        assert_eq!(shop.events("payload ->> 'n'").await, want, "{copy}");
    }
}

/// Every row once, and each aggregate in the order in which its producer inserted.
async fn assert_complete(shop: &Shop, claim: &str) {
    let mut told: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let keys = shop.events("aggregate_id").await;
    for (key, number) in keys.into_iter().zip(shop.events("payload ->> 'n'").await) {
        told.entry(key).or_default().push(number.parse().expect("a number"));
    }
    let rows: Vec<(String, i64)> = sqlx::query_as("select aggregateid, count(*) from public.outboxevent group by 1")
        .fetch_all(shop.database.pool())
        .await
        .expect("the table can be read");
    assert_eq!(told.len(), rows.len(), "{claim}");
    for (key, count) in rows {
        let told = &told[&key];
        let wrong = told.iter().zip(0..).position(|(told, number)| *told != number);
        let around = wrong.map(|place| &told[place.saturating_sub(2)..told.len().min(place + 3)]);
        assert_eq!((wrong, i64::try_from(told.len())), (None, Ok(count)), "{claim}: aggregate {key}: {around:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_there_are_copied_beside_producers_that_go_on_nothing_is_lost_nothing_twice_and_none_overtaken() {
    const PRODUCERS: usize = 4;
    let shop = Shop::open(DEBEZIUM, DEBEZIUM_ENTRY.trim_end()).await;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut producers = Vec::new();
    for producer in 0..PRODUCERS {
        let (mut connection, stopping) = (shop.database.connect().await, stopping.clone());
        producers.push(tokio::spawn(async move {
            let mut number = 0;
            while !*stopping.borrow() {
                // Of several statements, so that there always are transactions which have begun before the trigger.
                execute(&mut connection, "begin").await;
                for _ in 0..3 {
                    execute(&mut connection, &insert(&format!("p{producer}"), number)).await;
                    number += 1;
                }
                execute(&mut connection, "commit").await;
            }
            number
        }));
    }
    let at_least = |count: i64| {
        let database = &shop.database;
        eventually("the producers are at work", move || async move {
            (database.count("public.outboxevent").await >= count).then_some(())
        })
    };
    at_least(500).await;
    let told = shop.succeed(&["adopt", "--existing"]).await;
    assert!(told.contains("existing rows became events"), "{told}");
    let during = shop.database.count("public.outboxevent").await;
    at_least(during + 500).await;
    stop.send(true).expect("the producers listen");
    let mut inserted = 0;
    for producer in producers {
        inserted += producer.await.expect("no insert fails");
    }
    assert_eq!(shop.database.count("events").await, i64::try_from(inserted).expect("few"));
    assert_complete(&shop, "after the first copy").await;

    let refused = shop.fail(&["adopt", "--existing"]).await;
    assert!(refused.contains("were copied at") && refused.contains("--again"), "{refused}");
    let again = shop.succeed(&["adopt", "--existing", "--again"]).await;
    assert!(again.contains("was adopted already; 0 existing rows"), "{again}");
    assert_complete(&shop, "after another copy").await;
}

#[tokio::test]
async fn only_rows_that_are_not_delivered_are_copied_from_open_outbox_and_only_with_an_id() {
    let shop = Shop::open(
        "create table public.t (event_id uuid default gen_random_uuid(), event_type text, partition_key text, payload jsonb default '{}',
             status text, created_at timestamptz);
         insert into public.t (event_type, status, created_at) values
             ('d', 'DELIVERED', '2026-01-01'), ('b', 'PENDING', '2026-01-03'), ('c', 'DELIVERING', '2026-01-02'), ('e', 'DEAD', '2026-01-01')",
        "[[adopt]]\ntable = \"t\"\nshape = \"open-outbox\"\n",
    )
    .await;
    shop.succeed(&["adopt", "--existing"]).await;
    assert_eq!(shop.events("type").await, ["c", "b"]);

    let shop = Shop::open(
        "create table public.t (kind text, body jsonb)",
        "[[adopt]]\ntable = \"t\"\nshape = \"custom\"\ntype = \"kind\"\npayload = \"body\"\n",
    )
    .await;
    let refused = shop.fail(&["adopt", "--existing"]).await;
    assert!(refused.contains("adopt.public.t.id: is not set"), "{refused}");
    assert_eq!(shop.database.count("pg_trigger where tgname like 'adopt%'").await, 0, "nothing was done");

    for kind in ["uuid", "text"] {
        let shop = Shop::open(
            &format!("create table public.t (id {kind}, kind text, body jsonb); insert into public.t values (null, 'a', '{{}}')"),
            "[[adopt]]\ntable = \"t\"\nshape = \"custom\"\nid = \"id\"\ntype = \"kind\"\npayload = \"body\"\n",
        )
        .await;
        let refused = shop.fail(&["adopt", "--existing"]).await;
        assert!(refused.contains("adopt.public.t.id: there are rows without an id"), "{refused}");
        assert_eq!(shop.database.count("events").await, 0);
        // In a row that comes later it is no mistake.
        shop.succeed(&["adopt"]).await;
        execute(&mut shop.database.connect().await, "insert into t values (null, 'b', '{}'), (null, 'b', '{}')").await;
        assert_eq!(shop.events("type").await, ["b", "b"]);
    }
}

#[tokio::test]
async fn a_copy_that_fails_leaves_nothing_behind() {
    let shop = Shop::open(DEBEZIUM, &format!("{DEBEZIUM_ENTRY}existing = \"no_such_column\"\n")).await;
    let finished = shop.binary.run(&["adopt", "--existing"]).await;
    assert!(finished.code == Some(75) && finished.stderr.contains("no_such_column"), "{finished:?}");
    assert_eq!(shop.database.count("pg_trigger where tgname like 'adopt%'").await, 0);
    shop.database.connect().await.execute(AssertSqlSafe(insert("1", 1))).await.expect("the application is as it was");
    assert_eq!(shop.database.count("events").await, 0);
}

/// Each session fills pages of its own and goes back to those that have room, so that where rows lie says little.
#[tokio::test]
async fn rows_without_time_or_number_go_in_the_order_in_which_they_were_written() {
    let shop = Shop::open(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let mut application = shop.database.connect().await;
    execute(
        &mut application,
        "insert into outboxevent select gen_random_uuid(), 'order', 'gone', 't', '{}' from generate_series(1, 500)",
    )
    .await;
    execute(&mut application, &insert("1", 0)).await;
    execute(&mut application, "delete from outboxevent where aggregateid = 'gone'").await;
    execute(&mut application, "vacuum outboxevent").await;
    for number in [1, 3, 5] {
        let (first, second) = (insert("1", number), insert("1", number + 1));
        execute(&mut application, &format!("begin; {first}; savepoint s; {second}; commit")).await;
    }
    let first_place: String = sqlx::query_scalar("select payload ->> 'n' from public.outboxevent order by ctid limit 1")
        .fetch_one(shop.database.pool())
        .await
        .expect("the table can be read");
    assert_eq!(first_place, "1", "a later row lies before an earlier one");
    shop.succeed(&["adopt", "--existing"]).await;
    assert_complete(&shop, "by their transactions").await;
}
