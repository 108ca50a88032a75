//! Clients of SignalR in Python that nobody at Microsoft wrote: they know version 0 of the negotiation, send headers in their calls, and come back in ways of their own.

use serde_json::json;

use super::{fixed, order, placed, url, wait_for_events};
use crate::feed::client::{ALL, Served};
use crate::feed::wait_for_places;
use crate::support::{Binary, Client, TestDatabase, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_python_lose_nothing_over_a_restart() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay(database.url(), &fixed(free_port()));
    let first = Served::of(&binary).await;
    database.insert_events((1..=60).map(order)).await;
    wait_for_places(&database, 60).await;
    let mut clients = Vec::new();
    for script in ["pysignalr_client.py", "signalrcore_client.py"] {
        for (types, every) in [(json!([]), 1), (json!(["order.paid"]), 3)] {
            let client = Client::start(script, &[&url(&first.address), ALL, &types.to_string()]).await;
            wait_for_events(&client, 60 / every).await;
            clients.push((script, every, client));
        }
    }
    first.running.kill().await;
    database.insert_events((61..=120).map(order)).await;
    let second = Served::of(&binary).await;
    wait_for_places(&database, 120).await;
    let placed = placed(&database).await;
    for (script, every, client) in &clients {
        let wanted = placed.iter().filter(|(_, of)| *every == 1 || of == "order.paid").map(|(id, _)| id.clone());
        let want: Vec<String> = wanted.collect();
        assert_eq!(wait_for_events(client, want.len()).await, want, "{script} {every}");
    }
    second.stop().await;
}
