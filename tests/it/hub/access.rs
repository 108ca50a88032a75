//! Who is let in: tokens, tickets and connection tokens that are good, used, forged or in the wrong place, and pages of other origins.

use serde_json::{Value, json};

use super::raw::{HANDSHAKE, PATH, Polling, SUBSCRIBE, Socket, bearer, negotiate, send};
use super::{order, serve, settings};
use crate::feed::client::{ALL, Served, request};
use crate::feed::wait_for_places;
use crate::support::TestDatabase;

async fn ticket(served: &Served) -> String {
    let made = request(&served.address, "POST", "/v1/tickets", &[("authorization", &bearer())]).await.expect("answered");
    made.json()["ticket"].as_str().expect("a ticket").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_negotiation_needs_a_token_in_a_header_or_a_ticket_that_was_not_used() {
    let database = TestDatabase::create().await;
    let served = serve(&database).await;
    let ask = async |query: &str, authorization: Option<&str>| {
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
        send(&served.address, "POST", &format!("{PATH}/negotiate?negotiateVersion=1{query}"), &headers, b"").await
    };
    let good = ask("", Some(&bearer())).await;
    assert_eq!((good.status, good.header("cache-control")), (200, Some("no-store")), "{good:?}");
    let said = good.json();
    assert_eq!(said["negotiateVersion"], json!(1));
    assert_ne!(said["connectionId"], said["connectionToken"]);
    assert_eq!(said.get("useStatefulReconnect"), None, "nobody has asked for it");
    let transports: Vec<&str> = said["availableTransports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|transport| {
            assert_eq!(transport["transferFormats"], json!(["Text"]));
            transport["transport"].as_str().expect("a name")
        })
        .collect();
    assert_eq!(transports, super::TRANSPORTS);
    assert_eq!(ask("&useStatefulReconnect=true", Some(&bearer())).await.json()["useStatefulReconnect"], json!(true));

    let (one, two, three) = (ticket(&served).await, ticket(&served).await, ticket(&served).await);
    for (query, authorization, status) in [
        (String::new(), None, 401),
        (String::new(), Some("Bearer nobody".to_owned()), 401),
        (format!("&access_token={one}"), None, 200),
        (format!("&access_token={one}"), None, 401),
        (format!("&ticket={two}"), None, 200),
        // Microsoft's client sends whatever it has as a token.
        (String::new(), Some(format!("Bearer {three}")), 200),
        (String::new(), Some(format!("Bearer {three}")), 401),
        (format!("&access_token={ALL}"), None, 401),
        (format!("&access_token={ALL}"), Some(bearer()), 401),
    ] {
        let answer = ask(&query, authorization.as_deref()).await;
        assert_eq!(answer.status, status, "{query} {authorization:?} {answer:?}");
        assert!(status == 200 || !answer.body.contains(ALL));
    }
    assert_eq!(send(&served.address, "GET", &format!("{PATH}/negotiate"), &[], b"").await.status, 405);
    assert_eq!(send(&served.address, "POST", &format!("{PATH}/other"), &[], b"").await.status, 404);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_token_begins_one_connection_and_a_forged_one_none() {
    let database = TestDatabase::create().await;
    let (served, stranger) = (serve(&database).await, serve(&database).await);
    let get = async |query: &str| send(&served.address, "GET", &format!("{PATH}{query}"), &[], b"").await.status;
    let token = negotiate(&served.address).await;
    let (said, signature) = token.split_once('.').expect("two parts");
    let foreign = negotiate(&stranger.address).await;
    let of_tickets = ticket(&served).await;
    for forged in ["", "x", ".", &format!("{said}."), &format!("{said}x.{signature}"), &foreign, &of_tickets] {
        assert_eq!(get(&format!("?id={forged}")).await, 404, "{forged}");
        assert_eq!(Socket::open(&served.address, &format!("?id={forged}"), &[("authorization", &bearer())]).await.err(), Some(404));
        for method in ["POST", "DELETE"] {
            assert_eq!(send(&served.address, method, &format!("{PATH}?id={forged}"), &[], HANDSHAKE.as_bytes()).await.status, 404);
        }
    }
    assert_eq!(get("").await, 400, "an id is missing");
    assert_eq!(get(&format!("?id={token}&access_token={ALL}")).await, 401, "even where it is not needed");
    assert_eq!(send(&served.address, "POST", &format!("{PATH}?id={token}"), &[], b"").await.status, 404, "nothing has begun");

    let mut socket = Socket::open(&served.address, &format!("?id={token}"), &[]).await.expect("the token is good");
    socket.say(HANDSHAKE).await;
    assert_eq!(socket.next().await, Some("{}".to_owned()));
    assert_eq!(Socket::open(&served.address, &format!("?id={token}"), &[]).await.err(), Some(409));
    assert_eq!(get(&format!("?id={token}")).await, 409);
    assert_eq!(send(&served.address, "POST", &format!("{PATH}?id={token}"), &[], b"").await.status, 405);
    socket.say("{\"type\":7}\u{1e}").await;
    assert_eq!(socket.next_json().await, None);
    crate::support::eventually("the connection is forgotten", || async {
        (get(&format!("?id={token}")).await == 404).then_some(())
    })
    .await;
    assert_eq!(Socket::open(&served.address, &format!("?id={token}"), &[]).await.err(), Some(404), "it was used");
    for served in [served, stranger] {
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_negotiation_a_socket_needs_a_token_in_a_header_or_a_ticket() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let served = serve(&database).await;
    wait_for_places(&database, 1).await;
    let good = ticket(&served).await;
    let mut socket = Socket::open(&served.address, &format!("?access_token={good}"), &[]).await.expect("a socket");
    socket.say(&format!("{HANDSHAKE}{SUBSCRIBE}")).await;
    assert_eq!(socket.next().await, Some("{}".to_owned()));
    assert_eq!(socket.next_json().await.expect("an answer")["type"], json!(3));
    assert_eq!(socket.next_json().await.expect("an event")["target"], json!("event"));
    for query in [String::new(), format!("?access_token={good}"), format!("?access_token={ALL}")] {
        assert_eq!(Socket::open(&served.address, &query, &[]).await.err(), Some(401), "{query}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_listed_origins_and_of_the_same_host_may_connect_and_no_others() {
    let database = TestDatabase::create().await;
    let listed = settings().replace("listen =", "origins = [\"https://shop.example\"]\nlisten =");
    let served = Served::start(&database, &listed).await;
    let own = format!("http://{}", served.address);
    for (origin, may) in [("https://shop.example", true), (own.as_str(), true), ("https://evil.example", false), ("null", false)] {
        let opened = Socket::open(&served.address, "", &[("authorization", &bearer()), ("origin", origin)]).await;
        assert_eq!(opened.err(), (!may).then_some(403), "{origin}");
    }
    for (origin, want) in [("https://shop.example", Some("https://shop.example")), ("https://evil.example", None)] {
        let asked = "x-requested-with,x-signalr-user-agent,authorization";
        let preflight = [("origin", origin), ("access-control-request-method", "POST"), ("access-control-request-headers", asked)];
        let answer = send(&served.address, "OPTIONS", &format!("{PATH}/negotiate"), &preflight, b"").await;
        assert_eq!(answer.header("access-control-allow-origin"), want, "{answer:?}");
        let headers = answer.header("access-control-allow-headers").unwrap_or_default();
        assert!(asked.split(',').all(|name| headers.contains(name)), "{headers}");
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "Microsoft's client asks with credentials");
    }
    let any = Served::start(&database, &settings().replace("listen =", "origins = [\"*\"]\nlisten =")).await;
    let answer = send(&any.address, "POST", &format!("{PATH}/negotiate"), &[("origin", "https://any.example")], b"").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, Some("https://any.example")));
    for served in [served, any] {
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_the_hub_count_as_connections_of_the_client() {
    let database = TestDatabase::create().await;
    let (served, _binary) =
        Served::with_metrics(&database, &settings().replace("max_connections = 100", "max_connections = 2")).await;
    let one = Polling::open(&served.address).await;
    let _two = Socket::ready(&served.address).await;
    assert_eq!(Socket::open(&served.address, "", &[("authorization", &bearer())]).await.err(), Some(429));
    assert_eq!(served.ask("/v1/feed").await.status, 429);
    assert!(served.metrics().await.contains("outboxd_feed_connections{client=\"all\"} 2"));
    assert_eq!(one.delete().await.status, 202);
    crate::support::eventually("a connection is free", || async { (served.ask("/v1/feed").await.status != 429).then_some(()) })
        .await;
    let metrics = served.metrics().await;
    assert!(metrics.contains("outboxd_hub_closed_total{client=\"all\",reason=\"left\"} 1"), "{metrics}");
    served.stop().await;
}

/// Old clients know no connection token: the id is the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_version_0_connects_with_its_id() {
    let database = TestDatabase::create().await;
    let served = serve(&database).await;
    let answer = send(&served.address, "POST", &format!("{PATH}/negotiate"), &[("authorization", &bearer())], b"").await;
    let said: Value = answer.json();
    assert_eq!(said.get("connectionToken"), None);
    let id = said["connectionId"].as_str().expect("an id").to_owned();
    let mut socket = Socket::open(&served.address, &format!("?id={id}"), &[]).await.expect("a socket");
    socket.say(HANDSHAKE).await;
    assert_eq!(socket.next().await, Some("{}".to_owned()));
    served.stop().await;
}
