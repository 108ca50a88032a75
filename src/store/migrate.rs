//! The schema: forward-only migrations, each in its own transaction, never dropping anything.
//! Refuses a schema that is newer than this program knows.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};

use super::session::search_path;
use super::{SessionSettings, StoreError};

/// One step of the schema.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_outbox", sql: include_str!("../../migrations/0001_outbox.sql") },
    Migration { version: 2, name: "0002_inbox", sql: include_str!("../../migrations/0002_inbox.sql") },
    Migration { version: 3, name: "0003_keep_promises", sql: include_str!("../../migrations/0003_keep_promises.sql") },
    Migration { version: 4, name: "0004_feed", sql: include_str!("../../migrations/0004_feed.sql") },
    Migration { version: 5, name: "0005_streams", sql: include_str!("../../migrations/0005_streams.sql") },
    Migration { version: 6, name: "0006_contract_use", sql: include_str!("../../migrations/0006_contract_use.sql") },
    Migration { version: 7, name: "0007_operations", sql: include_str!("../../migrations/0007_operations.sql") },
    Migration { version: 8, name: "0008_projections", sql: include_str!("../../migrations/0008_projections.sql") },
    Migration { version: 9, name: "0009_subject_keys", sql: include_str!("../../migrations/0009_subject_keys.sql") },
    Migration { version: 10, name: "0010_client_cursors", sql: include_str!("../../migrations/0010_client_cursors.sql") },
];

/// Oldest Postgres that has what the relay needs.
const OLDEST_SERVER: i32 = 14;

/// The result of [`migrate`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// Names of the migrations applied by this run.
    pub applied: Vec<&'static str>,
    pub version: i32,
    /// Applied migrations whose text has changed since: a released migration was edited.
    pub edited: Vec<String>,
    /// The bound on payloads was changed to this.
    pub max_payload: Option<i32>,
}

/// Brings the schema up to date and sets the bound on payloads, in bytes; `None` leaves it. Running it again changes nothing. The pool
/// may have any search path: all of it happens on a connection that leaves the pool and is closed.
pub async fn migrate(pool: &PgPool, schema: &str, max_payload: Option<u64>) -> Result<Migrated, StoreError> {
    let mut connection = pool.acquire().await.map_err(StoreError::query("reach the database"))?.detach();
    let migrated = migrate_on(&mut connection, schema, max_payload).await;
    connection.close().await.ok();
    migrated
}

async fn migrate_on(connection: &mut PgConnection, schema: &str, max_payload: Option<u64>) -> Result<Migrated, StoreError> {
    check_server(connection).await?;
    // The pool may be one of the application, and the definitions that are stored depend on the settings of this session.
    let settings = SessionSettings::new(schema);
    settings.apply(connection).await.map_err(StoreError::query("set up the session"))?;
    create_schema(connection, schema).await?;
    let mut migrated = Migrated { applied: Vec::new(), version: 0, edited: Vec::new(), max_payload: None };
    for migration in MIGRATIONS {
        apply(connection, migration, &mut migrated).await?;
    }
    migrated.version = current_version(connection).await?.unwrap_or(0);
    if let Some(bytes) = max_payload {
        migrated.max_payload = set_max_payload(connection, i32::try_from(bytes).unwrap_or(i32::MAX)).await?;
    }
    Ok(migrated)
}

/// Everything `migrate` would run on an empty database, as SQL for another tool.
pub fn migration_script(schema: &str, max_payload: Option<u64>) -> String {
    let mut script = format!("create schema if not exists {};\nset search_path to {};\n\n", quoted(schema), search_path(schema));
    script.push_str(include_str!("sql/create_migrations.sql"));
    for migration in MIGRATIONS {
        let Migration { version, name, sql } = migration;
        script.push_str(&format!(
            "\nbegin;\n\n{sql}\ninsert into migrations (version, name, checksum) values ({version}, '{name}', '{}');\n\ncommit;\n",
            checksum(sql)
        ));
    }
    if let Some(bytes) = max_payload {
        script.push_str(&format!("\n{}", max_payload_function(i32::try_from(bytes).unwrap_or(i32::MAX))));
    }
    script
}

/// Fails unless the schema is exactly what this program knows and stands at the head of the search path of the pool, as
/// [`connect_relay`](super::connect_relay) puts it there; for `run` with migrating switched off.
pub async fn check_schema(pool: &PgPool, schema: &str) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await.map_err(StoreError::query("reach the database"))?;
    check_server(&mut connection).await?;
    if has_schema(&mut connection, schema).await? {
        check_search_path(&mut connection, schema).await?;
    }
    refusal(current_version(&mut connection).await?, schema).map_or(Ok(()), |text| Err(StoreError::Refused(text)))
}

/// Why this program cannot work with a version of the schema; `None` in: there is none, `None` out: it can.
pub(super) fn refusal(version: Option<i32>, schema: &str) -> Option<String> {
    match version {
        None => Some(format!("there is no outbox in schema \"{schema}\"; run \"outboxd migrate\"")),
        Some(version) if version < newest() => {
            Some(format!("the outbox schema is at version {version}, {} is needed; run \"outboxd migrate\"", newest()))
        }
        Some(version) if version > newest() => Some(too_new(version)),
        Some(_) => None,
    }
}

fn too_new(version: i32) -> String {
    format!("the outbox schema is at version {version}, this outboxd knows {}; upgrade outboxd", newest())
}

fn newest() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

