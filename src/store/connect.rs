//! Connections: every session has the schema of the outbox in its search_path, an application name, timeouts and keep-alives.
//!
//! A relay has six pools (`Connections`): leases (`keeper`), turns (`ledger`), reading (`log`), retention, alerts and gauges
//! (`aside`), calls of functions (`calls`), and the pages of clients (`feed`). The listening session has a pool of its own
//! (`store::bell`). A statement that waits for a lock, or a function that runs for minutes, holds a session of its own kind, so
//! it can delay neither a renewal nor the flush of another handler.
//!
//! The sizes do not depend on the number of handlers, except for the calls: each loop has one call at a time. `log` and `ledger`
//! are separate because a loop may wait for a statement of a turn (an attempt that is counted) while a read of the same loop,
//! which is not polled meanwhile, holds a connection.
//!
//! The pools `log` and `feed` plan once (`plan_cache_mode = force_generic_plan`), because Postgres would plan each look anew, at
//! more than twice the cost of the look itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::StoreError;
use super::patience::forget_idle;
use super::pooler::{Inspection, Sessions, inspect};
use super::session::{SessionSettings, search_path};
use crate::domain::Incarnation;
use crate::settings::{address_hint, parse_address};

/// Notices that the server behind the address is another one than before: after a failover, positions in memory mean nothing.
/// Every new connection reports here before it is used.
#[derive(Debug, Default)]
pub struct ServerWatch {
    last: Mutex<Option<Incarnation>>,
    generation: AtomicU64,
}

impl ServerWatch {
    /// Rises when a new connection finds another server.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    async fn meet(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let row = sqlx::query(include_str!("sql/meet_server.sql")).fetch_one(connection).await?;
        let Some(timeline) = row.try_get::<Option<String>, _>(1)? else {
            return Err(sqlx::Error::Configuration("the server is a standby; outboxd needs the primary".into()));
        };
        let met = Incarnation { system_identifier: row.try_get(0)?, timeline, database: row.try_get(2)? };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // After a failover the old primary may come back, and what is stored there would fit it.
        if last.as_ref().is_some_and(|last| met.is_before(last)) {
            return Err(sqlx::Error::Configuration("the server is on an older timeline than before: an old primary".into()));
        }
        if last.as_ref().is_some_and(|last| *last != met) {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        *last = Some(met);
        Ok(())
    }
}

/// How long answers to some statements can take. Beyond it the connection has fallen silent: a server that is there has long given
/// them up. `None`: the server was given no bound, so there is none.
pub fn answer_timeout(statement: Duration) -> Option<Duration> {
    (!statement.is_zero()).then(|| statement * 2 + Duration::from_secs(5))
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    pub url: &'a str,
    /// Schema of the outbox; letters, digits and underscores, checked by the configuration.
    pub schema: &'a str,
    /// Shown in `pg_stat_activity`, for example `outboxd relay`.
    pub application_name: &'a str,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
}

impl Options<'_> {
    /// The options as the driver wants them.
    pub fn to_connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        Ok(self.session().add_to(self.plain()?))
    }

    /// Without the settings of the session.
    fn plain(&self) -> Result<PgConnectOptions, StoreError> {
        // The driver takes two hosts for one unknown name; an address that it cannot read is reported with what to write.
        if let (Err(problem), Some(_)) = (parse_address(self.url), address_hint(self.url)) {
            return Err(StoreError::Refused(format!("the database address is none: {problem}")));
        }
        let options: PgConnectOptions = self.url.parse().map_err(StoreError::Address)?;
        // A statement that takes long is reported by its caller; its text in the log would not help. And no float is read as
        // text here, so the parameter that older poolers refuse is left out.
        Ok(options.disable_statement_logging().application_name(self.application_name).extra_float_digits(None))
    }

    /// The settings of every session of outboxd.
    pub fn session(&self) -> SessionSettings {
        SessionSettings::new(self.schema)
            .with("application_name", self.application_name.to_owned())
            .with("statement_timeout", self.statement_timeout.as_millis().to_string())
            .with("lock_timeout", self.lock_timeout.as_millis().to_string())
    }
}

/// Opens a pool and proves that the server answers.
pub async fn connect(options: &Options<'_>) -> Result<PgPool, StoreError> {
    open(options, None, false).await
}

