//! Fresh outboxes for one measurement each, filled as a producer would fill them, and relays over them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::{Child, Command};

use crate::app::{EmbeddedRelay, RelayBuilder};
use crate::cli::CliError;
use crate::domain::{Notification, Record, Verdict};
use crate::handlers::Handler;
use crate::launcher::Postgres;
use crate::store;

/// The handler of most measurements.
pub const ONE_HANDLER: &str = "[[handlers]]\nname = \"bench\"\nkind = \"discard\"\nstart = \"beginning\"\n";

/// Keys over which the events of a bench are spread.
pub const KEYS: u64 = 10_000;

/// The server of this run.
pub struct Server {
    url: String,
    databases: AtomicU64,
}

/// One outbox in a database of its own.
pub struct Outbox {
    name: String,
    pub url: String,
    pub pool: PgPool,
}

impl Server {
    pub fn new(postgres: &Postgres) -> Self {
        Self { url: postgres.url("postgres"), databases: AtomicU64::new(0) }
    }

    /// A migrated, empty outbox.
    pub async fn outbox(&self) -> Result<Outbox, CliError> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url).await.map_err(CliError::failed)?;
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await.map_err(CliError::failed)?;
        let url = format!("{}/{name}", self.url.trim_end_matches("/postgres"));
        let options: sqlx::postgres::PgConnectOptions = url.parse().map_err(CliError::failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(40)
            .connect_with(options.options([("search_path", "outbox,public")]))
            .await
            .map_err(CliError::failed)?;
        store::migrate(&pool, "outbox", None).await?;
        Ok(Outbox { name, url, pool })
    }

    /// Drops an outbox that has been measured: the next one would have to share the machine with vacuum, which comes to look at it.
    pub async fn remove(&self, outbox: Outbox) -> Result<(), CliError> {
        outbox.pool.close().await;
        let mut connection = PgConnection::connect(&self.url).await.map_err(CliError::failed)?;
        let drop = format!("drop database {} with (force)", outbox.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await.map(|_| ()).map_err(CliError::failed)
    }
}

impl Outbox {
    /// Runs statements that only a bench needs.
    pub async fn execute(&self, statements: &str) -> Result<(), CliError> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await.map(drop).map_err(CliError::failed)
    }

    pub async fn scalar(&self, statement: &str) -> Result<i64, CliError> {
        sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&self.pool).await.map_err(CliError::failed)
    }

    /// Inserts events with payloads of about 300 bytes, over [`KEYS`] aggregates.
    pub async fn fill(&self, events: u64) -> Result<(), CliError> {
        self.execute(&format!(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload)
             select 'order.placed', 'order', (n % {KEYS})::text,
                    json_build_object('order', n, 'note', repeat('x', 270))
               from generate_series(1, {events}) n;
             analyze outbox.events; checkpoint"
        ))
        .await
    }

    /// A relay whose only handler is this one, and which begins at the first event.
    pub fn relay(&self, handler: Arc<dyn Handler>, record: Record, concurrency: usize) -> Result<EmbeddedRelay, CliError> {
        RelayBuilder::new(self.url.clone())
            .configured_handler("bench", handler, |config| {
                config.record = record;
                config.concurrency = concurrency;
                config.start = crate::config::Start::Beginning;
            })
            .start()
            .map_err(|mistake| CliError::failed(mistake.to_string()))
    }

    /// A relay in a process of its own, with these handlers; its file is in the directory. `listen`: where it serves its metrics, if anywhere.
    pub fn start_relay(&self, directory: &Path, listen: &str, handlers: &str) -> Result<Child, CliError> {
        let config =
            format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"{listen}\"\n[log]\nfilter = \"warn\"\n{handlers}", self.url);
        let path = directory.join("outboxd.toml");
        std::fs::write(&path, config).map_err(CliError::failed)?;
        let program = std::env::current_exe().map_err(CliError::failed)?;
        Command::new(program).arg("run").arg("--config").arg(&path).kill_on_drop(true).spawn().map_err(CliError::failed)
    }

    /// Waits until everything up to `seq` is recorded as handled.
    pub async fn wait_recorded(&self, seq: u64) -> Result<(), CliError> {
        let statement = format!("select count(*) from outbox.subscriptions where high_seq >= {seq}");
        let began = Instant::now();
        while self.scalar(&statement).await? == 0 {
            if began.elapsed() > GIVE_UP.max(Duration::from_millis(seq / 5)) {
                return Err(CliError::failed("the relay did not record everything in time"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Longest that one measurement may take; a large log may take longer, at 5,000 events a second.
pub const GIVE_UP: Duration = Duration::from_secs(300);

/// Does nothing but count, like the kind `discard`.
#[derive(Default)]
pub struct Counting(pub AtomicU64);

impl Handler for Counting {
    fn deliver<'a>(&'a self, _: &'a Notification) -> BoxFuture<'a, Verdict> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Verdict::delivered()))
    }

    fn is_immediate(&self) -> bool {
        true
    }
}
