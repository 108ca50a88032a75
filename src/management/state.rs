//! The state of the API: its pool, and its part of the configuration.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::PgPool;

use super::documents::Groups;
use crate::config::Database;
use crate::domain::Adoption;
use crate::operations::status::Status;
use crate::operations::{ReadConfiguration, Shared, redact_json};
use crate::store::{self, StoreError};

/// Connections of the pool, at most.
const MOST_CONNECTIONS: u32 = 3;
/// An operator does not wait longer for a page, and the database does not work longer for one.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The state for every request.
#[derive(Clone)]
pub struct ApiState(Arc<Parts>);

struct Parts {
    pool: PgPool,
    schema: String,
    configuration: Option<ReadConfiguration>,
    adoptions: Vec<Adoption>,
    redact: Vec<Vec<String>>,
    unencrypted: Option<String>,
    status: Shared<(), Status>,
    groups: Shared<Query, Groups>,
}

/// A query as it was given.
type Query = Vec<(String, String)>;

/// What costs much to read is read once for all who ask within this time.
const JUST_NOW: Duration = Duration::from_secs(1);

/// Opens the pool of the API and proves that the server answers. `purpose` is shown in `pg_stat_activity`.
pub async fn connect(database: &Database, schema: &str, purpose: &str) -> Result<PgPool, StoreError> {
    store::connect(&options(database, schema, purpose)).await
}

/// [`connect`] for a listener that has to answer while the server is away.
pub fn connect_lazily(database: &Database, schema: &str, purpose: &str) -> Result<PgPool, StoreError> {
    store::connect_lazily(&options(database, schema, purpose))
}

fn options<'a>(database: &'a Database, schema: &'a str, purpose: &'a str) -> store::Options<'a> {
    let shorter = |configured: Duration| if configured.is_zero() { STATEMENT_TIMEOUT } else { configured.min(STATEMENT_TIMEOUT) };
    store::Options {
        url: database.url.expose(),
        schema,
        application_name: purpose,
        max_connections: MOST_CONNECTIONS,
        connect_timeout: shorter(database.connect_timeout),
        statement_timeout: shorter(database.statement_timeout),
        lock_timeout: shorter(database.lock_timeout),
    }
}

impl ApiState {
    /// On a pool from [`connect`].
    pub fn new(pool: PgPool, schema: &str) -> Self {
        Self(Arc::new(Parts {
            pool,
            schema: schema.to_owned(),
            configuration: None,
            adoptions: Vec::new(),
            redact: Vec::new(),
            unencrypted: None,
            status: Shared::new(JUST_NOW),
            groups: Shared::new(JUST_NOW),
        }))
    }

    fn change(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(Arc::get_mut(&mut self.0).expect("a state is put together before it is shared"));
        self
    }

    /// With the configuration, for the doctor and for trying handlers.
    #[must_use]
    pub fn with_configuration(self, read: ReadConfiguration) -> Self {
        self.change(|parts| parts.configuration = Some(read))
    }

    /// With the adopted tables that there should be.
    #[must_use]
    pub fn with_adoptions(self, adoptions: Vec<Adoption>) -> Self {
        self.change(|parts| parts.adoptions = adoptions)
    }

    /// With the redacted fields of payloads and headers.
    #[must_use]
    pub fn with_redaction(self, paths: Vec<Vec<String>>) -> Self {
        self.change(|parts| parts.redact = paths)
    }

    /// With what should be known of the way to the server.
    #[must_use]
    pub fn with_unencrypted(self, unencrypted: Option<String>) -> Self {
        self.change(|parts| parts.unencrypted = unencrypted)
    }

    /// The answers about the status; shared by all who ask at about the same time.
    pub(super) fn shared_status(&self) -> &Shared<(), Status> {
        &self.0.status
    }

    /// The answers about groups, by query.
    pub(super) fn shared_groups(&self) -> &Shared<Query, Groups> {
        &self.0.groups
    }

    /// Something was changed: the next answer is a new one.
    pub(super) fn forget(&self) {
        self.0.status.forget();
        self.0.groups.forget();
    }

    pub fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    pub fn schema(&self) -> &str {
        &self.0.schema
    }

    /// The schema, where a command has to name it.
    pub fn named_schema(&self) -> Option<&str> {
        (self.schema() != "outbox").then_some(self.schema())
    }

    pub fn configuration(&self) -> Option<&ReadConfiguration> {
        self.0.configuration.as_ref()
    }

    pub fn adoptions(&self) -> &[Adoption] {
        &self.0.adoptions
    }

    pub fn unencrypted(&self) -> Option<&str> {
        self.0.unencrypted.as_deref()
    }

    /// The redacted paths.
    pub fn redaction(&self) -> &[Vec<String>] {
        &self.0.redact
    }

    /// A payload or headers without the redacted fields.
    pub fn redacted(&self, json: &RawValue) -> Box<RawValue> {
        redact_json(json, &self.0.redact)
    }
}
