//! Reading the facts, one statement after the other; a statement that fails does not stop the next ones. Every statement is sent
//! as plain text, without parameters: behind a transaction pooler nothing else is safe.

use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::{PgListener, PgRow};
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::{
    ClockReading, Facts, InboxAge, KnownHandler, MissingGrant, Object, OpenTransaction, PreparedTransaction, SequenceSettings,
    ServerSettings, SilentRelay, TableHealth, UnmatchedPattern, Unread, UnwantedType,
};
use crate::domain::Adoption;
use crate::store::adoption::inspect_adoptions;
use crate::store::contract_use::decode_use;
use crate::store::feed::decode_listed;
use crate::store::instances::identity;
use crate::store::rebase::LowSequence;
use crate::store::{StoreError, blind_spots, migrate, session};

/// How long a notification may take. A healthy one takes milliseconds; a lost one is not waited for longer than this.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(3);

/// Reads all of it.
pub async fn read_facts(pool: &PgPool, schema: &str) -> Facts {
    let reader = Reader { pool, schema };
    let mut facts = Facts { schema: schema.to_owned(), ..Facts::default() };
    let mut unread = Vec::new();
    facts.server = keep(&mut unread, "server", reader.one(include_str!("../sql/read_server_settings.sql"), server).await);
    facts.clock = keep(&mut unread, "clock", reader.clock().await);
    facts.is_listen_heard = keep(&mut unread, "wake_up", is_listen_heard(pool).await);
    facts.transactions =
        keep(&mut unread, "transactions", reader.all(include_str!("../sql/read_open_transactions.sql"), transaction).await);
    facts.prepared = keep(&mut unread, "prepared", reader.all(include_str!("../sql/read_prepared.sql"), prepared).await);
    if facts.server.as_ref().is_some_and(|server| server.has_outbox) {
        read_outbox(&reader, &mut facts, &mut unread).await;
    }
    facts.unread = unread;
    facts
}

async fn read_outbox(reader: &Reader<'_>, facts: &mut Facts, unread: &mut Vec<Unread>) {
    facts.schema_refusal = keep(unread, "schema", reader.schema_refusal().await);
    facts.identity = keep(unread, "identity", reader.one(include_str!("../sql/read_incarnation.sql"), identity).await);
    facts.catalogue = keep(unread, "catalogue", reader.all(include_str!("../sql/read_catalogue.sql"), object).await);
    facts.sequence = keep(unread, "sequence", reader.one(include_str!("../sql/read_sequence_settings.sql"), sequence).await);
    facts.low_sequences = keep(unread, "sequence", reader.all(include_str!("../sql/find_low_sequences.sql"), low_sequence).await);
    facts.is_bell_right = keep(unread, "bell", reader.one(include_str!("../sql/check_bell.sql"), |row| row.try_get(0)).await);
    let blind_spot = |row: &PgRow| blind_spots::decode(row, reader.schema);
    facts.blind_spots = keep(unread, "blind_spots", reader.all(include_str!("../sql/find_blind_spots.sql"), blind_spot).await);
    facts.tables = keep(unread, "tables", reader.all(include_str!("../sql/read_table_health.sql"), table).await);
    facts.missing_grants = keep(unread, "grants", reader.all(include_str!("../sql/find_missing_grants.sql"), grant).await);
    facts.inbox = keep(unread, "inbox", reader.one(include_str!("../sql/read_inbox.sql"), inbox).await);
    facts.contract_use = keep(unread, "contracts", reader.all(include_str!("../sql/list_contract_use.sql"), decode_use).await);
    facts.cursors = keep(unread, "feed", reader.all(include_str!("../sql/list_client_cursors.sql"), decode_listed).await);
    facts.relays = keep(unread, "relays", reader.all(include_str!("../sql/read_silent_relays.sql"), relay).await);
    facts.handlers = keep(unread, "handlers", reader.all(include_str!("../sql/read_handler_partitions.sql"), handler).await);
    facts.unmatched = keep(unread, "event_types", reader.all(include_str!("../sql/find_unmatched_patterns.sql"), unmatched).await);
    facts.unwanted = keep(unread, "event_types", reader.all(include_str!("../sql/find_unwanted_types.sql"), unwanted).await);
}

