//! The daemon, wired: database, schema, health, HTTP and relay, in the order in which they need one another. Ends when `stop` is
//! cancelled, or on an error that waiting cannot fix.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Loaded;
use super::console::{ConsoleListener, ServedConsole};
use super::feed::{FeedListener, ServedFeed};
use super::reload::{Listeners, Reloader, Reloads};
use super::service_manager::ServiceManager;
use super::use_writer::UseWriter;
use crate::api::{self, ApiState, BindError};
use crate::channels::Heartbeat;
use crate::config::{Config, HandlerConfig};
use crate::console::ConsoleBindError;
use crate::feed::FeedBindError;
use crate::forgetting;
use crate::handlers::{self, Built};
use crate::operations::ReadConfiguration;
use crate::relay::{AlertSetup, AlertSignals, HandlerSetup, Relay, RelayError, RelayOptions};
use crate::store::{self, Connections, ServerWatch, StoreError};
use crate::telemetry::{ContractUse, DatabaseOperation, Health, RelayMetrics, Telemetry, chain};

/// How `serve` begins.
#[derive(Default)]
pub struct ServeOptions {
    /// Leave the schema as it is, whatever the configuration says.
    pub without_migrations: bool,
    /// Start on a timeline other than the stored one.
    pub follow_new_timeline: bool,
    /// Renders `/metrics`; `None`: the process has another recorder.
    pub telemetry: Option<Telemetry>,
    /// Where the relay reports its health; `None`: only `/readyz` reads it.
    pub health: Option<Arc<Health>>,
    /// The source of other configurations while the relay runs; `None`: there is none.
    pub reloads: Option<Reloads>,
    /// Learns that the daemon has started, reloads and stops.
    pub service_manager: ServiceManager,
    /// Reads the configuration for what the console does with it, for example a test of a handler; `None`: there is no file.
    pub configuration: Option<ReadConfiguration>,
}

/// Why the daemon could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Feed(#[from] FeedBindError),
    #[error(transparent)]
    Console(#[from] ConsoleBindError),
}

/// Runs the daemon until `stop`.
pub async fn serve(loaded: Loaded, options: ServeOptions, stop: CancellationToken) -> Result<(), ServeError> {
    let health = options.health.clone().unwrap_or_else(|| Arc::new(Health::new(loaded.config.http.stall_after)));
    // HTTP first: readiness must be able to say that the database is being waited for.
    let http = Http::start(&loaded.config, options.telemetry.clone(), Arc::clone(&health)).await?;
    let ended = relay(loaded, options, Arc::clone(&health), stop).await;
    http.stop().await;
    ended
}

async fn relay(loaded: Loaded, mut options: ServeOptions, health: Arc<Health>, stop: CancellationToken) -> Result<(), ServeError> {
    let server = Arc::new(ServerWatch::default());
    let config = &loaded.config;
    let manager = options.service_manager.clone();
    manager.drains_within(config.relay.drain_timeout);
    for (setting, caution) in super::cautions(config) {
        warn!(setting, caution, "a setting works, but should be known");
    }
    let listener = FeedListener::bind(config).await?;
    let console = ConsoleListener::bind(config).await?;
    let Some(connections) = wait_for_database(config, &options, &server, &health, &stop).await? else { return Ok(()) };
    let contract_use = ContractUse::default();
    let (publishing, published) = tokio::sync::watch::channel(0);
    let feed = listener.map(|listener| listener.serve(config, (connections.feed.clone(), contract_use.clone()), published, &stop));
    let console = match console {
        Some(listener) => Some(listener.serve(config, options.configuration.clone(), &stop)?),
        None => None,
    };
    let setup = |(config, built): &(HandlerConfig, Built)| HandlerSetup { config: config.clone(), built: built.clone() };
    let (signals, started) = (AlertSignals::default(), CancellationToken::new());
    let (relay, handle) = Relay::new(
        RelayOptions {
            connections: connections.clone(),
            server,
            session: connect_options(config, APPLICATION).session(),
            relay: config.relay.clone(),
            outbox: config.outbox.clone(),
            statement_timeout: config.database.statement_timeout,
            follow_new_timeline: options.follow_new_timeline || config.database.follow_new_timeline,
            health,
            alerts: AlertSetup {
                config: config.alerts.clone(),
                channels: loaded.channels.clone(),
                heartbeat: heartbeat(config),
                signals: signals.clone(),
            },
            contract_use: contract_use.clone(),
            published: publishing,
            started: started.clone(),
        },
        loaded.handlers.iter().map(setup).collect(),
    )?;
    let patience = store::answer_timeout(config.database.statement_timeout);
    let use_writer = UseWriter::start(contract_use, connections.aside.clone(), patience);
    let (doors, certificates) = (feed.as_ref().map(ServedFeed::doors), feed.as_ref().map(ServedFeed::certificates));
    let listeners = Listeners { doors, certificates, console: console.as_ref().map(ServedConsole::console) };
    let announcements = announce(manager.clone(), loaded.handlers.len(), started, stop.clone());
    let reloader = Reloader::new(loaded, options.reloads.take(), handle, connections.keeper.clone(), (signals, manager), listeners);
    let ended = tokio::select! {
        ended = relay.run(stop) => ended,
        never = reloader.serve() => match never {},
        never = announcements => match never {},
    };
    if let Some(feed) = feed {
        feed.stop().await;
    }
    if let Some(console) = console {
        console.stop().await;
    }
    use_writer.stop().await;
    ended?;
    // The handlers are gone now; the programs that they had started may want a moment.
    handlers::all_ended().await;
    // Each connection says good-bye, and a silent one would hold the process for ever.
    tokio::time::timeout(LAST_WORDS, connections.close()).await.ok();
    Ok(())
}

