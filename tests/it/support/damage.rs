//! Rows whose stored bytes are gone, as after a fault of a disk: reading them out fails, and nothing else shows it.

use sqlx::Connection;
use uuid::Uuid;

use super::{TestDatabase, eventually};

/// An event with values that are stored outside of its row.
pub struct Brittle {
    pub id: Uuid,
    payload: i64,
    headers: i64,
}

impl Brittle {
    /// Inserts one whose payload is `{"n": n, "text": ...}`; `more`: headers beside a long one.
    pub async fn insert(database: &TestDatabase, n: usize, aggregate: &str, more: serde_json::Value) -> Self {
        let mut random = fastrand::Rng::with_seed(n as u64);
        let mut text = |length: usize| (0..length).map(|_| random.alphanumeric()).collect::<String>();
        let payload = format!("{{\"n\":{n},\"text\":\"{}\"}}", text(30_000));
        let mut headers = serde_json::json!({ "long": text(10_000) });
        headers.as_object_mut().expect("an object").extend(more.as_object().expect("headers").clone());
        let insert = async {
            sqlx::query_scalar(
                "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers)
                 values ('order.placed', 'order', $1, $2::json, $3) returning id",
            )
            .bind(aggregate)
            .bind(payload)
            .bind(headers)
            .fetch_one(database.pool())
            .await
            .expect("the event is stored")
        };
        Self::around(database, insert).await
    }

    /// The event that is inserted meanwhile; its payload is longer than its headers, and both are long.
    pub async fn around(database: &TestDatabase, insert: impl Future<Output = Uuid>) -> Self {
        let before = chunks(database).await;
        let id = insert.await;
        // The larger one is moved out first.
        let new: Vec<i64> = chunks(database).await.into_iter().filter(|chunk| !before.contains(chunk)).collect();
        let [payload, headers] = new[..] else { panic!("two values outside of the row, not {new:?}") };
        Self { id, payload, headers }
    }

    /// From now on the payload cannot be read.
    pub async fn lose_payload(&self, database: &TestDatabase) {
        self.lose(database, self.payload, "payload").await;
    }

    /// From now on the headers cannot be read.
    pub async fn lose_headers(&self, database: &TestDatabase) {
        self.lose(database, self.headers, "headers").await;
    }

    async fn lose(&self, database: &TestDatabase, chunk: i64, column: &str) {
        let place = place(database).await;
        // The server refuses to change such a table, unless it takes it for a common one.
        let sql = format!(
            "set allow_system_table_mods = on;
             update pg_class set relkind = 'r' where oid = '{place}'::regclass;
             delete from {place} where chunk_id = {chunk};
             update pg_class set relkind = 't' where oid = '{place}'::regclass"
        );
        let mut connection = database.connect().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("a superuser may");
        connection.close().await.expect("closed");
        // What is deleted can be read until it is vacuumed away.
        let read = format!("select length({column}::text) from outbox.events where id = '{}'", self.id);
        eventually("a value that cannot be read", || async {
            database.execute(&format!("vacuum {place}")).await;
            sqlx::query(sqlx::AssertSqlSafe(read.clone())).fetch_one(database.pool()).await.is_err().then_some(())
        })
        .await;
    }
}

/// In the order in which they were stored.
async fn chunks(database: &TestDatabase) -> Vec<i64> {
    let place = place(database).await;
    let sql = format!("select distinct chunk_id::bigint from {place} order by 1");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(database.pool()).await.expect("the stored values")
}

async fn place(database: &TestDatabase) -> String {
    sqlx::query_scalar("select reltoastrelid::regclass::text from pg_class where oid = 'outbox.events'::regclass")
        .fetch_one(database.pool())
        .await
        .expect("events can be large")
}
