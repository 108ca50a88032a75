//! A backlog of many pages, and a relay that dies in the middle of it again and again.

use outboxd::failpoints::VARIABLE;

use crate::support::{Binary, TestDatabase, eventually};

const COUNT: i64 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_many_pages_takes_effect_once_and_in_order_although_the_relay_dies_in_the_middle_of_each() {
    let database = TestDatabase::create().await;
    database
        .execute(&format!(
            "create schema app;
             create table app.effects (place bigserial, key text, n bigint);
             create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language sql as $$
                 insert into app.effects (key, n) values (key, (payload ->> 'n')::bigint)
             $$;
             insert into outbox.events (type, aggregate_id, payload)
             select 't', n % 7, json_build_object('n', n) from generate_series(1, {COUNT}) n"
        ))
        .await;
    let binary = Binary::relay(database.url(), "[[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\n");
    for point in ["page-read=kill@2", "function-committed=kill@3", "function-recorded=kill@6", "segment-taken=kill@2"] {
        let finished = binary.clone().env(VARIABLE, point).run(&["run"]).await;
        assert_eq!(finished.code, None, "{point}: {}", finished.stderr);
    }
    assert!(database.count("app.effects").await < COUNT, "it was through before the last death");
    let running = binary.spawn(&["run"]);
    eventually("everything took effect", || async {
        (database.count("deliveries where state = 'delivered'").await == COUNT).then_some(())
    })
    .await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));

    assert_eq!(database.count("app.effects").await, COUNT);
    let disorder = "(select n, lag(n) over (partition by key order by place) as before from app.effects) e where before >= n";
    assert_eq!(database.count(disorder).await, 0);
}
