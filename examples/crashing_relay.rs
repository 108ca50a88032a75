//! A relay in a program whose handler kills the whole process on events of type "poison": what the tests of crash poison run.
//! Usage: crashing_relay <database address>. Prints the type of every event it was asked to deliver.

use std::time::Duration;

use outboxd::{RelayBuilder, Verdict, handler_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    outboxd::telemetry::logging::install(outboxd::config::LogFormat::Text, "info")?;
    let url = std::env::args().nth(1).ok_or("usage: crashing_relay <database address>")?;
    let handler = handler_fn(|notification| async move {
        println!("{}", notification.event_type);
        if notification.event_type == "poison" {
            std::process::abort();
        }
        Verdict::delivered()
    });
    let relay = RelayBuilder::new(url)
        .configure(|config| config.relay.lease = Duration::from_secs(2))
        .configured_handler("crashing", handler, |config| config.retry.max_attempts = 2)
        .start()?;
    tokio::signal::ctrl_c().await?;
    Ok(relay.stop().await?)
}
