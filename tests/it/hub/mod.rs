//! The hub: the feed over SignalR, with Microsoft's client and with clients that keep to no rule.

mod access;
mod example;
mod hostile;
mod microsoft;
mod python;
pub mod raw;
mod reconnect;
mod resumption;

use serde_json::{Value, json};

use crate::feed::client::{ALL, FEED, Served};
use crate::support::{Client, NewRow, TestDatabase, run_node_client};

/// Of every transport.
const TRANSPORTS: [&str; 3] = ["WebSockets", "ServerSentEvents", "LongPolling"];

/// The feed of every type for the client `all`, with a hub.
fn settings() -> String {
    format!("[hub]\npath = \"/hubs/events\"\nkeep_alive = \"500ms\"\nclient_timeout = \"20s\"\n{FEED}")
}

/// The same at a port that does not change, and with a key that all instances have.
fn fixed(port: u16) -> String {
    let key = "ticket_key = \"a key of thirty-two characters or more\"\n";
    settings().replace("listen = \"127.0.0.1:0\"\n", &format!("listen = \"127.0.0.1:{port}\"\n{key}"))
}

fn url(address: impl std::fmt::Display) -> String {
    format!("http://{address}/hubs/events")
}

/// Microsoft's client, with these options beside its addresses and its token. `None`: it is not installed.
async fn microsoft(urls: &[String], options: Value) -> Option<Client> {
    Client::start_node("signalr_client.cjs", &[&arguments(urls, options)]).await
}

/// The same, to its end: it connects once.
async fn microsoft_once(urls: &[String], mut options: Value) -> Option<Vec<Value>> {
    options["once"] = json!(true);
    run_node_client("signalr_client.cjs", &[&arguments(urls, options)]).await
}

fn arguments(urls: &[String], mut options: Value) -> String {
    options["urls"] = json!(urls);
    if options.get("token").is_none() {
        options["token"] = json!(ALL);
    }
    options.to_string()
}

/// The ids of the events among the lines of a client.
fn ids(lines: &[Value]) -> Vec<String> {
    lines.iter().filter_map(|line| Some(line.get("id")?.as_str()?.to_owned())).collect()
}

/// Waits until a client has received so many events, and gives their ids.
async fn wait_for_events(client: &Client, count: usize) -> Vec<String> {
    let mut wanted = count;
    loop {
        let lines = client.wait_for(wanted).await;
        let found = ids(&lines);
        if found.len() >= count {
            return found;
        }
        // Other lines came between.
        wanted = lines.len() + count - found.len();
    }
}

fn order(number: i64) -> NewRow {
    NewRow::new(if number % 3 == 0 { "order.paid" } else { "order.placed" }).of("order", number).payload(json!({ "n": number }))
}

/// Ids and types of the feed, in the order of their places.
async fn placed(database: &TestDatabase) -> Vec<(String, String)> {
    let sql = "select e.id::text, e.type from feed f join events e on e.seq = f.seq order by f.place";
    sqlx::query_as(sql).fetch_all(database.pool()).await.expect("the places")
}

async fn serve(database: &TestDatabase) -> Served {
    Served::start(database, &settings()).await
}
