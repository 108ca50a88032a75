//! The settings of a session: the one list of everything that could change the meaning or the answer of our statements, and the
//! one way to apply it.
//!
//! A server, a database, a role and a pooler can each preset a session. The settings are part of the start of a session where
//! nothing on the way drops them. They are set once more after it, because older servers do not know some of them.
//!
//! A function of the application can change any setting. So behind each call of the kind `sql`, inside the savepoint of the call,
//! follow `reset role; reset all` and the list (`store::functions`).
//!
//! `row_security = off` turns a row that a policy would hide into an error. Other conditions that can hide rows are checked in each lease
//! round (`store::blind_spots`) and reported by readiness; no read pays for it.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};

/// The settings of every session. A setting that the administrator may tune without changing an answer (memory, costs,
/// `synchronous_commit`) is not in the list.
#[rustfmt::skip]
const FIXED: &[(&str, &str)] = &[
    // A row that the session may not see must be an error: with `on` the server leaves it out, and the event is lost without a word.
    ("row_security", "off"),
    ("default_transaction_read_only", "off"),
    // With a stricter level, a statement of a flush would see what was there at the first one, and fail where another has written.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // Shorter than a lease: what a relay locked that was frozen or cut off in mid-flush must not hold up the relay that takes over.
    ("idle_in_transaction_session_timeout", "10000"),
    // The listening session and the pool are idle on purpose.
    ("idle_session_timeout", "0"),
    // Formats that the driver sends and reads as text.
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("xmloption", "content"),
    ("xmlbinary", "base64"),
    // The meaning of the text of a statement. The doctor compares definitions as the server prints them, which depends on the quoting.
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    // The objects that migrations make.
    ("check_function_bodies", "on"),
    ("default_table_access_method", "heap"),
    // Both are for long statements. Ours are short and many, and estimated as long: a poll would compile and fork for ever.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    // Hot statements have a test on their plan, which holds for these only.
    ("plan_cache_mode", "auto"),
    ("from_collapse_limit", "8"),
    ("join_collapse_limit", "8"),
    ("enable_bitmapscan", "on"),
    ("enable_hashagg", "on"),
    ("enable_hashjoin", "on"),
    ("enable_incremental_sort", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_indexscan", "on"),
    ("enable_material", "on"),
    ("enable_memoize", "on"),
    ("enable_mergejoin", "on"),
    ("enable_nestloop", "on"),
    ("enable_seqscan", "on"),
    ("enable_sort", "on"),
    ("enable_tidscan", "on"),
    // A half-open connection is noticed.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// Settings that older servers do not know or that not every role may change, so they cannot be part of the start of a session.
const FIXED_WHERE_POSSIBLE: &[(&str, &str)] = &[
    // Since 17. A rebase and a copy of an adopted table take as long as they take.
    ("transaction_timeout", "0"),
    // With `replica`, triggers do not fire: those of tables that a function writes to, and ours. Only a superuser can change it.
    ("session_replication_role", "origin"),
];

/// The settings of one kind of session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    schema: String,
    settings: Vec<(&'static str, String)>,
}

impl SessionSettings {
    /// The list, and where unqualified names are looked for.
    pub fn new(schema: &str) -> Self {
        let fixed = FIXED.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let settings = [("search_path", search_path(schema))].into_iter().chain(fixed).collect();
        Self { schema: schema.to_owned(), settings }
    }

    /// Schema of the outbox.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Everything that is set.
    pub fn names(&self) -> Vec<&'static str> {
        self.all().map(|(name, _)| name).collect()
    }

    /// With one more setting of the caller.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.settings.push((name, value));
        self
    }

    /// With another value for one of the list.
    pub(super) fn but(mut self, name: &'static str, value: &str) -> Self {
        let setting = self.settings.iter_mut().find(|(known, _)| *known == name).expect("it is in the list");
        value.clone_into(&mut setting.1);
        self
    }

    /// As part of the start of the session, which makes them what the session returns to when something resets it.
    pub(super) fn add_to(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.options(self.settings.iter().map(|(name, value)| (*name, value.as_str())))
    }

    /// Sets them in an open session. Settings that the server does not know or this role may not change stay as they are.
    pub(super) async fn apply(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (names, values): (Vec<&str>, Vec<&str>) = self.all().unzip();
        let prepare = sqlx::query(include_str!("sql/prepare_session.sql")).bind(names).bind(values);
        prepare.fetch_one(connection).await.map(drop)
    }

    /// Takes back whatever code that is not ours has set, in the list or not, for the rest of the transaction and of the session.
    pub(super) fn restore(&self) -> String {
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let (names, values): (Vec<String>, Vec<String>) = self.all().map(|(name, value)| (literal(name), literal(value))).unzip();
        let prepare: Vec<&str> = include_str!("sql/prepare_session.sql").lines().filter(|line| !line.starts_with("--")).collect();
        let array = |list: &[String]| format!("array[{}]", list.join(", "));
        let prepare = prepare.join("\n").replace("$1", &array(&names)).replace("$2", &array(&values));
        format!("reset role; reset all; {prepare}")
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).chain(FIXED_WHERE_POSSIBLE.iter().copied())
    }
}

/// Where unqualified names are looked for: ours first. Temporary tables, which would otherwise come before everything, last.
pub(super) fn search_path(schema: &str) -> String {
    format!("\"{}\", pg_catalog, public, pg_temp", schema.replace('"', "\"\""))
}

/// Runs statements without parameters, in one message.
pub(super) async fn execute(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_stands_in_the_list_once_and_the_outbox_at_the_head_of_the_path() {
        let settings = SessionSettings::new("we \"quote\"").with("statement_timeout", "0".to_owned());
        let mut names: Vec<&str> = settings.all().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(settings.settings[0].1, "\"we \"\"quote\"\"\", pg_catalog, public, pg_temp");
    }

    #[test]
    fn the_text_that_restores_a_session_needs_no_parameters_and_no_escapes() {
        let text = SessionSettings::new("out'box").with("application_name", "it's us".to_owned()).restore();
        assert!(text.contains("'it''s us'") && !text.contains(['$', '\\']), "{text}");
    }
}
