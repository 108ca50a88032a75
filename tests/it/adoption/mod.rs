//! Adoption: the table of another outbox, filled by an application that knows nothing of us, whose rows become events. On the built
//! binary and a real server: what the application does is plain SQL in connections of its own.

mod concurrent;
mod operators;
mod shapes;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::support::{Binary, Finished, TestDatabase};

/// As Debezium documents it, with the two columns that some have.
const DEBEZIUM: &str = "create table public.outboxevent (
    id uuid primary key, aggregatetype varchar(255) not null, aggregateid varchar(255) not null, type varchar(255) not null,
    payload jsonb, tracingspancontext varchar(256), timestamp timestamptz)";

const DEBEZIUM_ENTRY: &str = "[[adopt]]\ntable = \"public.outboxevent\"\nshape = \"debezium\"\n";

/// An application's table in a database with an outbox, and the entry that adopts it.
struct Shop {
    database: TestDatabase,
    binary: Binary,
}

impl Shop {
    /// Not adopted yet.
    async fn open(tables: &str, entries: &str) -> Self {
        let database = TestDatabase::create().await;
        database.execute(tables).await;
        let config =
            format!("[database]\nurl = \"{}\"\nlock_timeout = \"300ms\"\n[http]\nlisten = \"\"\n{entries}", database.url());
        Self { binary: Binary::with_config(&config), database }
    }

    async fn adopted(tables: &str, entries: &str) -> Self {
        let shop = Self::open(tables, entries).await;
        shop.succeed(&["adopt"]).await;
        shop
    }

    /// Runs a command that has to succeed.
    async fn succeed(&self, arguments: &[&str]) -> String {
        let Finished { code, stdout, stderr } = self.binary.run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// Runs a command that has to fail, and gives its words.
    async fn fail(&self, arguments: &[&str]) -> String {
        let Finished { code, stdout, stderr } = self.binary.run(arguments).await;
        assert_eq!(code, Some(1), "{arguments:?}: {stdout}{stderr}");
        stderr
    }

    /// Every event in the order of the log, one column of it.
    async fn events(&self, column: &str) -> Vec<String> {
        let sql = AssertSqlSafe(format!("select ({column})::text from events order by seq"));
        let rows = sqlx::query(sql).fetch_all(self.database.pool()).await.expect("the log can be read");
        rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_else(|| "null".to_owned())).collect()
    }

    /// The only event, as a document.
    async fn event(&self) -> Value {
        let sql = "select to_jsonb(e) from events e";
        let rows = sqlx::query(sql).fetch_all(self.database.pool()).await.expect("the log can be read");
        assert_eq!(rows.len(), 1);
        rows[0].get(0)
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