/// A pool that connects when it is first used: for what has to answer while the server is away. Poolers are not looked for.
pub fn connect_lazily(options: &Options<'_>) -> Result<PgPool, StoreError> {
    let prepared = Prepared {
        server: String::new(),
        options: options.to_connect_options()?,
        settings: Arc::new(options.session()),
        watch: None,
        connect_timeout: options.connect_timeout,
        patience: answer_timeout(options.statement_timeout),
    };
    Ok(prepared.pool(options.max_connections, &prepared.settings).connect_lazy_with(prepared.options.clone()))
}

/// [`connect`], which proves in addition that no pooler shares our sessions even where nothing looks like one.
pub async fn connect_thoroughly(options: &Options<'_>) -> Result<PgPool, StoreError> {
    open(options, None, true).await
}

/// The sessions of a relay, apart by what they are for: nothing that takes long keeps from its work what must not wait.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Leases, and the requests of operators: a relay that waits here loses all that it owns.
    pub keeper: PgPool,
    /// Turns of the loops: recording, and what is due.
    pub ledger: PgPool,
    /// Reading the log. Plans its statements once: of a limit that it does not know the server believes that a plan for it must be dear,
    /// and would plan each look anew, at more than twice the cost of the look.
    pub log: PgPool,
    /// Work that may take long: retention, alerts, gauges.
    pub aside: PgPool,
    /// Functions of the kind `sql`, one session for each loop while it calls.
    pub calls: PgPool,
    /// Clients of the feed: however many they are, they take nothing from the relay. No connection is made before one comes.
    pub feed: PgPool,
}

impl Connections {
    /// Gives up the idle sessions of every pool.
    pub fn forget_idle(&self) {
        [&self.keeper, &self.ledger, &self.log, &self.aside, &self.calls, &self.feed].into_iter().for_each(forget_idle);
    }
}

/// Connections that the pool of the keeper and that of the feed may have. Two and four are used at a time, because their users limit
/// themselves. The rest is a reserve: the driver pings a connection that is given back, and one that falls silent during this ping stays
/// counted until the operating system gives it up.
const WITH_RESERVE: u32 = 16;
/// No bound of its own: a loop calls with one session at a time.
const MOST_CALLS: u32 = 1_000;

/// Opens the connections of a relay, every one to a primary, and reports to `watch` which server they met. `max_connections` of the options
/// is for the ledger, the log and what stands aside; keepers and calls come on top.
pub async fn connect_relay(options: &Options<'_>, watch: Arc<ServerWatch>) -> Result<Connections, StoreError> {
    // The relay leans on its sessions; a command that only looks does not pay for two more connections.
    let prepared = prepare(options, Some(watch), true).await?;
    let (ledger, log, aside) = shares(options.max_connections);
    let keeper = prepared.open(WITH_RESERVE).await?;
    let pool = |most| prepared.pool(most, &prepared.settings).connect_lazy_with(prepared.options.clone());
    let once = Arc::new(SessionSettings::clone(&prepared.settings).but("plan_cache_mode", "force_generic_plan"));
    let log = prepared.pool(log, &once).connect_lazy_with(prepared.options.clone());
    let feed = prepared.pool(WITH_RESERVE, &once).connect_lazy_with(prepared.options.clone());
    Ok(Connections { keeper, ledger: pool(ledger), log, aside: pool(aside), calls: pool(MOST_CALLS), feed })
}

impl Connections {
    /// Says goodbye on every connection.
    pub async fn close(&self) {
        let Self { keeper, ledger, log, aside, calls, feed } = self;
        futures_util::future::join_all([keeper, ledger, log, aside, calls, feed].map(PgPool::close)).await;
    }
}

/// How connections are shared between the ledger, the log and what stands aside. Each has one at least.
fn shares(most: u32) -> (u32, u32, u32) {
    let aside = (most / 4).clamp(1, 4);
    let loops = most.saturating_sub(aside).max(2);
    (loops.div_ceil(2), loops / 2, aside)
}

async fn open(options: &Options<'_>, watch: Option<Arc<ServerWatch>>, thoroughly: bool) -> Result<PgPool, StoreError> {
    prepare(options, watch, thoroughly).await?.open(options.max_connections).await
}

