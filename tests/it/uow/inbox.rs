//! The inbox: an effect once, however often its event is delivered.

use outboxd::uow::inbox::once;
use sqlx::{Connection, PgConnection};

use super::shop;
use crate::support::{TestDatabase, eventually};

async fn reserve(connection: &mut PgConnection, id: &str) -> bool {
    let mut transaction = connection.begin().await.expect("a transaction begins");
    let is_first = once(&mut transaction, "stock", "shop", id).await.expect("the inbox answers");
    if is_first {
        sqlx::query("insert into audit_log values ('reserved')").execute(&mut *transaction).await.expect("it is written");
    }
    transaction.commit().await.expect("it commits");
    is_first
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_deliveries_of_one_event_at_once_have_one_effect() {
    let database = shop().await;
    let delivering = (0..50).map(|_| async {
        let mut connection = database.connect().await;
        reserve(&mut connection, "event-1").await
    });
    let firsts = futures_util::future::join_all(delivering).await.into_iter().filter(|is_first| *is_first).count();
    assert_eq!((firsts, database.count("audit_log").await, database.count("inbox").await), (1, 1, 1));
}

#[tokio::test]
async fn an_effect_that_is_rolled_back_leaves_no_mark() {
    let database = shop().await;
    let mut connection = database.connect().await;
    let mut transaction = connection.begin().await.expect("a transaction begins");
    assert!(once(&mut transaction, "stock", "shop", "event-1").await.expect("the inbox answers"));
    transaction.rollback().await.expect("it is undone");
    assert!(reserve(&mut connection, "event-1").await);
    assert!(!reserve(&mut connection, "event-1").await);
}

#[tokio::test]
async fn receivers_and_sources_have_marks_of_their_own() {
    let database = shop().await;
    let mut connection = database.connect().await;
    for (receiver, source, id, want) in [
        ("stock", "shop", "1", true),
        ("mail", "shop", "1", true),
        ("stock", "billing", "1", true),
        ("stock", "shop", "2", true),
        ("stock", "shop", "1", false),
    ] {
        assert_eq!(once(&mut connection, receiver, source, id).await.expect("the inbox answers"), want, "{receiver} {source} {id}");
    }
}

#[tokio::test]
async fn a_receiver_in_another_language_asks_by_sql_whatever_its_search_path() {
    let database = shop().await;
    let mut connection = database.connect().await;
    sqlx::query("set search_path = pg_catalog").execute(&mut connection).await.expect("a path");
    for want in [true, false] {
        let asked = sqlx::query_scalar("select outbox.once('stock', 'shop', 'event-1')");
        assert_eq!(asked.fetch_one(&mut connection).await.ok(), Some(want));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_forgets_marks_that_are_older_than_any_delivery() {
    let database: TestDatabase = shop().await;
    let mut connection = database.connect().await;
    for id in ["old", "new"] {
        once(&mut connection, "stock", "shop", id).await.expect("the inbox answers");
    }
    database.execute("update outbox.inbox set handled_at = now() - interval '91 days' where id = 'old'").await;
    let relay = crate::support::relay(&database)
        .handler("any", &[], crate::support::Recorder::new().handler())
        .configure(|config| config.outbox.retention_interval = std::time::Duration::from_millis(20))
        .start()
        .expect("the relay starts");
    eventually("the old mark is gone", || async { (database.count("inbox").await == 1).then_some(()) }).await;
    assert_eq!(database.count("inbox where id = 'new'").await, 1);
    relay.stop().await.expect("the relay stops");
}
