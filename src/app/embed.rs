//! A relay inside another program: handlers are closures or trait objects, everything else is as in the daemon.
//! Installs no logging, no metrics recorder and no signal handler: those belong to the program.

#![warn(missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Loaded, Reloads, ServeError, ServeOptions, Wish, connect_options, serve};
use crate::config::{Config, HandlerConfig, Kinds, ProcessEnvironment, ProjectionConfig, check_handler_name, is_qualified};
use crate::domain::EventFilter;
use crate::handlers::{Built, Handler, Projected, Projection, ProjectionSpec};
use crate::settings::{Mistake, Secret};
use crate::store::{self, Migrated, ReloadReport, StoreError};
use crate::telemetry::{Health, HealthReport};

/// Puts a relay together in code.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use outboxd::{RelayBuilder, Verdict, handler_fn};
///
/// let relay = RelayBuilder::new("postgres://app@localhost/shop")
///     .handler("confirmations", &["order.placed"], handler_fn(|notification| async move {
///         println!("order {:?}: {}", notification.aggregate_id, notification.payload);
///         Verdict::delivered()
///     }))
///     .start()?;
/// // ... the application runs ...
/// relay.stop().await?;
/// # Ok(()) }
/// ```
pub struct RelayBuilder {
    config: Config,
    handlers: Vec<(HandlerConfig, Built)>,
}

impl RelayBuilder {
    /// A relay for the outbox of this database, with every setting at its default and no HTTP.
    pub fn new(database_url: impl Into<String>) -> Self {
        let mut config = default_config();
        config.database.url = Secret::new(database_url);
        config.http.listen = None;
        config.handlers.clear();
        Self { config, handlers: Vec::new() }
    }

    /// A handler for these event types (globs; none: every type), with every setting at its default.
    #[must_use]
    pub fn handler(self, name: &str, events: &[&str], handler: Arc<dyn Handler>) -> Self {
        let types = events.iter().map(|event| (*event).to_owned()).collect();
        self.configured_handler(name, handler, |config| config.filter = EventFilter { types, ..EventFilter::default() })
    }

    /// A handler whose settings `configure` changes: order, retries, concurrency, where it starts.
    #[must_use]
    pub fn configured_handler(mut self, name: &str, handler: Arc<dyn Handler>, configure: impl FnOnce(&mut HandlerConfig)) -> Self {
        let mut config = default_config().handlers.remove(0);
        name.clone_into(&mut config.name);
        configure(&mut config);
        self.config.handlers.push(config.clone());
        self.handlers.push((config, Built::Handler(handler)));
        self
    }

    /// A version of a projection in Rust: it keeps a read table, exactly once, in the order of the log. Versions of one name stand beside
    /// one another; see `outboxd projections`.
    #[must_use]
    pub fn projection(mut self, name: &str, version: u32, projection: impl Projection) -> Self {
        let (target, view) = (projection.target(), projection.view());
        let mut config = HandlerConfig::of_projection(ProjectionConfig {
            name: name.to_owned(),
            version,
            function: String::new(),
            target: target.clone(),
            view: view.clone(),
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            role: None,
        });
        config.filter = EventFilter { types: projection.events(), ..EventFilter::default() };
        let projected = Projected::Code(Arc::new(projection));
        let spec = ProjectionSpec { name: name.to_owned(), version, target, view, projected };
        self.config.handlers.push(config.clone());
        self.handlers.push((config, Built::Projection(Box::new(spec))));
        self
    }

    /// Changes the settings of the relay itself: leases, intervals, schema, retention.
    #[must_use]
    pub fn configure(mut self, configure: impl FnOnce(&mut Config)) -> Self {
        configure(&mut self.config);
        self
    }