/// The common parts of all pools of these options, once the server has been examined.
struct Prepared {
    server: String,
    options: PgConnectOptions,
    /// The settings of every session.
    settings: Arc<SessionSettings>,
    watch: Option<Arc<ServerWatch>>,
    connect_timeout: Duration,
    patience: Option<Duration>,
}

async fn prepare(options: &Options<'_>, watch: Option<Arc<ServerWatch>>, thoroughly: bool) -> Result<Prepared, StoreError> {
    let connect_options = options.to_connect_options()?;
    let server =
        format!("{}:{}/{}", connect_options.get_host(), connect_options.get_port(), connect_options.get_database().unwrap_or(""));
    // The pool tries a refused connection again until its timeout and then knows only that: the cause would be lost, and the report late.
    let plain = options.plain()?;
    let inspected = inspect(&connect_options, &plain, &search_path(options.schema), options.connect_timeout, thoroughly).await;
    let sessions = match inspected {
        Ok(sessions) => sessions,
        Err(Inspection::Shared) => return Err(StoreError::SharedSessions { server }),
        Err(Inspection::Failed(cause)) => return Err(StoreError::Connect { server, hint: hint(&cause), cause }),
    };
    let connect_options = match sessions {
        Sessions::Direct => connect_options,
        Sessions::Pooled => plain,
    };
    let settings = Arc::new(options.session());
    let (connect_timeout, patience) = (options.connect_timeout, answer_timeout(options.statement_timeout));
    Ok(Prepared { server, options: connect_options, settings, watch, connect_timeout, patience })
}

impl Prepared {
    /// A pool with its first connection made.
    async fn open(&self, most: u32) -> Result<PgPool, StoreError> {
        let opened = self.pool(most, &self.settings).connect_with(self.options.clone()).await;
        opened.map_err(|cause| StoreError::Connect { server: self.server.clone(), hint: hint(&cause), cause })
    }

    fn pool(&self, most: u32, settings: &Arc<SessionSettings>) -> PgPoolOptions {
        let (watch, settings, patience) = (self.watch.clone(), settings.clone(), self.patience);
        PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(self.connect_timeout)
            .max_lifetime(None)
            .idle_timeout(Some(Duration::from_secs(300)))
            // A caller that waited too long for an answer has dropped the wait, and with it returned a connection that owes answers. The pool
            // would go on waiting for them, for ever if it is silent, and the place of the connection in the pool would be gone.
            .after_release(move |connection, _| {
                Box::pin(async move {
                    let Some(limit) = patience else { return Ok(true) };
                    let settled = tokio::time::timeout(limit, connection.flush()).await;
                    settled.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|()| true)
                })
            })
            .after_connect(move |connection, _| {
                let (watch, settings) = (watch.clone(), settings.clone());
                Box::pin(async move {
                    // At the start of the session as well, where nothing on the way drops them: then they are what a reset returns to.
                    settings.apply(connection).await?;
                    match watch {
                        Some(watch) => watch.meet(connection).await,
                        None => Ok(()),
                    }
                })
            })
    }
}

fn hint(cause: &sqlx::Error) -> &'static str {
    match cause {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01") => ": the password is wrong; check database.url or PGPASSWORD",
            Some("28000") => ": this user may not connect; does it exist, and does pg_hba.conf let it in?",
            Some("3D000") => ": there is no such database; create it first",
            Some("53300") => ": all its connections are in use; lower database.max_connections or raise max_connections there",
            Some("57P03") => ": it is starting up or shutting down; try again",
            _ => "",
        },
        sqlx::Error::Io(_) => ": no server answers there; is it running, and are host and port right?",
        sqlx::Error::PoolTimedOut => " within database.connect_timeout",
        sqlx::Error::Configuration(_) => "",
        sqlx::Error::Tls(_) => ": the TLS handshake failed; check sslmode and sslrootcert",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_a_connection_and_together_they_have_no_more_than_are_allowed() {
        for most in 0..200 {
            let (ledger, log, aside) = shares(most);
            assert!(ledger >= 1 && log >= 1 && aside >= 1, "{most}");
            assert!(ledger + log + aside <= most.max(3), "{most}: {ledger} {log} {aside}");
        }
        assert_eq!(shares(20), (8, 8, 4));
    }
}
