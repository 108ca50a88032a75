//! Writers that commit, roll back, commit late and commit asynchronously, and what became of each of their transactions.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::support::TestDatabase;

/// A committed transaction: its events in the order in which they were recorded, each with the aggregate that it belongs to and its version.
pub type Committed = Vec<(Uuid, String, i64)>;

/// Runs one writer for so many transactions. It locks the row of an aggregate, raises its version, and records one to four events of it;
/// every fifth transaction is rolled back, every seventh stays open while others commit, every third commits asynchronously.
pub async fn write(database: &TestDatabase, writer: i64, transactions: i64) -> Vec<Committed> {
    let mut connection = PgConnection::connect(database.url()).await.expect("the server takes connections");
    let mut committed = Vec::new();
    for round in 0..transactions {
        let aggregate = format!("a{}", (writer * 7 + round) % 23);
        let commits = if round % 3 == 0 { "off" } else { "on" };
        let begin = format!("begin; set local synchronous_commit = {commits}");
        connection.execute(AssertSqlSafe(begin)).await.expect("a transaction begins");
        let mut events = Vec::new();
        for number in 0..1 + (writer + round) % 4 {
            let lock = "update aggregates set version = version + 1 where id = $1 returning version";
            let version: i64 = sqlx::query_scalar(lock).bind(&aggregate).fetch_one(&mut connection).await.expect("locked");
            let event_type = ["order.placed", "order.paid", "stock.moved"][usize::try_from((round + number) % 3).expect("small")];
            let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, aggregate_version, payload, headers)
                          values ($1, 'order', $2, $3, json_build_object('n', $3), jsonb_build_object('tenant', $4)) returning id";
            let id: Uuid = sqlx::query_scalar(insert)
                .bind(event_type)
                .bind(&aggregate)
                .bind(version)
                .bind(format!("t{}", writer % 2))
                .fetch_one(&mut connection)
                .await
                .expect("recorded");
            events.push((id, aggregate.clone(), version));
        }
        if round % 7 == 3 {
            tokio::time::sleep(std::time::Duration::from_millis(30)).await; // open while the others go on
        }
        if round % 5 == 4 {
            connection.execute("rollback").await.expect("rolled back");
        } else {
            connection.execute("commit").await.expect("committed");
            committed.push(events);
        }
    }
    connection.close().await.ok();
    committed
}

/// The table that the writers lock.
pub async fn prepare(database: &TestDatabase) {
    let sql = "create table public.aggregates (id text primary key, version bigint not null default 0);
               insert into public.aggregates select 'a' || n, 0 from generate_series(0, 22) n";
    database.execute(sql).await;
}