/// The triggers on adopted tables, compared with the configuration.
pub async fn read_adoptions(facts: &mut Facts, pool: &PgPool, adoptions: &[Adoption]) {
    if facts.server.as_ref().is_some_and(|server| server.has_outbox) {
        let inspected = inspect_adoptions(pool, &facts.schema, adoptions).await;
        facts.adoptions = keep(&mut facts.unread, "adoption", inspected);
    }
}

fn keep<T>(unread: &mut Vec<Unread>, check: &'static str, read: Result<T, StoreError>) -> Option<T> {
    let reason = match read {
        Ok(value) => return Some(value),
        Err(StoreError::Query { cause, .. }) => cause.to_string(),
        Err(error) => error.to_string(),
    };
    unread.push(Unread { check, reason });
    None
}

struct Reader<'a> {
    pool: &'a PgPool,
    schema: &'a str,
}

impl Reader<'_> {
    async fn all<T>(&self, sql: &str, decode: impl Fn(&PgRow) -> Result<T, sqlx::Error>) -> Result<Vec<T>, StoreError> {
        // The settings that the connection requested may have been dropped on the way. One message is one transaction, wherever it ends up.
        let message = format!(
            "set local search_path = {}; set local quote_all_identifiers = off; set local row_security = off;\n{sql}",
            session::search_path(self.schema)
        );
        let error = || StoreError::query("read a fact");
        let rows = sqlx::raw_sql(AssertSqlSafe(message)).fetch_all(self.pool).await.map_err(error())?;
        rows.iter().map(decode).collect::<Result<_, _>>().map_err(error())
    }

    async fn one<T>(&self, sql: &str, decode: impl Fn(&PgRow) -> Result<T, sqlx::Error>) -> Result<T, StoreError> {
        let none = || StoreError::query("read a fact")(sqlx::Error::RowNotFound);
        self.all(sql, decode).await?.pop().ok_or_else(none)
    }

    async fn clock(&self) -> Result<ClockReading, StoreError> {
        // Once before, so that opening a connection is not counted.
        self.one(include_str!("../sql/read_clock.sql"), |row| row.try_get::<i64, _>(0)).await?;
        let (asked, began) = (SystemTime::now(), Instant::now());
        let theirs: i64 = self.one(include_str!("../sql/read_clock.sql"), |row| row.try_get(0)).await?;
        let uncertain = began.elapsed() / 2;
        let ours = asked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + uncertain;
        Ok(ClockReading { ahead_micros: theirs - i64::try_from(ours.as_micros()).unwrap_or(i64::MAX), uncertain })
    }

    async fn schema_refusal(&self) -> Result<Option<String>, StoreError> {
        let has_migrations = self.one(include_str!("../sql/has_migrations.sql"), |row| row.try_get::<bool, _>(0)).await?;
        let version = match has_migrations {
            true => self.one(include_str!("../sql/read_schema_version.sql"), |row| row.try_get::<Option<i32>, _>(0)).await?,
            false => None,
        };
        Ok(migrate::refusal(version, self.schema))
    }
}

/// The truth about wake-ups is one that arrives. Whether the session is listed as listening is not: a pooler with one client at a
/// time gives it the same server process again, and loses the notification all the same.
async fn is_listen_heard(pool: &PgPool) -> Result<bool, StoreError> {
    let error = || StoreError::query("try a wake-up");
    let channel = format!("outboxd_doctor_{}", uuid::Uuid::new_v4().simple());
    let mut listener = PgListener::connect_with(pool).await.map_err(error())?;
    listener.listen(&channel).await.map_err(error())?;
    match sqlx::raw_sql(AssertSqlSafe(format!("notify {channel}"))).execute(pool).await {
        // It came back to the session that sent it: a pooler has given the listener's server process to another client.
        Err(sqlx::Error::Protocol(_)) => return Ok(false),
        notified => notified.map_err(error())?,
    };
    match tokio::time::timeout(NOTIFIED_WITHIN, listener.try_recv()).await {
        Ok(received) => Ok(received.map_err(error())?.is_some()),
        Err(_) => Ok(false),
    }
}

fn inbox(row: &PgRow) -> Result<InboxAge, sqlx::Error> {
    let oldest: f64 = row.try_get("oldest_seconds")?;
    Ok(InboxAge { is_used: row.try_get("is_used")?, oldest_event: Duration::from_secs_f64(oldest.max(0.0)) })
}

