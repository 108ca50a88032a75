//! Lists page by page: nothing twice, nothing left out, and a cursor is good for its list only.

use axum::http::StatusCode;
use serde_json::Value;

use super::Api;

/// The ids of a list, page by page.
async fn walk(api: &Api, path: &str, list: &str) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.read(&format!("{path}{cursor}")).await;
        let rows = page[list].as_array().expect("a list");
        ids.extend(rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { return ids };
        assert!(!rows.is_empty() || page["is_cut_short"] == true, "a page with a next one is not empty");
        cursor = format!("&cursor={next}");
    }
}

fn column(rows: Vec<sqlx::types::Uuid>) -> Vec<String> {
    rows.into_iter().map(|id| id.to_string()).collect()
}

async fn ids(api: &Api, sql: &'static str) -> Vec<String> {
    column(sqlx::query_scalar(sql).fetch_all(api.database.pool()).await.expect("the ids are read"))
}

#[tokio::test]
async fn dead_letters_are_paged_without_loss_or_repetition_also_where_they_share_their_moment() {
    let api = Api::create().await;
    api.add_dead(11).await;
    api.add_handler("mail").await;
    // Of two handlers, some of one flush, and the same event at both.
    api.database
        .execute(
            "insert into outbox.deliveries (subscription, seq, state, attempts, handled_at, fingerprint)
             select 2, seq, 'dead', 1, handled_at, 7 from outbox.deliveries where seq <= 7;
             update outbox.deliveries set handled_at = '2026-01-01T00:00:00Z' where seq between 3 and 8",
        )
        .await;
    let want = ids(
        &api,
        "select e.id from outbox.deliveries d join outbox.events e using (seq) order by d.handled_at desc, d.seq desc, d.subscription desc",
    )
    .await;
    for limit in [1, 2, 5, 18, 50] {
        assert_eq!(walk(&api, &format!("/dead-letters?limit={limit}"), "dead_letters").await, want, "{limit}");
    }
    let one = walk(&api, "/dead-letters?handler=mail&limit=3", "dead_letters").await;
    assert_eq!(one.len(), 7);
    let group = api.read("/dead-letters/groups").await;
    assert_eq!((group["groups"][0]["count"].as_u64(), group["groups"][0]["group"].as_str()), (Some(11), Some("0000000000000007")));
}

#[tokio::test]
async fn events_the_audit_and_replays_are_paged_the_newest_first() {
    let api = Api::create().await;
    api.add_dead(7).await;
    let want = ids(&api, "select id from outbox.events order by seq desc").await;
    for limit in [1, 3, 7, 8] {
        assert_eq!(walk(&api, &format!("/events?limit={limit}"), "events").await, want, "{limit}");
    }
    assert_eq!(walk(&api, "/events?key=order/42&limit=2", "events").await.len(), 7);
    assert_eq!(walk(&api, "/events?type=nothing.*&limit=2", "events").await.len(), 0);

    api.database
        .execute(
            "insert into outbox.replays (id, actor, at) select gen_random_uuid(), 'ada', '2026-01-01' from generate_series(1, 5)",
        )
        .await;
    let want = ids(&api, "select id from outbox.replays order by at desc, id desc").await;
    assert_eq!(walk(&api, "/replays?limit=2", "replays").await, want);

    for number in 0..5 {
        api.database
            .execute(&format!("insert into outbox.audit (actor, action, via) values ('ada', 'act {number}', 'console')"))
            .await;
    }
    assert_eq!(walk(&api, "/audit?limit=2&via=console", "audit").await, ["5", "4", "3", "2", "1"]);
    assert_eq!(walk(&api, "/audit?limit=2&via=api", "audit").await.len(), 0);
}

#[tokio::test]
async fn a_cursor_of_another_list_or_filter_or_a_damaged_one_is_refused_with_what_to_do() {
    let api = Api::create().await;
    api.add_dead(4).await;
    let page = api.read("/dead-letters?limit=2&handler=billing").await;
    let cursor = page["next"].as_str().expect("there are more");
    let good = api.get(&format!("/dead-letters?handler=billing&limit=1&cursor={cursor}")).await;
    assert_eq!(good.status, StatusCode::OK, "{}", good.text);
    let mut damaged = cursor.to_owned();
    damaged.replace_range(3..4, if &cursor[3..4] == "A" { "B" } else { "A" });
    for path in [
        format!("/dead-letters?cursor={cursor}"),
        format!("/dead-letters?handler=billing&type=order.*&cursor={cursor}"),
        format!("/events?cursor={cursor}"),
        format!("/replays?cursor={cursor}"),
        format!("/audit?handler=billing&cursor={cursor}"),
        format!("/dead-letters?handler=billing&cursor={damaged}"),
        format!("/dead-letters?handler=billing&cursor={}", &cursor[..10]),
        "/dead-letters?handler=billing&cursor=".to_owned() + &"A".repeat(900),
    ] {
        let reply = api.get(&path).await;
        assert_eq!(reply.kind(), "invalid-request", "{path}");
        assert_eq!(
            (&reply.json["errors"][0]["field"], reply.json["errors"].as_array().map(Vec::len)),
            (&Value::from("cursor"), Some(1))
        );
    }
}
