//! The listener of the console, wired: beside a relay, or as a process of its own. Its connections are its own, few, and give statements up soon.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{Config, ConsoleAddress};
use crate::console::{self, Console, ConsoleBindError, Listener, Setup};
use crate::management;
use crate::operations::ReadConfiguration;
use crate::store::StoreError;

/// The address of the console, taken.
pub(super) struct ConsoleListener(Listener);

/// The console while it answers.
pub(super) struct ServedConsole {
    console: Arc<Console>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Why a console that is a process of its own could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(transparent)]
    Bind(#[from] ConsoleBindError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The name of its sessions.
const APPLICATION: &str = "outboxd console";

impl ConsoleListener {
    /// Takes the address; `None`: the console is not served here.
    pub(super) async fn bind(config: &Config) -> Result<Option<Self>, ConsoleBindError> {
        let Some(address) = &config.console.listen else { return Ok(None) };
        console::bind(address).await.map(|listener| Some(Self(listener)))
    }

    /// Answers until `stop`, or until it is told to end.
    pub(super) fn serve(
        self,
        config: &Config,
        configuration: Option<ReadConfiguration>,
        stop: &CancellationToken,
    ) -> Result<ServedConsole, StoreError> {
        let (console, stop) = (open(config, configuration)?, stop.child_token());
        info!(address = %self.0.address(), "serving the console");
        let task = tokio::spawn(console::serve(self.0, Arc::clone(&console), stop.clone()));
        Ok(ServedConsole { console, stop, task })
    }
}

impl ServedConsole {
    /// Where another configuration is put in effect.
    pub(super) fn console(&self) -> Arc<Console> {
        Arc::clone(&self.console)
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        tokio::time::timeout(LAST_ANSWERS, self.task).await.ok(); // aborted below if it hangs
        abort.abort();
    }
}

/// Longer than the console itself waits for its connections.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

fn open(config: &Config, configuration: Option<ReadConfiguration>) -> Result<Arc<Console>, StoreError> {
    let pool = management::connect_lazily(&config.database, &config.outbox.schema, APPLICATION)?;
    Ok(Console::new(config, Setup { pool, configuration }))
}

/// Serves the console without a relay, at this address, until `stop`. `reloaded`: what is in effect from then on.
pub async fn serve_console(
    config: &Config,
    address: &ConsoleAddress,
    configuration: Option<ReadConfiguration>,
    mut reloaded: mpsc::Receiver<Config>,
    stop: CancellationToken,
) -> Result<(), ConsoleError> {
    let listener = console::bind(address).await?;
    let console = open(config, configuration)?;
    console.check_schema().await?;
    info!(address = %listener.address(), "serving the console");
    let serving = console::serve(listener, Arc::clone(&console), stop);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            Some(config) = reloaded.recv() => console.replace(&config),
        }
    }
}