fn server(row: &PgRow) -> Result<ServerSettings, sqlx::Error> {
    Ok(ServerSettings {
        major: row.try_get("major")?,
        role: row.try_get("role")?,
        encoding: row.try_get("encoding")?,
        database: row.try_get("database")?,
        current_schema: row.try_get("current_schema")?,
        has_schema: row.try_get("has_schema")?,
        is_standby: row.try_get("is_standby")?,
        fsync: row.try_get("fsync")?,
        full_page_writes: row.try_get("full_page_writes")?,
        synchronous_commit: row.try_get("synchronous_commit")?,
        autovacuum: row.try_get("autovacuum")?,
        track_counts: row.try_get("track_counts")?,
        queue_usage: row.try_get("queue_usage")?,
        sees_all_sessions: row.try_get("sees_all_sessions")?,
        has_outbox: row.try_get("has_outbox")?,
    })
}

fn object(row: &PgRow) -> Result<Object, sqlx::Error> {
    Ok(Object {
        kind: row.try_get("kind")?,
        relation: row.try_get("relation")?,
        name: row.try_get("name")?,
        definition: row.try_get::<Option<String>, _>("definition")?.unwrap_or_default(),
        is_not_null: row.try_get("is_not_null")?,
        filling: row.try_get("filling")?,
        is_sound: row.try_get("is_sound")?,
        place: row.try_get("place")?,
    })
}

fn sequence(row: &PgRow) -> Result<SequenceSettings, sqlx::Error> {
    Ok(SequenceSettings { cache: row.try_get(0)?, increment: row.try_get(1)?, cycles: row.try_get(2)? })
}

fn low_sequence(row: &PgRow) -> Result<LowSequence, sqlx::Error> {
    Ok(LowSequence { name: row.try_get(0)?, last: row.try_get(1)?, needed: row.try_get(2)? })
}

fn transaction(row: &PgRow) -> Result<OpenTransaction, sqlx::Error> {
    Ok(OpenTransaction {
        pid: row.try_get("pid")?,
        application: row.try_get("application")?,
        role: row.try_get("role")?,
        database: row.try_get("database")?,
        state: row.try_get("state")?,
        has_number: row.try_get("has_number")?,
        age: micros(row.try_get("age_micros")?),
    })
}

fn prepared(row: &PgRow) -> Result<PreparedTransaction, sqlx::Error> {
    let age = micros(row.try_get("age_micros")?);
    Ok(PreparedTransaction { gid: row.try_get("gid")?, role: row.try_get("role")?, database: row.try_get("database")?, age })
}

fn table(row: &PgRow) -> Result<TableHealth, sqlx::Error> {
    Ok(TableHealth {
        name: row.try_get("name")?,
        live: row.try_get("live")?,
        dead: row.try_get("dead")?,
        bytes: row.try_get("bytes")?,
        needed_bytes: row.try_get("needed_bytes")?,
        is_autovacuum_off: row.try_get("is_switched_off")?,
        is_analyzed: row.try_get("is_analyzed")?,
        changed: row.try_get("changed")?,
    })
}

fn grant(row: &PgRow) -> Result<MissingGrant, sqlx::Error> {
    Ok(MissingGrant { kind: row.try_get("kind")?, name: row.try_get("name")?, privileges: row.try_get("privileges")? })
}

fn relay(row: &PgRow) -> Result<SilentRelay, sqlx::Error> {
    let silent = micros(row.try_get("silent_micros")?);
    Ok(SilentRelay {
        id: row.try_get("id")?,
        host: row.try_get("host")?,
        pid: row.try_get("pid")?,
        silent,
        owns: row.try_get("owns")?,
    })
}

fn handler(row: &PgRow) -> Result<KnownHandler, sqlx::Error> {
    Ok(KnownHandler { name: row.try_get(0)?, partitions: row.try_get(1)? })
}

fn unmatched(row: &PgRow) -> Result<UnmatchedPattern, sqlx::Error> {
    let recorded: Option<Vec<String>> = row.try_get("recorded")?;
    Ok(UnmatchedPattern {
        handler: row.try_get("handler")?,
        pattern: row.try_get("pattern")?,
        recorded: recorded.unwrap_or_default(),
    })
}

fn unwanted(row: &PgRow) -> Result<UnwantedType, sqlx::Error> {
    Ok(UnwantedType { event_type: row.try_get("type")?, events: row.try_get("events")? })
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0).unsigned_abs())
}
