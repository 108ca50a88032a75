//! The database that the demo plays in: a throw-away server of its own, or two schemas of its own on a given one.
//! On a given server it touches nothing but those two, and drops only what it made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::cli::CliError;
use crate::launcher::{Options, Postgres};
use crate::store::{self, StoreError};

/// Where things stand in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schemas {
    pub outbox: &'static str,
    /// The application's own tables.
    pub shop: &'static str,
}

const PRIVATE: Schemas = Schemas { outbox: "outbox", shop: "shop" };
const SHARED: Schemas = Schemas { outbox: "outbox_demo", shop: "shop_demo" };

/// Tells our schemas from those of others.
const MARK: &str = "made by outboxd demo, which drops it at its end";

/// Largest payload; the demo's are tiny.
const MAX_PAYLOAD: u64 = 1 << 20;

/// The database, ready to play.
pub struct Stage {
    pub url: String,
    pub schemas: Schemas,
    pub pool: PgPool,
    /// For the configuration and the log of the relay; removed with the stage.
    pub directory: PathBuf,
    place: Place,
}

enum Place {
    Private(Box<Postgres>),
    /// The connection holds the lock that keeps a second demo away.
    Shared {
        lock: PgConnection,
        directory: tempfile::TempDir,
    },
}

impl Stage {
    /// Starts a server of its own.
    pub async fn private(progress: &impl Fn(&str, &str)) -> Result<Self, CliError> {
        progress("Postgres", "looking for server programs, starting a private server (about a second)");
        let options = Options { announce: |line| eprintln!("  {line}"), ..Options::default() };
        let starting = tokio::task::spawn_blocking(|| Postgres::start(options));
        let server = starting.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
        let directory = server.data_dir().parent().map(Path::to_owned).unwrap_or_default();
        progress(
            "Postgres",
            &format!("{} runs on port {}, process {}, in {}", server.version(), server.port(), server.pid(), directory.display()),
        );
        let url = server.url("postgres");
        let pool = connect(&url, PRIVATE).await?;
        let stage = Self { url, schemas: PRIVATE, pool, directory, place: Place::Private(Box::new(server)) };
        stage.prepare_or_clear(progress).await
    }

    /// Uses a given server.
    pub async fn shared(url: String, progress: &impl Fn(&str, &str)) -> Result<Self, CliError> {
        let pool = connect(&url, SHARED).await?;
        let options = to_options(&url, SHARED).to_connect_options()?;
        progress(
            "Postgres",
            &format!("using {}:{}, schemas {} and {}", options.get_host(), options.get_port(), SHARED.outbox, SHARED.shop),
        );
        let mut lock = PgConnection::connect_with(&options).await.map_err(StoreError::query("connect"))?;
        take_lock(&mut lock).await?;
        clear_leftovers(&mut lock, progress).await?;
        let directory = tempfile::Builder::new().prefix("outboxd-demo-").tempdir().map_err(CliError::failed)?;
        let (path, place) = (directory.path().to_owned(), Place::Shared { lock, directory });
        let stage = Self { url, schemas: SHARED, pool, directory: path, place };
        stage.prepare_or_clear(progress).await
    }

    async fn prepare_or_clear(self, progress: &impl Fn(&str, &str)) -> Result<Self, CliError> {
        match self.prepare(progress).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.clear().await.ok(); // the first error is the one to tell
                Err(error)
            }
        }
    }

    async fn prepare(&self, progress: &impl Fn(&str, &str)) -> Result<(), CliError> {
        let Schemas { outbox, shop } = self.schemas;
        // `create schema` without `if not exists`: a schema that another session creates at this moment is not the demo's.
        let make = |name: &str| format!("create schema {name}; comment on schema {name} is '{MARK}'");
        self.execute("create the schema of the outbox", make(outbox)).await?;
        self.execute("create the schema of the shop", make(shop)).await?;
        let migrated = store::migrate(&self.pool, outbox, Some(MAX_PAYLOAD)).await?;
        progress("Outbox", &format!("schema {outbox} migrated to version {}", migrated.version));
        self.execute("create the tables of the shop", include_str!("shop.sql").replace("{shop}", shop)).await?;
        progress("Shop", &format!("schema {shop} has orders, and order_totals, which the relay keeps up to date"));
        Ok(())
    }

    async fn execute(&self, action: &'static str, sql: String) -> Result<(), StoreError> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.map_err(StoreError::query(action)).map(drop)
    }

    /// Removes everything. An error means that the schemas could not be dropped.
    pub async fn clear(self) -> Result<&'static str, CliError> {
        self.pool.close().await;
        match self.place {
            Place::Private(server) => {
                tokio::task::spawn_blocking(move || drop(server)).await.map_err(CliError::failed)?;
                Ok("the private Postgres is stopped and its directory removed")
            }
            Place::Shared { mut lock, directory } => {
                drop_marked(&mut lock).await?;
                lock.close().await.ok(); // the lock goes with the session, whichever way it ends
                directory.close().ok(); // a left-over temporary directory is no failure of the demo
                Ok("the schemas are dropped")
            }
        }
    }
}

fn to_options(url: &str, schemas: Schemas) -> store::Options<'_> {
    store::Options {
        url,
        schema: schemas.outbox,
        application_name: "outboxd demo",
        max_connections: 4,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(10),
    }
}

async fn connect(url: &str, schemas: Schemas) -> Result<PgPool, StoreError> {
    store::connect(&to_options(url, schemas)).await
}

async fn take_lock(connection: &mut PgConnection) -> Result<(), CliError> {
    let statement = "select pg_try_advisory_lock(hashtextextended('outboxd demo', 0))";
    let is_ours: bool =
        sqlx::query_scalar(statement).fetch_one(connection).await.map_err(StoreError::query("look for another demo"))?;
    if is_ours {
        Ok(())
    } else {
        Err(CliError::failed("another demo runs in this database; wait for its end or use another database"))
    }
}

/// A demo that was killed could not clean up; one that still runs would hold the lock.
async fn clear_leftovers(connection: &mut PgConnection, progress: &impl Fn(&str, &str)) -> Result<(), CliError> {
    if drop_marked(connection).await? > 0 {
        progress("Postgres", "an earlier demo was killed; dropped what it had left behind");
    }
    let statement = "select nspname::text from pg_namespace where nspname in ($1, $2)";
    let foreign: Option<String> = sqlx::query_scalar(statement)
        .bind(SHARED.outbox)
        .bind(SHARED.shop)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("look for schemas"))?;
    match foreign {
        None => Ok(()),
        Some(name) => Err(CliError::failed(format!("there is a schema \"{name}\" that no demo made; use another database"))),
    }
}

/// Drops those of our two schemas that carry our mark.
async fn drop_marked(connection: &mut PgConnection) -> Result<usize, StoreError> {
    let statement =
        "select nspname::text from pg_namespace where nspname in ($1, $2) and obj_description(oid, 'pg_namespace') = $3";
    let names: Vec<String> = sqlx::query_scalar(statement)
        .bind(SHARED.outbox)
        .bind(SHARED.shop)
        .bind(MARK)
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::query("look for schemas of the demo"))?;
    for name in &names {
        let statement = AssertSqlSafe(format!("drop schema {name} cascade"));
        sqlx::raw_sql(statement).execute(&mut *connection).await.map_err(StoreError::query("drop the schemas of the demo"))?;
    }
    Ok(names.len())
}
