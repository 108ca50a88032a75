//! What Microsoft's client of SignalR gets: every transport, calls and streams, gaps, stops, and other instances.

use serde_json::{Value, json};

use super::{TRANSPORTS, fixed, ids, microsoft, microsoft_once, order, placed, serve, settings, url, wait_for_events};
use crate::feed::client::Served;
use crate::feed::pages::REMOVE_SEVEN;
use crate::feed::wait_for_places;
use crate::support::{Binary, NewRow, TestDatabase, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_gives_all_events_in_order_with_a_filter_and_without() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=150).map(order)).await;
    let served = serve(&database).await;
    wait_for_places(&database, 150).await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        for stream in [false, true] {
            let options = json!({ "transport": transport, "stream": stream });
            let Some(all) = microsoft(&[url(&served.address)], options).await else { return };
            let options = json!({ "transport": transport, "stream": stream, "filters": { "types": ["order.paid"] } });
            let paid = microsoft(&[url(&served.address)], options).await.expect("it is installed");
            clients.push((transport, stream, all, paid));
        }
    }
    database.insert_events((151..=300).map(order)).await;
    wait_for_places(&database, 300).await;
    let want: Vec<String> = placed(&database).await.into_iter().map(|(id, _)| id).collect();
    let want_paid: Vec<String> =
        placed(&database).await.into_iter().filter(|(_, of)| of == "order.paid").map(|(id, _)| id).collect();
    assert_eq!((want.len(), want_paid.len()), (300, 100));
    for (transport, stream, all, paid) in &clients {
        assert_eq!(wait_for_events(all, 300).await, want, "{transport} {stream}");
        assert_eq!(wait_for_events(paid, 100).await, want_paid, "{transport} {stream}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_with_where_it_begins_and_a_wrong_one_with_what_is_wrong() {
    let database = TestDatabase::create().await;
    let served = serve(&database).await;
    database.insert_events((1..=10).map(order)).await;
    wait_for_places(&database, 10).await;
    let second = served.ask("/v1/feed?limit=2").await.cursor();
    let head = served.ask("/v1/feed").await.cursor();
    database.execute(REMOVE_SEVEN).await;
    let forged = format!("{}00000000", &head[..25]);
    let calls = json!([
        ["Subscribe", null, forged],
        ["Subscribe", { "type": "order.*" }],
        ["Subscribe", { "types": [""] }],
        ["Subscribe", null, "somewhere"],
        ["Events", null, null],
        ["Ack", head],
        ["Nothing"],
        ["Unsubscribe"],
        ["subscribe", null, "latest"],
    ]);
    let options = json!({ "transport": "WebSockets", "tells": true, "cursor": second, "calls": calls });
    let Some(client) = microsoft(&[url(&served.address)], options).await else { return };
    let lines = client.wait_for(1 + 3 + 9).await;
    let begun = lines.iter().find_map(|line| line.get("subscribed")).expect("it is answered");
    assert_eq!((&begun["gap"]["type"], &begun["gap"]["gone"]), (&json!("urn:outboxd:expired"), &json!(5)), "{begun}");
    assert!(begun["cursor"].as_str().is_some_and(|cursor| cursor.starts_with("0000000000000007.")), "{begun}");
    assert_eq!(begun["head"], json!(head));
    let errors: Vec<String> = lines.iter().filter_map(|line| Some(line.get("error")?.as_str()?.to_owned())).collect();
    let kinds: Vec<Value> =
        errors.iter().map(|error| serde_json::from_str::<Value>(error).expect("an error is JSON")["type"].clone()).collect();
    assert_eq!(kinds[0], json!("urn:outboxd:another-history"), "{errors:?}");
    let mut want = vec![json!("urn:outboxd:invalid-request"); 6];
    want[4] = json!("urn:outboxd:not-found"); // this client leaves no cursor to the server
    assert_eq!(kinds[1..], want, "{errors:?}");
    let last = lines.iter().rfind(|line| line.get("method").is_some()).expect("an answer");
    assert_eq!((&last["method"], &last["result"]["cursor"]), (&json!("subscribe"), &json!(head)), "{last}");
    assert_eq!(ids(&lines).len(), 3, "only what is kept came, once: {lines:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_negotiated_at_one_instance_is_connected_at_another() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=5).map(order)).await;
    let (one, other) = (Served::start(&database, &fixed(free_port())).await, Served::start(&database, &fixed(free_port())).await);
    let stranger = serve(&database).await;
    wait_for_places(&database, 5).await;
    let options = |transport: &str| json!({ "transport": transport, "negotiateAt": url(&one.address), "tells": true });
    let Some(client) = microsoft(&[url(&other.address)], options("WebSockets")).await else { return };
    assert_eq!(wait_for_events(&client, 5).await.len(), 5);
    // What is in the memory of the other one, or has another key, is not found, and the client is told so.
    for (address, transport) in [(&other.address, "ServerSentEvents"), (&stranger.address, "WebSockets")] {
        let mut options = options(transport);
        // The first request of server-sent events that goes elsewhere is the stream itself.
        options["once"] = json!(true);
        let lines = microsoft_once(&[url(address)], options).await.expect("it is installed");
        assert!(
            lines.iter().any(|line| line["failed"].as_str().is_some_and(|error| error.contains("failed to connect"))),
            "{lines:?}"
        );
    }
    for served in [one, other, stranger] {
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messagepack_is_refused_with_a_reason() {
    let database = TestDatabase::create().await;
    let served = serve(&database).await;
    let Some(lines) = microsoft_once(&[url(&served.address)], json!({ "messagePack": true })).await else { return };
    let failed = lines[0]["failed"].as_str().unwrap_or_default();
    assert!(failed.contains("does not support Binary"), "{failed}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_connect_with_tickets_and_see_no_more_than_the_ticket_is_bound_to() {
    let database = TestDatabase::create().await;
    let row = |event_type: &str, order: i64| NewRow::new(event_type).of("order", order).payload(json!({ "n": order }));
    database.insert_events([row("order.placed", 1), row("order.placed", 2), row("order.paid", 1)]).await;
    let served = serve(&database).await;
    wait_for_places(&database, 3).await;
    for (transport, skip) in [("WebSockets", false), ("WebSockets", true), ("ServerSentEvents", false), ("LongPolling", false)] {
        let options = json!({ "transport": transport, "skipNegotiation": skip, "ticket": "?subject=1" });
        let Some(client) = microsoft(&[url(&served.address)], options).await else { return };
        let want: Vec<String> = placed(&database).await.into_iter().map(|(id, _)| id).collect();
        assert_eq!(wait_for_events(&client, 2).await, [want[0].clone(), want[2].clone()], "{transport} {skip}");
    }
    let log = served.running.stderr();
    served.stop().await;
    assert!(!log.contains("eyJ"), "a ticket or a connection token is in the log: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_removed_is_closed_and_the_others_go_on() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let both = format!("{}[[clients]]\nname = \"acme\"\ntokens = [\"token-of-acme-0123456789\"]\n", settings());
    let binary = Binary::relay(database.url(), &both);
    let served = Served::of(&binary).await;
    wait_for_places(&database, 1).await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        let options = json!({ "transport": transport, "token": "token-of-acme-0123456789", "tells": true });
        let Some(acme) = microsoft(&[url(&served.address)], options).await else { return };
        let all = microsoft(&[url(&served.address)], json!({ "transport": transport, "tells": true })).await.expect("installed");
        assert_eq!(wait_for_events(&acme, 1).await, wait_for_events(&all, 1).await);
        clients.push((acme, all));
    }
    binary.rewrite(&Binary::relay_config(database.url(), &settings()));
    served.running.hang_up();
    for (acme, _) in &clients {
        let told = crate::support::eventually("the client is told", || async {
            acme.received().into_iter().find(|line| line.get("reconnecting").is_some())
        });
        assert!(told.await["reconnecting"].as_str().is_some_and(|error| error.contains("rights of this client have changed")));
    }
    let id = database.insert_event(order(2)).await.to_string();
    for (acme, all) in &clients {
        assert_eq!(wait_for_events(all, 2).await[1], id);
        assert!(!all.received().iter().any(|line| line.get("reconnecting").is_some()));
        assert_eq!(ids(&acme.received()).len(), 1);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_every_client_to_come_back() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let served = serve(&database).await;
    wait_for_places(&database, 1).await;
    let mut clients = Vec::new();
    for transport in TRANSPORTS {
        let Some(client) = microsoft(&[url(&served.address)], json!({ "transport": transport, "tells": true })).await else {
            return;
        };
        wait_for_events(&client, 1).await;
        clients.push((transport, client));
    }
    served.stop().await;
    for (transport, client) in &clients {
        let told = crate::support::eventually("the client is told", || async {
            client.received().into_iter().find(|line| line.get("reconnecting").is_some())
        });
        let told = told.await;
        // A stop between two polls finds no request that could be told: the next one finds nobody who listens.
        let is_told = told["reconnecting"].as_str().is_some_and(|error| error.contains("The server stops"));
        assert!(is_told || *transport == "LongPolling", "{transport}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_filter_lets_nothing_through_is_told_how_far_it_came_if_it_wants() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let served = serve(&database).await;
    wait_for_places(&database, 1).await;
    let options =
        json!({ "transport": "WebSockets", "filters": { "types": ["nothing.*"], "bookmarks": true }, "cursor": "latest" });
    let Some(client) = microsoft(&[url(&served.address)], options).await else { return };
    database.insert_events((2..=9).map(order)).await;
    wait_for_places(&database, 9).await;
    let head = served.ask("/v1/feed?after=latest").await.cursor();
    crate::support::eventually("a bookmark of the end", || async {
        client.received().into_iter().find(|line| line["bookmark"] == json!(head))
    })
    .await;
    served.stop().await;
}
