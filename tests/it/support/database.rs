//! A database for one test: made for it, dropped after it, kept and named when the test fails.

use outboxd::store::{self, Migrated};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::server::{is_kept, is_private, server_url};

/// The database. Its pool has the outbox schema in the search path.
pub struct TestDatabase {
    name: String,
    url: String,
    pool: PgPool,
}

/// A row as a producer inserts it.
#[derive(Debug, Clone)]
pub struct NewRow {
    pub event_type: String,
    pub aggregate_type: Option<String>,
    pub aggregate_id: Option<String>,
    pub payload: Value,
    pub headers: Value,
}

impl NewRow {
    pub fn new(event_type: &str) -> Self {
        Self { event_type: event_type.to_owned(), aggregate_type: None, aggregate_id: None, payload: json!({}), headers: json!({}) }
    }

    /// The aggregate, whose events keep their order.
    pub fn of(self, aggregate_type: &str, aggregate_id: impl ToString) -> Self {
        Self { aggregate_type: Some(aggregate_type.to_owned()), aggregate_id: Some(aggregate_id.to_string()), ..self }
    }

    pub fn payload(self, payload: Value) -> Self {
        Self { payload, ..self }
    }

    pub fn headers(self, headers: Value) -> Self {
        Self { headers, ..self }
    }
}

impl TestDatabase {
    /// An empty database.
    pub async fn empty() -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        administer(&format!("create database {name} template template0")).await;
        Self::on(server_url(&name), name)
    }

    /// An empty database in an encoding.
    pub async fn in_encoding(encoding: &str) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        administer(&format!("create database {name} template template0 encoding '{encoding}' locale 'C'")).await;
        Self::on(server_url(&name), name)
    }

    /// A database with the outbox in it.
    pub async fn create() -> Self {
        let database = Self::empty().await;
        database.migrate().await;
        database
    }

    fn on(url: String, name: String) -> Self {
        let options: PgConnectOptions = url.parse().expect("the launcher gives a valid address");
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect_lazy_with(options.application_name("outboxd test").options([("search_path", "outbox,pg_catalog,public")]));
        Self { name, url, pool }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection outside the pool, with the default search path: what a producer in another program has.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the test server takes connections")
    }

    /// Brings the outbox to the newest version, with the default bound on payloads.
    pub async fn migrate(&self) -> Migrated {
        store::migrate(&self.pool, "outbox", None).await.expect("the migrations apply")
    }

    /// Records one event in a transaction of its own and gives its id.
    pub async fn insert_event(&self, row: NewRow) -> Uuid {
        self.insert_events([row]).await.remove(0)
    }

    /// Records events in one transaction, in this order, and gives their ids in the same order.
    pub async fn insert_events(&self, rows: impl IntoIterator<Item = NewRow>) -> Vec<Uuid> {
        let mut transaction = self.pool.begin().await.expect("a transaction begins");
        let mut ids = Vec::new();
        for row in rows {
            let insert = sqlx::query_scalar(
                "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) values ($1, $2, $3, $4, $5) returning id",
            )
            .bind(row.event_type)
            .bind(row.aggregate_type)
            .bind(row.aggregate_id)
            .bind(row.payload)
            .bind(row.headers);
            ids.push(insert.fetch_one(&mut *transaction).await.expect("the event is well formed"));
        }
        transaction.commit().await.expect("the transaction commits");
        ids
    }

    /// How many rows a condition on a table or view of the outbox has, for example `deliveries where state = 'dead'`.
    pub async fn count(&self, what: &str) -> i64 {
        let sql = AssertSqlSafe(format!("select count(*) from {what}"));
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("the count is valid SQL")
    }

    /// Whether a relay sleeps on this database: it holds the bell, and producers ring.
    pub async fn has_sleeping_relay(&self) -> bool {
        let held = "pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
                    and database = (select oid from pg_database where datname = current_database())";
        self.count(held).await > 0
    }

    /// Runs any SQL, several statements if need be.
    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.expect("the statement of the test works");
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if std::thread::panicking() || is_kept() {
            let note = if is_private() && !is_kept() { "; OUTBOXD_TEST_KEEP=1 keeps the server's data after the run" } else { "" };
            eprintln!("the database of this test is {}{note}", self.url);
            return;
        }
        let sql = format!("drop database if exists {} with (force)", self.name);
        // In a thread of its own: a destructor cannot wait for the runtime that it may be running on.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(administer(&sql));
        });
        if dropping.join().is_err() {
            eprintln!("could not drop the database {}", self.name);
        }
    }
}

async fn administer(sql: &str) {
    // Starting the shared server blocks; the other tests of this runtime should not.
    let url = tokio::task::spawn_blocking(|| server_url("postgres")).await.expect("the test server starts");
    let mut connection = PgConnection::connect(&url).await.expect("the test server takes connections");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("the test role may create databases");
    connection.close().await.ok();
}
