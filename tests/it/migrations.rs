//! Migrations: applied once, by whoever comes first; never on a schema from the future.

use outboxd::store::{check_schema, migrate, migration_script};

use crate::support::{NewRow, TestDatabase};

const MAX_PAYLOAD: Option<u64> = Some(1 << 20);

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let database = TestDatabase::empty().await;

    let first = database.migrate().await;
    database.insert_event(NewRow::new("order.placed")).await;
    let second = database.migrate().await;

    assert!(!first.applied.is_empty());
    assert_eq!((second.applied.len(), second.edited.len(), second.max_payload), (0, 0, None));
    assert_eq!(second.version, first.version);
    assert_eq!(database.count("events").await, 1);
    check_schema(database.pool(), "outbox").await.expect("the schema is the newest");
}

#[tokio::test]
async fn relays_that_start_together_migrate_once() {
    let database = TestDatabase::empty().await;

    let migrate = || migrate(database.pool(), "outbox", MAX_PAYLOAD);
    let (one, two, three) = tokio::join!(migrate(), migrate(), migrate());

    let applied: usize = [one, two, three].map(|migrated| migrated.expect("each of them succeeds").applied.len()).into_iter().sum();
    assert_eq!(applied as i64, database.count("migrations").await);
}

#[tokio::test]
async fn a_schema_newer_than_this_program_is_refused_and_left_alone() {
    let database = TestDatabase::create().await;
    database.execute("insert into migrations (version, name, checksum) values (9999, '9999_from_the_future', '')").await;

    let error = migrate(database.pool(), "outbox", MAX_PAYLOAD).await.expect_err("it must not touch what it does not know");

    assert!(error.to_string().contains("9999"), "{error}");
    check_schema(database.pool(), "outbox").await.expect_err("nor run on it");
}

#[tokio::test]
async fn a_database_without_an_outbox_is_reported_with_the_command_that_helps() {
    let database = TestDatabase::empty().await;
    let error = check_schema(database.pool(), "outbox").await.expect_err("there is nothing").to_string();
    assert!(error.contains("outboxd migrate"), "{error}");
}

#[tokio::test]
async fn a_new_bound_on_payloads_holds_in_sessions_that_have_inserted_before() {
    let database = TestDatabase::create().await;
    let mut producer = database.connect().await;
    let mut insert = async |payload: &str| {
        let insert = sqlx::query("insert into outbox.events (type, payload) values ('order.placed', $1::text::json)");
        insert.bind(payload).execute(&mut producer).await
    };
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(2 << 20));
    insert("{}").await.expect("a small payload is fine");
    insert(&large).await.expect_err("this one is above the bound");

    let migrated = migrate(database.pool(), "outbox", Some(4 << 20)).await.expect("it changes the bound");
    insert(&large).await.expect("now it is below");

    assert_eq!(migrated.max_payload, Some(4 << 20));
    assert_eq!(migrate(database.pool(), "outbox", Some(4 << 20)).await.expect("it is so already").max_payload, None);
}

#[tokio::test]
async fn the_printed_script_makes_the_same_schema() {
    let (migrated, scripted) = (TestDatabase::create().await, TestDatabase::empty().await);

    scripted.execute(&migration_script("outbox", MAX_PAYLOAD)).await;

    assert_eq!(columns(&scripted).await, columns(&migrated).await);
    assert!(scripted.migrate().await.applied.is_empty());
}

async fn columns(database: &TestDatabase) -> Vec<String> {
    let sql =
        "select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
                 from information_schema.columns where table_schema = 'outbox' order by table_name, ordinal_position";
    sqlx::query_scalar(sql).fetch_all(database.pool()).await.expect("the catalogue answers")
}
