//! The console: pages for operators, and the door of the API. Server-rendered, so that payloads are redacted before they leave and every number
//! comes out as it went in; works without scripts. A listener of its own, which nothing is served on before the door has been passed.
//!
//! A request goes through `server` (connections) and `door` (who asks, and whether they may) to one function in `screens`, which reads, acts through
//! `operations`, and makes a page of `html`. Never shares a connection with the relay, and decides nothing about deliveries itself.

mod access;
mod answer;
mod ask;
mod assets;
mod door;
mod html;
mod links;
mod routes;
mod screens;
mod seen;
mod server;

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use sqlx::PgPool;

use crate::config::Config;
use crate::domain::{Adoption, Timestamp};
use crate::management::{ApiState, router};
use crate::operations::{Configuration, ReadConfiguration};
use crate::store::StoreError;
use crate::telemetry::ConsoleMetrics;

pub use links::{part, with_query};
pub use routes::{RouteRule, route_rules};
pub use server::{ConsoleBindError, Listener, bind, serve};

use access::Access;
use seen::Seen;

/// What all requests share.
pub struct Console {
    access: Access,
    metrics: ConsoleMetrics,
    /// `console.path`, without a slash at its end.
    path: String,
    /// What answers below `/api/v1`.
    api: RwLock<Router>,
    pool: PgPool,
    /// Of the outbox.
    schema: String,
    /// `None`: there is no configuration to read, for example inside another program.
    configuration: Option<ReadConfiguration>,
    /// The adopted tables that there should be.
    adoptions: RwLock<Arc<Vec<Adoption>>>,
    seen: Seen,
}

/// What a console needs beside its settings.
pub struct Setup {
    /// Connections of its own, with short timeouts.
    pub pool: PgPool,
    pub configuration: Option<ReadConfiguration>,
}

impl Console {
    pub fn new(config: &Config, setup: Setup) -> Arc<Self> {
        let Setup { pool, configuration } = setup;
        let settings = &config.console;
        let metrics = ConsoleMetrics::new();
        Arc::new(Self {
            access: Access::new(settings, metrics.clone()),
            metrics,
            path: settings.path.clone(),
            api: RwLock::new(api(config, &pool, configuration.as_ref())),
            pool,
            schema: config.outbox.schema.clone(),
            configuration,
            adoptions: RwLock::new(Arc::new(config.adopt.clone())),
            seen: Seen::default(),
        })
    }

    /// Takes another configuration of who may do what. Address and path stay.
    pub fn replace(&self, config: &Config) {
        self.access.replace(&config.console);
        *self.api.write().unwrap_or_else(PoisonError::into_inner) = api(config, &self.pool, self.configuration.as_ref());
        *self.adoptions.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.adopt.clone());
    }

    /// The configuration as it is now; why there is none, in words.
    fn configuration(&self) -> Result<Configuration, String> {
        match &self.configuration {
            Some(read) => read(),
            None => Err("this process has no configuration file".to_owned()),
        }
    }

    fn api(&self) -> Router {
        self.api.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn adoptions(&self) -> Arc<Vec<Adoption>> {
        Arc::clone(&self.adoptions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses an outbox of another version, with what to do.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        crate::store::check_schema(&self.pool, &self.schema).await
    }
}

/// The API as this configuration has it.
fn api(config: &Config, pool: &PgPool, configuration: Option<&ReadConfiguration>) -> Router {
    let state = ApiState::new(pool.clone(), &config.outbox.schema)
        .with_adoptions(config.adopt.clone())
        .with_redaction(config.console.redact.clone());
    router(match configuration {
        Some(read) => state.with_configuration(Arc::clone(read)),
        None => state,
    })
}

/// The clock of this process: for how long ago something was, never for what is stored.
fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}
