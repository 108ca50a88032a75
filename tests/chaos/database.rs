//! The server of a run and what the application has in it: counters, effects, and a trigger that writes down who moved which position.

use std::time::Duration;

use outboxd::launcher::Postgres;
use outboxd::store;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;

use crate::plan::RELAYS;
use crate::support::own_server;

/// The server. It is killed and started again in its place.
pub struct Database {
    server: Mutex<Option<Postgres>>,
    url: String,
    pub pool: PgPool,
}

impl Database {
    pub async fn start() -> Self {
        let server = own_server(&[("max_connections", "150"), ("autovacuum_naptime", "5s")]).await;
        let url = server.url("postgres");
        let options: PgConnectOptions = url.parse().expect("the launcher gives a valid address");
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.application_name("chaos").options([("search_path", "outbox,pg_catalog,public")]));
        store::migrate(&pool, "outbox", None).await.expect("the migrations apply");
        let database = Self { server: Mutex::new(Some(server)), url, pool };
        database.execute(APPLICATION).await;
        database.execute(WITNESS).await;
        for place in 0..RELAYS {
            // A role per place, so that a row says which relay has written it.
            database.execute(&format!("create role relay_{place} superuser login password 'relay'")).await;
        }
        database
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address for the relay in a place.
    pub fn relay_url(&self, place: usize) -> String {
        let mut url: url::Url = self.url.parse().expect("the launcher gives a valid address");
        url.set_username(&format!("relay_{place}")).and_then(|()| url.set_password(Some("relay"))).expect("it has a host");
        url.into()
    }

    /// A connection of the application.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.url).await
    }

    /// Kills the server without a warning and starts it again.
    pub async fn crash(&self) {
        let mut place = self.server.lock().await;
        let mut server = place.take().expect("the server is there");
        let starting = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again().expect("the server recovers");
            server
        });
        *place = Some(starting.await.expect("the launcher does not panic"));
    }

    /// Runs statements that must succeed, now or when the server is back.
    pub async fn execute(&self, sql: &str) {
        let mut failures = 0;
        while let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await {
            failures += 1;
            assert!(failures < 200 && !is_mistake(&error), "{sql}: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Rows that must come, now or when the server is back.
    pub async fn rows<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        let mut failures = 0;
        loop {
            match sqlx::query_as(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await {
                Ok(rows) => return rows,
                Err(error) => {
                    failures += 1;
                    assert!(failures < 200 && !is_mistake(&error), "{sql}: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    pub async fn count(&self, what: &str) -> u64 {
        let rows: Vec<(i64,)> = self.rows(&format!("select count(*) from {what}")).await;
        u64::try_from(rows[0].0).expect("a count")
    }
}

/// The statement is wrong, and no waiting mends it.
fn is_mistake(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    code.is_some_and(|code| code.starts_with("42") || code.starts_with("22"))
}

/// The counters, what the function does with events, and which of those it refuses.
const APPLICATION: &str = "
    create schema chaos;
    create table chaos.keys (key integer primary key, version bigint not null default 0) with (fillfactor = 30);
    insert into chaos.keys (key) select generate_series(1, 400);
    create table chaos.others (writer integer primary key, touched bigint not null default 0) with (fillfactor = 30);
    insert into chaos.others (writer) select generate_series(1, 32);
    create table chaos.mended (below bigint not null);
    insert into chaos.mended values (0);
    create table chaos.effects (serial bigint generated always as identity, event uuid, relay text default session_user,
                                payload text, at timestamptz default clock_timestamp());
    create function chaos.apply(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
    begin
        if (payload ->> 'poison')::boolean and (payload ->> 'n')::bigint >= (select below from chaos.mended) then
            raise exception 'poison' using errcode = 'OX001';
        elsif random() < 0.0002 then
            raise exception 'failed at random';
        elsif random() < 0.0001 then
            -- As a crash in an extension or a lack of memory does: the call ends its own session.
            perform pg_terminate_backend(pg_backend_pid());
            perform pg_sleep(1);
        elsif hashtextextended(id::text, 0) % 2000 = 0
              and exists (select from outbox.events e where e.id = apply.id and clock_timestamp() < e.occurred_at + interval '400 ms') then
            raise exception 'not yet';
        end if;
        if not outbox.once('project', 'chaos', id::text) then
            raise exception 'handled before' using errcode = 'OX001';
        end if;
        insert into chaos.effects (event, payload) values (id, payload ->> 'n');
    end $$;";

/// Writes down every change of a position, an owner or an epoch, and whose session made it; renewals alone are left out.
const WITNESS: &str = "
    create table chaos.moves (
        serial bigint generated always as identity, at timestamptz default clock_timestamp(), role text default session_user,
        subscription integer, epoch_before bigint, epoch bigint, owner_before text, owner text, lease_before timestamptz,
        read_before bigint, read_to bigint, is_position boolean, same_window boolean, window_before bigint, window_seq bigint);
    create function chaos.witness() returns trigger language plpgsql as $$
    begin
        insert into chaos.moves (subscription, epoch_before, epoch, owner_before, owner, lease_before, read_before, read_to,
                                 is_position, same_window, window_before, window_seq)
        values (new.id, old.epoch, new.epoch, old.owner, new.owner, old.lease_until,
                pg_snapshot_xmax(old.snapshot)::text::bigint, pg_snapshot_xmax(new.snapshot)::text::bigint,
                (old.snapshot::text, old.window_snapshot::text, old.window_seq)
                    is distinct from (new.snapshot::text, new.window_snapshot::text, new.window_seq),
                old.snapshot::text = new.snapshot::text
                    and coalesce(old.window_snapshot::text = new.window_snapshot::text, false),
                old.window_seq, new.window_seq);
        return null;
    end $$;
    create trigger witness after update on outbox.subscriptions for each row
        when (old.epoch <> new.epoch or old.owner is distinct from new.owner or old.snapshot::text <> new.snapshot::text
              or old.window_snapshot::text is distinct from new.window_snapshot::text
              or old.window_seq is distinct from new.window_seq)
        execute function chaos.witness();";