async fn check_server(connection: &mut PgConnection) -> Result<(), StoreError> {
    let row = sqlx::query(include_str!("sql/read_server_version.sql"))
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("ask the server for its version"))?;
    let (major, is_standby): (i32, bool) = (row.get(0), row.get(1));
    let (database, encoding): (String, String) = (row.get(2), row.get(3));
    if major < OLDEST_SERVER {
        return Err(StoreError::Refused(format!("this is PostgreSQL {major}; outboxd needs {OLDEST_SERVER} or newer")));
    }
    if is_standby {
        return Err(StoreError::Refused("the server is a standby; outboxd needs the primary".to_owned()));
    }
    if let Some(refusal) = encoding_refusal(&database, &encoding) {
        return Err(StoreError::Refused(refusal));
    }
    Ok(())
}

/// Why outboxd cannot work in a database of this encoding; `None`: it can. In others a payload can hold characters that the database cannot
/// compare or convert, and SQL_ASCII has bytes that are no characters at all.
pub fn encoding_refusal(database: &str, encoding: &str) -> Option<String> {
    (encoding != "UTF8").then(|| {
        format!(
            "the database \"{database}\" has the encoding {encoding}; outboxd needs UTF8, because events, keys and answers may hold any \
             character. The encoding of a database cannot be changed: make another one with `createdb --encoding=UTF8 \
             --template=template0`, move the data there with pg_dump and pg_restore, and let database.url name it"
        )
    })
}

async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
    if !has_schema(connection, schema).await? {
        // Two relays that start together both come here; `if not exists` alone still races in the catalogue.
        let statement = format!("create schema if not exists {}", quoted(schema));
        run_locked(connection, &statement).await.map_err(StoreError::query("create the schema"))?;
    }
    check_search_path(connection, schema).await?;
    // Looked for first: even where there is nothing to create, `if not exists` asks for the right to create, which the role
    // of a daemon need not have.
    if has_migrations(connection).await? {
        return Ok(());
    }
    run_locked(connection, include_str!("sql/create_migrations.sql"))
        .await
        .map_err(StoreError::query("create the table of migrations"))
}

async fn has_schema(connection: &mut PgConnection, schema: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar(include_str!("sql/has_schema.sql"))
        .bind(schema)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("look for the schema"))
}

/// Every statement is unqualified: with another schema at the head of the path, the outbox would be made or looked for there.
/// The server leaves a schema out of the path that the role may not use.
async fn check_search_path(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
    let row = sqlx::query(include_str!("sql/read_search_path.sql"))
        .bind(schema)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("read the search path"))?;
    let (current, path, may_use): (Option<String>, String, bool) = (row.get(0), row.get(1), row.get(2));
    if current.as_deref() == Some(schema) {
        return Ok(());
    }
    Err(StoreError::Refused(match may_use {
        true => format!(
            "schema \"{schema}\" does not stand at the head of the search_path, which is {path}; give the connections search_path = {}",
            search_path(schema)
        ),
        false => format!(
            "this role may not use schema \"{schema}\"; let its owner run: grant usage on schema {} to the role",
            quoted(schema)
        ),
    }))
}

async fn run_locked(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(include_str!("sql/lock_migrations.sql")).execute(&mut *transaction).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await?;
    transaction.commit().await
}

async fn apply(connection: &mut PgConnection, migration: &Migration, migrated: &mut Migrated) -> Result<(), StoreError> {
    let error = || StoreError::query("apply a migration");
    let mut transaction = connection.begin().await.map_err(error())?;
    sqlx::query(include_str!("sql/lock_migrations.sql")).execute(&mut *transaction).await.map_err(error())?;
    // Read under the lock: another relay may just have applied it.
    current_version(&mut transaction).await?;
    let stored: Option<String> = sqlx::query_scalar(include_str!("sql/read_migration.sql"))
        .bind(migration.version)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error())?;
    match stored {
        Some(stored) if stored != checksum(migration.sql) => migrated.edited.push(migration.name.to_owned()),
        Some(_) => {}
        None => {
            sqlx::raw_sql(AssertSqlSafe(migration.sql.to_owned())).execute(&mut *transaction).await.map_err(error())?;
            sqlx::query(include_str!("sql/insert_migration.sql"))
                .bind(migration.version)
                .bind(migration.name)
                .bind(checksum(migration.sql))
                .execute(&mut *transaction)
                .await
                .map_err(error())?;
            migrated.applied.push(migration.name);
        }
    }
    transaction.commit().await.map_err(error())
}

/// The version in the database; `None`: there is no outbox. Refuses a newer one.
async fn current_version(connection: &mut PgConnection) -> Result<Option<i32>, StoreError> {
    if !has_migrations(connection).await? {
        return Ok(None);
    }
    let version: Option<i32> = sqlx::query_scalar(include_str!("sql/read_schema_version.sql"))
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("read the version of the outbox"))?;
    match version {
        Some(version) if version > newest() => Err(StoreError::Refused(too_new(version))),
        version => Ok(version),
    }
}

async fn has_migrations(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(include_str!("sql/has_migrations.sql"))
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("look for the outbox"))
}

async fn set_max_payload(connection: &mut PgConnection, bytes: i32) -> Result<Option<i32>, StoreError> {
    let error = || StoreError::query("set the bound on payloads");
    let current: i32 =
        sqlx::query_scalar(include_str!("sql/read_max_payload.sql")).fetch_one(&mut *connection).await.map_err(error())?;
    if current == bytes {
        return Ok(None);
    }
    run_locked(connection, &max_payload_function(bytes)).await.map_err(error())?;
    Ok(Some(bytes))
}

fn max_payload_function(bytes: i32) -> String {
    include_str!("sql/replace_max_payload.sql").replace("{bytes}", &bytes.to_string())
}

fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
