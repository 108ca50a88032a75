//! The relay beside the shop: a process of its own, as it is deployed. So that one command suffices it is this same program, run as
//! `shop relay`, which does what `outboxd run --config examples/shop/outboxd.toml` does.

use std::error::Error;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outboxd::app::{self, ServeOptions};
use outboxd::telemetry::logging;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

/// The running relay. Dropping it ends it, too, without waiting.
pub struct Relay {
    child: Child,
    /// Nothing is written to it: that it closes is the sign to stop.
    pipe: Option<ChildStdin>,
}

/// Longer than the relay takes for what is in flight.
const STOPS_WITHIN: Duration = Duration::from_secs(40);

impl Relay {
    pub fn start(database_url: &str, mailer_url: &str, mailer_secret: &str) -> Result<Self, std::io::Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("relay").stdin(Stdio::piped());
        command.env("DATABASE_URL", database_url).env("SHOP_MAILER_URL", mailer_url).env("SHOP_MAILER_SECRET", mailer_secret);
        // A Ctrl-C at the terminal is for the shop, which then stops the relay.
        command.process_group(0);
        let mut child = command.spawn()?;
        Ok(Self { pipe: child.stdin.take(), child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Ends when the relay does, and says how.
    pub async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("the relay ended: {status}"),
            Err(error) => format!("the relay cannot be waited for: {error}"),
        }
    }

    /// Lets it finish what is in flight.
    pub async fn stop(&mut self) {
        drop(self.pipe.take());
        if tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.is_err() {
            self.child.start_kill().ok(); // it may have ended in this moment
        }
    }
}

/// What `shop relay` does: relays until the shop is gone, which closes the pipe whichever way it ends.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let loaded = app::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/outboxd.toml"))?;
    logging::install(loaded.config.log.format, &std::env::var("RUST_LOG").unwrap_or(loaded.config.log.filter.clone()))?;
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(async move {
        tokio::io::stdin().read_to_end(&mut Vec::new()).await.ok();
        until.cancel();
    });
    Ok(app::serve(loaded, ServeOptions::default(), stop).await?)
}