    /// Makes the outbox or brings it to the newest version, as [`start`](Self::start) does: for a program that records before its relay
    /// runs, and for tests. Running it again changes nothing.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        let pool = store::connect_thoroughly(&connect_options(&self.config, "outboxd migrate")).await?;
        let migrated = store::migrate(&pool, &self.config.outbox.schema, Some(self.config.outbox.max_payload)).await;
        pool.close().await;
        migrated
    }

    /// Starts the relay on the runtime of the caller. Two handlers of one name are refused.
    pub fn start(self) -> Result<EmbeddedRelay, Mistake> {
        let loaded = self.loaded()?;
        let stop = CancellationToken::new();
        let health = Arc::new(Health::new(loaded.config.http.stall_after));
        let (wishes, reloads) = Reloads::new(None);
        let options = ServeOptions { health: Some(Arc::clone(&health)), reloads: Some(reloads), ..ServeOptions::default() };
        let task = tokio::spawn(serve(loaded, options, stop.clone()));
        Ok(EmbeddedRelay { stop, health, wishes, task })
    }

    /// Runs the relay until its handlers are done with every committed event, those that they cause included, and stops it: for
    /// tests. Done is delivered or a dead letter; an event that waits for its next attempt is not. Gives up after `patience`.
    pub async fn run_until_idle(self, patience: Duration) -> Result<(), IdleError> {
        let names: Vec<String> = self.config.handlers.iter().map(|handler| handler.name.clone()).collect();
        let pool = store::connect_thoroughly(&connect_options(&self.config, "outboxd test")).await?;
        let mut relay = self.start().map_err(|mistake| IdleError::Refused(mistake.to_string()))?;
        let idle = tokio::time::timeout(patience, async {
            while !is_idle(&pool, &names).await? && relay.is_running() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok::<_, StoreError>(())
        });
        let is_idle = idle.await;
        relay.begin_stop();
        (&mut relay.task).await.unwrap_or(Ok(()))?;
        is_idle.map_err(|_| IdleError::Busy(patience))?.map_err(IdleError::Store)
    }

    fn loaded(self) -> Result<Loaded, Mistake> {
        for (index, (config, _)) in self.handlers.iter().enumerate() {
            if self.handlers[..index].iter().any(|(other, _)| other.name == config.name) {
                return Err(Mistake {
                    path: format!("handlers.{}", config.name),
                    text: "the name is given more than once".to_owned(),
                });
            }
            check_projection(config)?;
        }
        Ok(Loaded { config: self.config, handlers: self.handlers, channels: Vec::new() }.with_feed())
    }
}

/// The rules for a projection that the configuration file checks for those that stand there.
fn check_projection(config: &HandlerConfig) -> Result<(), Mistake> {
    let Some(projection) = &config.projection else { return Ok(()) };
    let mistake = |text: String| Err(Mistake { path: format!("projections.{}", config.name), text });
    if let Err(expected) = check_handler_name(&projection.name) {
        return mistake(format!("got the name {:?}, {expected}", projection.name));
    }
    if projection.version == 0 {
        return mistake("got the version 0, expected a number from 1 on".to_owned());
    }
    match [&projection.target, &projection.view].into_iter().flatten().find(|name| !is_qualified(name)) {
        Some(name) => mistake(format!("got {name:?}, expected a name with its schema, such as \"app.sales\"")),
        None => Ok(()),
    }
}

/// Between two looks at what is left to do.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a relay did not become idle.
#[derive(Debug, thiserror::Error)]
pub enum IdleError {
    /// Two handlers have one name.
    #[error("the relay cannot start: {0}")]
    Refused(String),
    /// Something was still owed when the patience ended.
    #[error("the handlers were not done within {0:?}")]
    Busy(Duration),
    /// The relay ended of itself.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn is_idle(pool: &PgPool, handlers: &[String]) -> Result<bool, StoreError> {
    let owed = store::count_owed(pool, handlers).await?;
    Ok(owed.registered >= handlers.len() as i64 && owed.deliveries == 0)
}

/// A relay that runs inside this program. Dropping it stops the relay without waiting.
pub struct EmbeddedRelay {
    stop: CancellationToken,
    health: Arc<Health>,
    wishes: mpsc::Sender<Wish>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl EmbeddedRelay {
    /// Asks for the end without waiting for it: nothing begins any more. [`stop`](Self::stop) waits.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Goes on as another builder says, without a stop: handlers that are new, changed (other settings, or another `Arc`) or gone, and
    /// the settings that can change while it runs. Unchanged settings stay in effect. On an error nothing has changed, and the
    /// report says why; `None`: the relay has ended. Waits while the database cannot be reached.
    pub async fn reload(&self, builder: RelayBuilder) -> Result<Option<ReloadReport>, Mistake> {
        let loaded = Box::new(builder.loaded()?);
        let (answer, answered) = oneshot::channel();
        if self.wishes.send(Wish::Take(loaded, answer)).await.is_err() {
            return Ok(None);
        }
        Ok(answered.await.ok())
    }

    /// Whether the relay does its work, and if not, why: what `/readyz` says of the daemon.
    pub fn health(&self) -> HealthReport {
        self.health.report(Instant::now())
    }

    /// Finishes what is in flight, records it, and ends. Also returns why the relay ended if it already had.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.begin_stop();
        (&mut self.task).await.unwrap_or(Ok(())) // a panic has been reported by its own task
    }

    /// Whether the relay still runs; if not, [`stop`](Self::stop) returns why.
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for EmbeddedRelay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Every setting at its default, and one handler likewise.
fn default_config() -> Config {
    let text = "[database]\nurl = \"postgres://localhost\"\n[[handlers]]\nname = \"default\"\nkind = \"code\"";
    let kinds = Kinds { handlers: |_| Some(&[]), channels: |_| None };
    crate::config::parse(text, &ProcessEnvironment::of_file(std::path::Path::new("")), kinds)
        .expect("the defaults are a valid configuration")
}
