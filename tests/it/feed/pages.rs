//! `GET /v1/feed`: pages and pages that are waited for, what each client may see, and what it is told when it cannot go on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{self, ALL, Answer, FEED, Served};
use super::wait_for_places;
use crate::support::{Binary, NewRow, TestDatabase, eventually};

pub(super) fn order(number: i64) -> NewRow {
    NewRow::new("order.placed").of("order", number).payload(json!({ "n": number }))
}

pub(super) async fn ask_as(served: &Served, token: &str, path: &str) -> Answer {
    client::ask(&served.address, path, &[("authorization", &format!("Bearer {token}"))]).await.expect("the feed answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_one_another_to_the_end_and_are_cloud_events() {
    let database = TestDatabase::create().await;
    let ids = database.insert_events((1..=25).map(order)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 25).await;

    let (mut path, mut found) = ("/v1/feed?limit=10".to_owned(), Vec::new());
    loop {
        let page = served.ask(&path).await;
        let (ids, is_up_to_date) = (page.ids(), page.header("stream-up-to-date").is_some());
        let fixed = ["x-content-type-options", "vary"].map(|name| page.header(name));
        assert_eq!(fixed, [Some("nosniff"), Some("Accept, Accept-Encoding, Authorization")]);
        found.extend(ids.clone());
        if ids.is_empty() {
            assert!(is_up_to_date);
            assert_eq!(page.next(), path, "at the end the next page is the same one");
            break;
        }
        path = page.next();
    }
    assert_eq!(found, ids.iter().map(ToString::to_string).collect::<Vec<_>>());

    let first = &served.ask("/v1/feed?limit=1").await.json()[0];
    let parts = ["specversion", "type", "source", "subject", "aggregatetype", "datacontenttype"].map(|name| first[name].as_str());
    let want = ["1.0", "order.placed", "outboxd", "1", "order", "application/json"].map(Some);
    assert_eq!((parts, &first["data"]), (want, &json!({ "n": 1 })));
    let cursor = first["cursor"].as_str().expect("each event has its cursor");
    assert_eq!(served.ask(&format!("/v1/feed?after={cursor}&limit=1")).await.json()[0]["subject"], "2");
    assert_eq!(served.ask(&format!("/v1/feed?after={}&limit=1", ids[9])).await.json()[0]["subject"], "11");
    assert_eq!(served.ask("/v1/feed?after=latest").await.ids(), Vec::<String>::new());
    assert_eq!(served.ask("/v1/feed?after=2000-01-01T00:00:00Z").await.ids().len(), 25);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_did_not_change_is_not_sent_again() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=3).map(order)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 3).await;
    let page = served.ask("/v1/feed").await;
    let tag = page.header("etag").expect("a tag").to_owned();
    let bearer = format!("Bearer {ALL}");
    let again = async || {
        client::ask(&served.address, "/v1/feed", &[("authorization", &bearer), ("if-none-match", &tag)]).await.expect("answered")
    };
    let same = again().await;
    assert_eq!((same.status, same.body.as_str(), same.cursor()), (304, "", page.cursor()));
    database.insert_event(order(4)).await;
    wait_for_places(&database, 4).await;
    assert_eq!(again().await.ids().len(), 4);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_waited_for_comes_with_the_event() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let (served, _) = Served::with_metrics(&database, FEED).await;
    wait_for_places(&database, 1).await;
    let start = served.ask("/v1/feed").await;

    let began = Instant::now();
    let nothing = served.ask(&format!("/v1/feed?after={}&wait=300ms", start.cursor())).await;
    assert!(began.elapsed() >= Duration::from_millis(300) && nothing.ids().is_empty());
    assert_eq!(nothing.cursor(), start.cursor());

    let path = format!("{}&wait=30s&type=order.paid", start.next());
    let waiting = served.ask(&path);
    let recording = async {
        let open = "outboxd_feed_connections{client=\"all\"} 1";
        eventually("a client waits", || async { served.metrics().await.contains(open).then_some(()) }).await;
        database.insert_events((2..=6).map(order)).await;
        database.insert_event(NewRow::new("order.paid").of("order", 7)).await
    };
    let (page, id) = tokio::join!(waiting, recording);
    assert_eq!(page.ids(), [id.to_string()], "what it does not want did not end the wait");
    served.stop().await;
}