/// The service manager learns of the start when the handlers are registered, and of the stop when it begins.
async fn announce(manager: ServiceManager, handlers: usize, started: CancellationToken, stop: CancellationToken) -> Infallible {
    tokio::select! {
        () = started.cancelled() => {
            manager.ready(&format!("relaying, {handlers} handlers"));
            stop.cancelled().await;
        }
        () = stop.cancelled() => {}
    }
    manager.stopping();
    std::future::pending().await
}

/// For saying goodbye to the server.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Its address was checked with the configuration, so what is left is a machine that cannot speak HTTP.
fn heartbeat(config: &Config) -> Option<Arc<Heartbeat>> {
    let url = config.alerts.heartbeat_url.as_ref()?;
    Heartbeat::new(url).map(Arc::new).map_err(|error| warn!(error, "the heartbeat URL cannot be used")).ok()
}

/// The name of the relay's sessions.
const APPLICATION: &str = "outboxd relay";

/// How the configuration says to connect.
pub fn connect_options<'a>(config: &'a Config, application_name: &'a str) -> store::Options<'a> {
    let database = &config.database;
    store::Options {
        url: database.url.expose(),
        schema: &config.outbox.schema,
        application_name,
        max_connections: database.max_connections,
        connect_timeout: database.connect_timeout,
        statement_timeout: database.statement_timeout,
        lock_timeout: database.lock_timeout,
    }
}

/// A sidecar often starts before its database: it waits, and says so. A wrong password does not go away by waiting.
/// The schema belongs to it, because a database that has just come up may go away again.
async fn wait_for_database(
    config: &Config,
    options: &ServeOptions,
    watch: &Arc<ServerWatch>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<Connections>, StoreError> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(15))
        .without_max_times()
        .with_jitter();
    let metrics = RelayMetrics::new();
    let connect = || async {
        let connections = store::connect_relay(&connect_options(config, APPLICATION), Arc::clone(watch)).await?;
        prepare_schema(&connections.keeper, config, options).await?;
        Ok(connections)
    };
    let connecting = connect.retry(pauses).when(StoreError::is_transient).notify(|error, pause| {
        health.database_failed(chain(error));
        metrics.database_error(DatabaseOperation::Connect);
        warn!(error = %chain(error), retry_in = ?pause, "could not reach the database, waiting for it");
        // Started, as far as a service manager is concerned: other units must not fail or wait because the database is away.
        options.service_manager.ready(&format!("waiting for the database: {}", chain(error)));
    });
    tokio::select! {
        connected = connecting => connected.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

async fn prepare_schema(pool: &PgPool, config: &Config, options: &ServeOptions) -> Result<(), StoreError> {
    if !config.outbox.migrate || options.without_migrations {
        store::check_schema(pool, &config.outbox.schema).await?;
    } else {
        migrate(pool, config).await?;
    }
    match &config.erasure.ledger {
        Some(ledger) => forgetting::check_ledger(pool, ledger).await,
        None => Ok(()),
    }
}

async fn migrate(pool: &PgPool, config: &Config) -> Result<(), StoreError> {
    let migrated = store::migrate(pool, &config.outbox.schema, Some(config.outbox.max_payload)).await?;
    if !migrated.applied.is_empty() {
        info!(applied = ?migrated.applied, schema = config.outbox.schema, "schema migrated");
    }
    for name in &migrated.edited {
        warn!(migration = name, "this migration was edited after it had been applied");
    }
    Ok(())
}

/// The HTTP side while it runs.
struct Http {
    shutdown: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Http {
    async fn start(config: &Config, telemetry: Option<Telemetry>, health: Arc<Health>) -> Result<Self, BindError> {
        let shutdown = CancellationToken::new();
        let Some(address) = config.http.listen else {
            let until = shutdown.clone();
            let task = tokio::spawn(async move {
                // Ends at once when ordered to: a stop waits for this task.
                tokio::select! {
                    never = api::upkeep(telemetry) => match never {},
                    () = until.cancelled() => {}
                }
            });
            return Ok(Self { shutdown, task: Some(task) });
        };
        let listener = api::bind(address).await?;
        // As bound: with port 0 the system has chosen one.
        let address = listener.local_addr().unwrap_or(address);
        info!(%address, "serving /metrics, /healthz and /readyz");
        let (state, until) = (ApiState { telemetry, health }, shutdown.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = api::serve(listener, state, until).await {
                warn!(error = %chain(&error), "the HTTP server ended");
            }
        });
        Ok(Self { shutdown, task: Some(task) })
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            let abort = task.abort_handle();
            tokio::time::timeout(Duration::from_secs(3), task).await.ok(); // aborted below if it hangs
            abort.abort();
        }
    }
}
