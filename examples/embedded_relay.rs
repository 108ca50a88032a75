//! The relay inside an application: a closure per group of event types, no second process and no HTTP.
//!
//! `DATABASE_URL=postgres://... cargo run --example embedded_relay`, then `cargo run --example record_events` beside it.

use std::time::Duration;

use outboxd::{Notification, Reason, RelayBuilder, Verdict, handler_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One rustls provider for the process, before anything may open a TLS connection.
    rustls::crypto::ring::default_provider().install_default().ok();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, for example postgres://app@localhost/shop")?;

    let relay = RelayBuilder::new(url)
        // Orders: one function for several types, which tells them apart.
        .handler("orders", &["order.*"], handler_fn(on_order))
        // Everything once more, with settings of its own.
        .configured_handler(
            "archive",
            handler_fn(|notification| async move {
                println!("archive: {}", notification.event_type);
                Verdict::delivered()
            }),
            |config| {
                config.concurrency = 4;
                config.timeout = Duration::from_secs(2);
            },
        )
        .start()?;

    println!("relaying; Ctrl-C stops");
    tokio::signal::ctrl_c().await?;
    relay.stop().await?; // finishes what is in flight, and records it
    Ok(())
}

/// The verdict decides what happens next. A panic or a timeout counts as "try again".
async fn on_order(notification: Notification) -> Verdict {
    match notification.event_type.as_str() {
        "order.placed" => match send_confirmation(&notification).await {
            Ok(()) => Verdict::delivered(),
            Err(error) => Verdict::retry(Reason::Failed, error.to_string()),
        },
        "order.imported" => Verdict::permanent(Reason::Refused, "imported orders get no mail"),
        _ => Verdict::delivered(),
    }
}

async fn send_confirmation(notification: &Notification) -> std::io::Result<()> {
    println!("confirm order {:?}, attempt {}: {}", notification.aggregate_id, notification.attempt, notification.payload);
    Ok(())
}