const TWO_TENANTS: &str = "[feed]\nevents = [\"order.*\", \"invoice.*\"]\nlisten = \"127.0.0.1:0\"\nsource = \"shop\"\n\
    [[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-012345\", \"sha256:DIGEST\"]\nevents = [\"order.*\"]\nwhere_headers = { tenant = \"acme\" }\n\
    [[clients]]\nname = \"zeta\"\ntokens = [\"token-of-zeta-012345\"]\nwhere_headers = { tenant = \"zeta\" }\nmax_connections = 1\n";

fn two_tenants() -> String {
    use sha2::Digest;
    let digest: String = sha2::Sha256::digest("second-token-of-acme").iter().map(|byte| format!("{byte:02x}")).collect();
    TWO_TENANTS.replace("DIGEST", &digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_may_not_see_does_not_exist_for_it() {
    let database = TestDatabase::create().await;
    let row = |event_type: &str, tenant: &str| NewRow::new(event_type).of("order", 1).headers(json!({ "tenant": tenant }));
    let rows = [
        row("order.placed", "acme"),
        row("invoice.sent", "acme"),
        row("order.placed", "zeta"),
        row("secret.kept", "acme"),
        row("invoice.sent", "zeta"),
    ];
    let ids: Vec<String> = database.insert_events(rows).await.iter().map(ToString::to_string).collect();
    let served = Served::start(&database, &two_tenants()).await;
    wait_for_places(&database, 4).await;

    for (token, want) in [
        ("token-of-acme-012345", vec![&ids[0]]),
        ("second-token-of-acme", vec![&ids[0]]),
        ("token-of-zeta-012345", vec![&ids[2], &ids[4]]),
    ] {
        assert_eq!(ask_as(&served, token, "/v1/feed").await.ids(), want.into_iter().cloned().collect::<Vec<_>>(), "{token}");
        assert_eq!(
            ask_as(&served, token, "/v1/feed?type=*&subject=1").await.ids().len(),
            if token.contains("zeta") { 2 } else { 1 }
        );
        assert!(ask_as(&served, token, "/v1/feed?type=secret.*").await.ids().is_empty());
    }
    // The id of an event that it may not see is like one that never was.
    let foreign = ask_as(&served, "token-of-acme-012345", &format!("/v1/feed?after={}", ids[2])).await;
    let unknown = ask_as(&served, "token-of-acme-012345", "/v1/feed?after=00000000-0000-4000-8000-000000000000").await;
    assert_eq!((foreign.status, &foreign.body), (410, &unknown.body));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_that_is_known_nothing_is_told_and_no_token_is_repeated() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let (served, binary) = Served::with_metrics(&database, &two_tenants()).await;
    wait_for_places(&database, 1).await;
    let hostile = "hunter2-hunter2-hunter2";
    let (bearer, long) = (format!("Bearer {hostile}"), format!("Bearer {}", "x".repeat(8_000)));
    for headers in [
        vec![],
        vec![("authorization", "Bearer")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", bearer.as_str())],
        vec![("authorization", long.as_str())],
        vec![("authorization", "Basic dG9rZW4tb2YtYWNtZS0wMTIzNDU=")],
        vec![("authorization", "Bearer token-of-acme-012345"), ("authorization", "Bearer token-of-acme-012345")],
        vec![("authorization", "token-of-acme-012345")],
        vec![("authorization", "Bearer token-of-acme-01234\u{e9}")],
    ] {
        let answer = client::ask(&served.address, "/v1/feed", &headers).await.expect("answered");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{headers:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["type"], "urn:outboxd:unauthorized");
    }
    // A token in the address is no token, and is not repeated.
    let query = client::ask(&served.address, &format!("/v1/feed?access_token={hostile}"), &[]).await.expect("answered");
    let known = ask_as(&served, "token-of-acme-012345", &format!("/v1/feed?access_token={hostile}")).await;
    assert_eq!((query.status, known.status), (401, 400));
    assert!(!known.body.contains(hostile));
    for (method, path, status) in [("POST", "/v1/feed", 405), ("GET", "/v1", 404), ("GET", "/", 404), ("HEAD", "/v1/feed", 200)] {
        let bearer = [("authorization", "Bearer token-of-acme-012345")];
        let answer = client::request(&served.address, method, path, &bearer).await.expect("answered");
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let metrics = served.metrics().await;
    assert!(metrics.contains("outboxd_feed_requests_total{client=\"\",answer=\"unauthorized\"} 10"), "{metrics}");
    for text in [&metrics, &served.running.stderr(), &served.running.stdout()] {
        assert!(!text.contains("hunter2") && !text.contains("token-of"), "a token is told: {text}");
    }
    let shown = binary.run(&["config", "show"]).await.stdout;
    assert!(shown.contains("[[clients]]") && !shown.contains("token-of"), "{shown}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_cursors_and_parameters_are_answered_with_what_is_wrong() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=5).map(order)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 5).await;
    let cursor = served.ask("/v1/feed").await.cursor();
    let forged = format!("{}{}", &cursor[..25], if cursor.ends_with("00000000") { "00000001" } else { "00000000" });
    let foreign =
        format!("{}.{}{}", &cursor[..16], if &cursor[17..25] == "00000000" { "00000001" } else { "00000000" }, &cursor[25..]);
    let beyond = format!("0000000000000fff.{}", &cursor[17..]);
    for (after, status, kind) in [
        (forged.as_str(), 409, "another-history"),
        (foreign.as_str(), 409, "another-history"),
        (beyond.as_str(), 409, "history-diverged"),
        ("7fffffffffffffff.0000000000000000", 409, "another-history"),
        ("ffffffffffffffff.0000000000000000", 400, "invalid-request"),
        ("'%3B%20drop%20table%20events%3B%20--", 400, "invalid-request"),
        ("%00", 400, "invalid-request"),
        ("%ff%fe", 400, "invalid-request"),
        ("earliest%20", 400, "invalid-request"),
    ] {
        let answer = served.ask(&format!("/v1/feed?after={after}")).await;
        assert_eq!((answer.status, &answer.json()["type"]), (status, &json!(format!("urn:outboxd:{kind}"))), "{after}: {answer:?}");
    }
    let diverged = served.ask(&format!("/v1/feed?after={beyond}")).await.json();
    assert_eq!((&diverged["cursor"], &diverged["lost"]), (&json!(cursor), &json!(0xfff - 5)));
    let long = "x".repeat(20_000);
    let answer = client::ask(&served.address, &format!("/v1/feed?subject={long}"), &[]).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 400), "a head beyond all bounds");
    for query in ["limit=0", "limit=99999", "wait=soon", "type=", "unknown=1", "subject="] {
        assert_eq!(served.ask(&format!("/v1/feed?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(served.ask("/v1/feed?type=%25&type=_%5C&subject=%27").await.ids(), Vec::<String>::new());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_too_late_is_told_what_is_gone_and_where_to_go_on() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, FEED).await;
    database.insert_events((1..=10).map(order)).await;
    wait_for_places(&database, 10).await;
    let second = served.ask("/v1/feed?limit=2").await.cursor();
    let seventh = served.ask("/v1/feed?limit=7").await.cursor();
    database.execute(REMOVE_SEVEN).await;

    let gone = served.ask(&format!("/v1/feed?after={second}")).await;
    let problem = gone.json();
    assert_eq!((gone.status, &problem["type"], &problem["gone"]), (410, &json!("urn:outboxd:expired"), &json!(5)));
    assert_eq!(problem["cursor"], json!(seventh));
    assert!(problem["until"].as_str().is_some_and(|until| until.starts_with("20")), "{problem}");
    let rest = served.ask(&format!("/v1/feed?after={seventh}")).await;
    assert_eq!(rest.ids(), served.ask("/v1/feed").await.ids());
    assert_eq!(rest.ids().len(), 3);
    served.stop().await;
}

/// What retention does, without waiting for it.
pub const REMOVE_SEVEN: &str = "
    select set_config('outboxd.changes_log', 'on', false);
    with gone as (delete from events where seq in (select seq from feed where place <= 7) returning seq, id, occurred_at),
    places as (delete from feed where seq = any (array(select seq from gone)) returning place, seq)
    update feed_removed r set place = p.place, event = g.id, occurred_at = g.occurred_at, events = 7
      from places p join gone g on g.seq = p.seq where p.place = 7";

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_survives_a_failover_that_lost_nothing_and_names_the_branch_of_one_that_did() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, FEED).await;
    database.insert_events((1..=10).map(order)).await;
    wait_for_places(&database, 10).await;
    let (sixth, tenth) = (served.ask("/v1/feed?limit=6").await.cursor(), served.ask("/v1/feed").await.cursor());
    served.stop().await;
    // What a promoted replica that lacks the last four looks like: it knows neither them nor their places, and is another server.
    database
        .execute(
            "select set_config('outboxd.changes_log', 'on', false);
             delete from events where seq in (select seq from feed where place > 6); delete from feed where place > 6;
             update feed_places set places = 6; update feed_epochs set server = 'another/1/2/3'",
        )
        .await;
    let served = Served::start(&database, FEED).await;
    database.insert_events((11..=15).map(order)).await;
    wait_for_places(&database, 11).await;

    let diverged = served.ask(&format!("/v1/feed?after={tenth}")).await;
    let problem = diverged.json();
    assert_eq!((diverged.status, &problem["type"], &problem["lost"]), (409, &json!("urn:outboxd:history-diverged"), &json!(4)));
    assert_eq!(problem["cursor"], json!(sixth));
    let subjects = |page: &Answer| {
        page.json().as_array().expect("a batch").iter().map(|event| event["subject"].clone()).collect::<Vec<Value>>()
    };
    let page = served.ask(&format!("/v1/feed?after={sixth}")).await;
    assert_eq!(subjects(&page), (11..=15).map(|n| json!(n.to_string())).collect::<Vec<_>>());
    assert_eq!(served.ask(&format!("/v1/feed?after={}", page.cursor())).await.ids(), Vec::<String>::new());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_lets_little_through_comes_a_bounded_way_and_never_past_an_event() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, FEED).await;
    let fill = "insert into events (type, headers, payload) select 'noise', '{\"tenant\": \"other\"}', '{}' from generate_series(1, 12000);
                insert into events (type, headers, payload) values ('rare', '{\"tenant\": \"acme\"}', '{}');
                insert into events (type, headers, payload) select 'noise', '{\"tenant\": \"other\"}', '{}' from generate_series(1, 12000)";
    database.execute(fill).await;
    wait_for_places(&database, 24_001).await;
    // By type: one look. By subject: several, each of which says how far it came.
    let by_type = served.ask("/v1/feed?type=rare").await;
    assert_eq!((by_type.ids().len(), by_type.header("stream-up-to-date")), (1, Some("true")));
    let (mut path, mut pages, mut found) = ("/v1/feed?subject=nobody".to_owned(), 0, 0);
    loop {
        let page = served.ask(&path).await;
        (pages, found) = (pages + 1, found + page.ids().len());
        if page.header("stream-up-to-date").is_some() {
            break;
        }
        path = page.next();
    }
    assert_eq!((pages, found), (5, 0));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_bounded_and_changed_while_the_relay_runs() {
    let database = TestDatabase::create().await;
    database.insert_event(NewRow::new("order.placed").headers(json!({ "tenant": "zeta" }))).await;
    let (served, binary) = Served::with_metrics(&database, &two_tenants()).await;
    wait_for_places(&database, 1).await;
    let latest = ask_as(&served, "token-of-zeta-012345", "/v1/feed").await.cursor();
    let path = format!("/v1/feed?after={latest}&wait=60s");
    let (waiting, others) = tokio::join!(ask_as(&served, "token-of-zeta-012345", &path), async {
        let open = "outboxd_feed_connections{client=\"zeta\"} 1";
        eventually("a client waits", || async { served.metrics().await.contains(open).then_some(()) }).await;
        // One connection is what it may have.
        let refused = ask_as(&served, "token-of-zeta-012345", "/v1/feed").await;
        assert_eq!((refused.status, &refused.json()["type"]), (429, &json!("urn:outboxd:too-many-connections")));
        let settings = two_tenants().replace("token-of-zeta-012345", "fresh-token-of-zeta-1");
        binary.rewrite(&Binary::relay_config(database.url(), &settings));
        served.running.hang_up();
        eventually("the old token is unknown", || async {
            (ask_as(&served, "token-of-zeta-012345", "/v1/feed").await.status == 401).then_some(())
        })
        .await;
        // Whoever still waited would get it.
        database.insert_event(NewRow::new("order.placed").headers(json!({ "tenant": "zeta" }))).await;
        wait_for_places(&database, 2).await;
    });
    let () = others;
    assert!(waiting.ids().is_empty(), "a client that is configured otherwise is sent away");
    assert_eq!(ask_as(&served, "fresh-token-of-zeta-1", "/v1/feed").await.ids().len(), 2);
    served.running.wait_for_output("settings=[\"clients\"]").await;
    served.stop().await;
}
