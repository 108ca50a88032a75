//! Sessions are ours, whatever the server, the role, the database or a function has set: every setting of the list is set wrongly in
//! every place, and each kind of handler and each command works as ever, directly and through a real PgBouncer in session mode.

use outboxd::store::SessionSettings;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::brokers::redis::server::{a_stream, shared};
use crate::pooler::{PgBouncer, pgbouncer};
use crate::support::{Binary, Receiver, TestDatabase, eventually};

/// Each setting of the list with a value that would break something, or change what is read or printed.
const HOSTILE: &[(&str, &str)] = &[
    ("search_path", "\"$user\", hostile"),
    ("row_security", "on"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("idle_in_transaction_session_timeout", "100ms"),
    ("idle_session_timeout", "500ms"),
    ("statement_timeout", "2s"),
    ("lock_timeout", "1ms"),
    ("client_encoding", "LATIN1"),
    ("datestyle", "SQL, DMY"),
    ("intervalstyle", "sql_standard"),
    ("timezone", "Asia/Kathmandu"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("xmloption", "document"),
    ("xmlbinary", "hex"),
    ("standard_conforming_strings", "off"),
    ("quote_all_identifiers", "on"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("check_function_bodies", "off"),
    ("default_table_access_method", "other_heap"),
    ("jit", "on"),
    ("max_parallel_workers_per_gather", "8"),
    ("plan_cache_mode", "force_custom_plan"),
    ("from_collapse_limit", "1"),
    ("join_collapse_limit", "1"),
    ("enable_bitmapscan", "off"),
    ("enable_hashagg", "off"),
    ("enable_hashjoin", "off"),
    ("enable_incremental_sort", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_indexscan", "off"),
    ("enable_material", "off"),
    ("enable_memoize", "off"),
    ("enable_mergejoin", "off"),
    ("enable_nestloop", "off"),
    ("enable_seqscan", "off"),
    ("enable_sort", "off"),
    ("enable_tidscan", "off"),
    ("tcp_keepalives_idle", "7200"),
    ("tcp_keepalives_interval", "75"),
    ("tcp_keepalives_count", "9"),
    ("application_name", "somebody else"),
    // Not in the list, because an administrator may tune them; a function must not leave them behind all the same.
    ("synchronous_commit", "off"),
    ("work_mem", "64kB"),
];

/// Only a superuser can set it, for a role or a database; the roles of these tests are none.
const PRIVILEGED: (&str, &str) = ("session_replication_role", "replica");

/// A database with a role of its own, which owns the outbox and is no superuser.
struct Place {
    database: TestDatabase,
    role: String,
    url: String,
}

impl Place {
    async fn start() -> Self {
        let database = TestDatabase::empty().await;
        let mut url: url::Url = database.url().parse().expect("an address");
        let name = url.path().trim_start_matches('/').to_owned();
        let role = format!("role_of_{name}");
        database
            .execute(&format!(
                "create role {role} login password 'secret'; grant create on database {name} to {role};
                 create access method other_heap type table handler heap_tableam_handler;
                 create schema hostile; grant usage on schema hostile to {role};
                 create table hostile.events (seq bigint, tx xid8); create table hostile.deliveries (seq bigint);
                 create schema app authorization {role}; set role {role};
                 create table app.handled (id uuid, n bigint generated always as identity);
                 create table app.messages (id uuid primary key, type text, n double precision, at timestamptz, body bytea);
                 create function app.handle(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as
                     $$ begin {} insert into app.handled (id) values (id); end $$;
                 reset role",
                hostile_function()
            ))
            .await;
        url.set_username(&role).expect("an address with a host");
        url.set_password(Some("secret")).expect("an address with a host");
        Self { database, role, url: url.into() }
    }

    /// Presets every session of the role, or of the database.
    async fn preset(&self, level: &str) {
        let name = self.url.rsplit('/').next().expect("a database").to_owned();
        let target = match level {
            "role" => format!("role {}", self.role),
            "role in the database" => format!("role {} in database {name}", self.role),
            _ => format!("database {name}"),
        };
        let text = HOSTILE.iter().map(|(setting, value)| match *setting {
            "search_path" | "datestyle" => format!("alter {target} set {setting} = {value};"),
            _ => format!("alter {target} set {setting} = '{value}';"),
        });
        let text: String = text.collect();
        let privileged = format!("alter {target} set {} = {};", PRIVILEGED.0, PRIVILEGED.1);
        // In one message: the next one may get a session that is preset already.
        self.database.execute(&if level == "role" { text } else { text + &privileged }).await;
    }

    /// Records events as an application does whose own sessions are sound.
    async fn record(&self, count: usize) {
        let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
        // By itself: a message of several statements is one transaction, which has begun as the session was preset.
        let sound = "set default_transaction_read_only = off; set statement_timeout = 0; set lock_timeout = 0";
        sqlx::raw_sql(sound).execute(&mut connection).await.expect("anybody may set these");
        let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload)
                      values ('order.placed', 'order', 'ä\\x', '{\"n\":1.10, \"at\": \"\\u00e4\"}')";
        for _ in 0..count {
            sqlx::raw_sql(insert).execute(&mut connection).await.expect("the event is well formed");
        }
        connection.close().await.ok();
    }

    /// What a superuser reads, whatever the database is set to.
    async fn count(&self, what: &str) -> i64 {
        let mut connection = PgConnection::connect(self.database.url()).await.expect("a connection");
        sqlx::raw_sql("set statement_timeout = 0").execute(&mut connection).await.expect("anybody may set it");
        let sql = format!("select count(*) from {what}");
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect("the count is valid SQL");
        connection.close().await.ok();
        count
    }
}

/// What a function can do to the session that calls it.
fn hostile_function() -> String {
    let settings = HOSTILE.iter().map(|(setting, value)| format!("perform set_config('{setting}', '{value}', false);"));
    settings.collect::<String>()
        + "create temporary table if not exists deliveries (seq bigint); create temporary table if not exists events (seq bigint);
           create temporary table if not exists subscriptions (id integer);"
}

fn handlers(webhook: &str, redis: Option<(String, String)>) -> String {
    let redis = redis.map_or_else(String::new, |(url, stream)| {
        format!("[[handlers]]\nname = \"redis\"\nkind = \"redis\"\nurl = \"{url}\"\nstream = \"{stream}\"\n")
    });
    format!(
        "[[handlers]]\nname = \"function\"\nkind = \"sql\"\nfunction = \"app.handle\"\n\
         [[handlers]]\nname = \"nothing\"\nkind = \"discard\"\n\
         [[handlers]]\nname = \"few\"\nkind = \"discard\"\nrecord = \"failures\"\n\
         [[handlers]]\nname = \"program\"\nkind = \"exec\"\ncommand = [\"true\"]\n\
         [[handlers]]\nname = \"web\"\nkind = \"webhook\"\nurl = \"{webhook}\"\negress = \"any\"\n{redis}\
         [[adopt]]\ntable = \"app.messages\"\nshape = \"custom\"\nid = \"id\"\ntype = \"type\"\n\
         aggregate_id = \"at\"\npayload = \"body\"\nextra_headers = {{ n = \"n\" }}\n"
    )
}

#[test]
fn every_setting_of_the_list_is_set_wrongly() {
    let set: Vec<&str> = HOSTILE.iter().chain([&PRIVILEGED]).map(|(name, _)| *name).collect();
    // No server that the tests run on knows this one.
    let missing: Vec<&str> = SessionSettings::new("outbox")
        .names()
        .into_iter()
        .filter(|name| !set.contains(name) && *name != "transaction_timeout")
        .collect();
    assert!(missing.is_empty(), "{missing:?} is not set wrongly by any test");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_and_command_works_in_a_session_that_is_preset_to_the_worst() {
    for level in ["role", "role in the database", "database"] {
        works(level, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_and_command_works_behind_a_pooler_whose_sessions_are_preset_to_the_worst() {
    for level in ["role", "database"] {
        works(level, true).await;
    }
}

async fn works(level: &str, is_pooled: bool) {
    let place = Place::start().await;
    place.preset(level).await;
    let pooler = match is_pooled {
        true => {
            let Some(program) = pgbouncer().await else { return };
            Some(PgBouncer::start_to(&program, &place.url, "session", "").await)
        }
        false => None,
    };
    let url = pooler.as_ref().map_or(&place.url, |pooler| &pooler.url);
    let receiver = Receiver::start().await;
    let redis = shared().await.map(|server| (server.url(), a_stream()));
    let names = if redis.is_some() { 6 } else { 5 };
    let binary = Binary::relay(url, &handlers(&receiver.url(), redis));
    let ok = async |arguments: &[&str]| {
        let finished = binary.run(arguments).await;
        assert_eq!(finished.code, Some(0), "{level} {arguments:?}: {}{}", finished.stdout, finished.stderr);
        finished.stdout
    };
    ok(&["migrate"]).await;
    ok(&["adopt"]).await;
    place.record(3).await;
    let running = binary.spawn(&["run"]);
    let delivered = async |events: i64| {
        eventually(&format!("{events} events are delivered ({level}, {is_pooled}): {}", running.stderr()), || async {
            let done = place.count("outbox.event_states where state in ('delivered', 'passed')").await;
            (done == events * names && place.count("app.handled").await == events).then_some(())
        })
        .await;
    };
    delivered(3).await;
    // The sessions have run the function by now.
    place.record(2).await;
    delivered(5).await;
    place.record(2).await;
    delivered(7).await;
    receiver.wait_for(7).await;
    assert_eq!(place.count("outbox.attempts").await, 0, "{}", running.stderr());
    // What this role may not change is told.
    let status = binary.run(&["status"]).await;
    let is_told = status.stdout.contains("session_replication_role is replica in the sessions of outboxd");
    assert_eq!((status.code, is_told), if level == "role" { (Some(0), false) } else { (Some(2), true) }, "{level}: {status:?}");
    for arguments in [&["verify"][..], &["dead-letters", "list"], &["handlers", "list"]] {
        ok(arguments).await;
    }
    let checked = binary.run(&["check", "--connect"]).await;
    let is_told = checked.stdout.contains("session_replication_role is replica in the sessions of outboxd");
    assert_eq!((checked.code, is_told), if level == "role" { (Some(0), false) } else { (Some(75), true) }, "{level}: {checked:?}");
    let listed: Value = serde_json::from_str(&ok(&["events", "list", "--json"]).await).expect("JSON");
    assert_eq!(listed["events"].as_array().map(Vec::len), Some(7), "{listed:#}");
    let report = binary.run(&["doctor", "--json"]).await.stdout;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let false_ones = ["catalogue", "schema", "bell", "adoption", "sequence", "identity", "grants", "relays"];
    let wrong: Vec<&Value> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|finding| false_ones.iter().any(|check| finding["check"] == *check))
        .collect();
    assert!(wrong.is_empty(), "{level} {is_pooled}: {wrong:#?}");
    if level == "role" {
        adopted_rows_look_the_same_whoever_inserts_them(&place).await;
    }
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// The trigger runs in the session of the application.
async fn adopted_rows_look_the_same_whoever_inserts_them(place: &Place) {
    let mut connection = PgConnection::connect(&place.url).await.expect("a connection");
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut connection).await.expect("anybody may set it");
    // The driver asks for some of them when it connects.
    let insert = "set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set extra_float_digits = -15;
                  insert into app.messages values (gen_random_uuid(), 'a', 0.1::float8 + 0.2::float8, '2026-01-02 03:04:05+00', '\\\\x00ff')";
    sqlx::raw_sql(insert).execute(&mut connection).await.expect("the row is good");
    connection.close().await.ok();
    let same = "outbox.events where aggregate_id = '2026-01-02 03:04:05+00' and headers ->> 'n' = '0.30000000000000004'";
    assert_eq!(place.count(same).await, 1);
}
