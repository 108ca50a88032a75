//! What an operator sets up by hand: roles with few rights, and schemas made by somebody else.

use std::time::Duration;

use outboxd::store::{self, StoreError, check_schema, migrate};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::support::TestDatabase;

const MAX_PAYLOAD: Option<u64> = Some(1 << 20);

/// A role that every server has and that may create nothing; what is granted to it goes away with the database of the test.
const ROLE: &str = "pg_monitor";

/// A pool that acts as [`ROLE`], with the search path the daemon sets.
async fn as_role(database: &TestDatabase) -> PgPool {
    let options = store::Options {
        url: database.url(),
        schema: "outbox",
        application_name: "outboxd test",
        max_connections: 2,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(5),
    };
    let options = options.to_connect_options().expect("the address is valid").options([("role", ROLE)]);
    PgPool::connect_with(options).await.expect("the test role may act as another")
}

#[tokio::test]
async fn a_role_without_create_rights_starts_on_a_schema_that_is_up_to_date() {
    let database = TestDatabase::empty().await;
    migrate(database.pool(), "outbox", MAX_PAYLOAD).await.expect("the owner migrates");
    database.execute(&format!("grant usage on schema outbox to {ROLE}; grant select on migrations to {ROLE}")).await;

    let migrated = migrate(&as_role(&database).await, "outbox", MAX_PAYLOAD).await.expect("there is nothing to do");

    assert_eq!((migrated.applied.len(), migrated.version > 0), (0, true));
}

#[tokio::test]
async fn a_role_that_may_not_create_schemas_migrates_one_that_it_was_given() {
    let database = TestDatabase::empty().await;
    database.execute(&format!("create schema outbox; grant all on schema outbox to {ROLE}")).await;

    let migrated = migrate(&as_role(&database).await, "outbox", MAX_PAYLOAD).await.expect("the schema is there");

    assert!(!migrated.applied.is_empty());
}

#[tokio::test]
async fn a_schema_that_the_role_may_not_use_is_named_with_the_grant_that_helps() {
    let database = TestDatabase::empty().await;
    migrate(database.pool(), "outbox", MAX_PAYLOAD).await.expect("the owner migrates");
    let pool = as_role(&database).await;

    let refused: [StoreError; 2] = [
        migrate(&pool, "outbox", MAX_PAYLOAD).await.expect_err("it may not"),
        check_schema(&pool, "outbox").await.expect_err("nor run on it"),
    ];

    for error in refused {
        assert!(error.to_string().contains("grant usage on schema \"outbox\""), "{error}");
    }
}

/// A search path that leads elsewhere would scatter the tables over another schema.
#[tokio::test]
async fn nothing_is_made_outside_the_schema_that_was_named() {
    let database = TestDatabase::empty().await;
    database.execute("create schema outbox; create schema other").await;

    migrate(database.pool(), "other", MAX_PAYLOAD).await.expect("where the pool's search path leads does not matter");

    assert_eq!(database.count("pg_tables where schemaname in ('outbox', 'public')").await, 0);
    assert!(database.count("pg_tables where schemaname = 'other'").await > 0);
}

/// Seen: the pool of a program that embeds the relay knows nothing of the schema, and was told that its role may not use it.
#[tokio::test]
async fn the_plain_pool_of_an_application_makes_the_outbox_and_stays_as_it_is() {
    let database = TestDatabase::empty().await;
    let options = PgPoolOptions::new().max_connections(1);
    let pool = options.connect(database.url()).await.expect("the test server takes connections");
    let path = || async { sqlx::query_scalar::<_, String>("show search_path").fetch_one(&pool).await.expect("a path") };
    let before = path().await;

    let first = migrate(&pool, "outbox", MAX_PAYLOAD).await.expect("the outbox is made");
    let second = migrate(&pool, "outbox", MAX_PAYLOAD).await.expect("there is nothing to do");

    assert_eq!((first.applied.is_empty(), second.applied.len()), (false, 0));
    check_schema(database.pool(), "outbox").await.expect("it is where the relay looks for it");
    assert_eq!(path().await, before);
    let told = check_schema(&pool, "outbox").await.expect_err("a relay would look elsewhere").to_string();
    assert!(told.contains("search_path = \"outbox\", pg_catalog, public, pg_temp") && !told.contains("grant"), "{told}");
}
