//! A card number that a domain event holds: everything that anybody wrote is searched for it, on the disk of the server, too.

use std::path::Path;

use serde_json::json;

use super::{Shop, relay_config};
use crate::support::own_server;

/// As the customer types it, as a machine would write it, and its middle, which is in no other number of the test.
const CARD: &str = "4929 1337 0042 0002";
const TRACES_OF_IT: &[&str] = &["4929 1337", "49291337", "13370042", "1337 0042", "00420002", "0042 0002"];

fn search(place: &str, bytes: &[u8]) {
    for part in TRACES_OF_IT {
        let found = bytes.windows(part.len()).position(|window| window == part.as_bytes());
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())];
            panic!("{place}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// Every file below a directory, and how many there were.
fn search_files(directory: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the directory can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += search_files(&path);
        } else if let Ok(bytes) = std::fs::read(&path) {
            search(&path.display().to_string(), &bytes);
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_number_that_an_event_holds_is_in_no_table_log_trace_or_error() {
    // The server logs every statement with its parameters, both programs log all they can.
    let server = own_server(&[("log_statement", "all"), ("log_min_duration_statement", "0"), ("log_min_messages", "debug1")]).await;
    let url = server.url("postgres");
    let shop = Shop::on(&url, &format!("{}\n[log]\nfilter = \"trace\"\n", relay_config())).await.env("RUST_LOG", "trace");
    let (open, relay) = (shop.open().await, shop.start_relay().await);
    let mut answers = String::new();
    let mut ask = async |body: serde_json::Value| {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let answer = shop.post("/orders", &body).header("traceparent", trace).send().await.expect("the shop answers");
        let status = answer.status().as_u16();
        answers.push_str(&answer.text().await.expect("a text"));
        status
    };
    let order = |card: serde_json::Value| json!({ "customer": "ann", "sku": "tea", "quantity": 3, "card": card });

    assert_eq!(ask(order(CARD.into())).await, 201);
    assert_eq!(ask(order(CARD.replace(' ', "").into())).await, 201);
    // What is wrong with a request is told without repeating it.
    assert_eq!(ask(order(4_929_133_700_420_002_u64.into())).await, 400);
    assert_eq!(ask(CARD.into()).await, 400);
    assert_eq!(ask(order(format!("{}7", &CARD[..18]).into())).await, 422);
    // Nor do a handler that fails in its scope and one that fails altogether.
    shop.execute("drop table shop.tastes").await;
    assert_eq!(ask(order(CARD.into())).await, 201);
    shop.execute("alter table shop.receipts add check (card_last_four = '') not valid").await;
    assert_eq!(ask(order(CARD.into())).await, 500);
    shop.wait_for("outbox.deliveries where state = 'delivered'", 6).await;

    search("answers", answers.as_bytes());
    search("events as others see them", shop.relay.run(&["events", "list", "--json"]).await.stdout.as_bytes());
    shop.execute("checkpoint").await;
    for (name, running) in [("shop", open), ("relay", relay)] {
        running.terminate();
        let finished = running.finish().await;
        assert!(finished.stderr.contains("DEBUG"), "{name} tells all it can");
        search(&format!("log of the {name}"), (finished.stdout + &finished.stderr).as_bytes());
    }
    let log = std::fs::read(server.log_file()).expect("the server logs");
    search("log of the server", &log);
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("insert into shop.receipts") && text.contains("'0002'"), "statements and parameters are in the log");
    // Tables, indexes, the write-ahead log, temporary files: whatever the server keeps.
    assert!(search_files(&server.data_dir()) > 500);
    assert_eq!(shop.count("shop.receipts where card_last_four = '0002'").await, 3);
}
