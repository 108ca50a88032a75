//! The doctor: what is wrong, why it matters, and the exact statement or command that fixes it. A pure judgement of the facts
//! that the store has read. Executes nothing; every fix is printed for an operator to paste.

mod adoption;
mod catalogue;
mod contracts;
mod erasure;
mod feed;
mod handlers;
mod outbox;
mod server;
mod transactions;

use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::domain::Level;
use crate::settings::describe_duration;
use crate::store::facts::{Facts, Unread};

pub use catalogue::{Expected, expected};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// The check; from a closed set, for scripts.
    pub check: &'static str,
    pub level: Level,
    pub what: String,
    pub why: String,
    /// The fixes; each of them is enough, and the first is the usual one.
    pub fixes: Vec<Fix>,
}

/// The text to paste, and the place for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "where", content = "text", rename_all = "snake_case")]
pub enum Fix {
    /// Into psql, as the owner of the schema or an administrator.
    Sql(String),
    Shell(String),
    /// Into the configuration.
    Config(String),
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Report {
    pub level: Level,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// The check that was skipped, and the reason.
    pub left_out: Vec<Unread>,
}

/// The standards for the facts.
pub struct Standards<'a> {
    /// `None`: only an address was given.
    pub config: Option<&'a Config>,
    /// Handlers that run inside the transaction of the relay.
    pub functions: &'a [String],
    /// An open transaction that is older is told.
    pub older_than: Duration,
    /// The way to the server, if it is not encrypted.
    pub unencrypted: Option<&'a str>,
    /// Settings that work and should be known all the same: path and words.
    pub cautions: &'a [(String, String)],
}

/// Judges what was read.
pub fn judge(facts: &Facts, standards: &Standards<'_>) -> Report {
    let mut findings = Vec::new();
    server::judge(facts, standards, &mut findings);
    server::judge_encryption(standards, &mut findings);
    transactions::judge(facts, standards, &mut findings);
    outbox::judge(facts, &mut findings);
    catalogue::judge(facts, &mut findings);
    handlers::judge(facts, standards, &mut findings);
    adoption::judge(facts, &mut findings);
    contracts::judge(facts, standards, &mut findings);
    erasure::judge(facts, &mut findings);
    feed::judge(facts, standards, &mut findings);
    let mut left_out = Vec::new();
    // What could not be looked at may be what is wrong. Where something worse was found, such as a right or a table that is missing, that is why,
    // and it has the fix.
    if findings.iter().any(|finding| finding.level == Level::Critical) {
        left_out.extend(facts.unread.iter().cloned());
    } else {
        findings.extend(facts.unread.iter().map(not_looked_at));
    }
    if standards.config.is_none() {
        let reason = "no configuration was read: lease, timeouts, retention, retries, the list of handlers and adopted tables were not looked at";
        left_out.push(Unread { check: "configuration", reason: reason.to_owned() });
    }
    if facts.server.as_ref().is_some_and(|server| !server.has_outbox) {
        left_out.push(Unread { check: "outbox", reason: "nothing of the outbox can be looked at before it is there".to_owned() });
    }
    if let Some(server) = facts.server.as_ref().filter(|server| !server.sees_all_sessions) {
        let grant = format!("grant pg_read_all_stats to {};", server.role);
        let reason = format!("this role sees no transaction of another role; as an administrator: {grant}");
        left_out.push(Unread { check: "transactions", reason });
    }
    Report::of(findings, left_out)
}

fn not_looked_at(unread: &Unread) -> Finding {
    let what = format!("{} could not be checked: {}", unread.check, unread.reason);
    Finding::warning("unread", what, "faults there are missing in these findings")
}

impl Report {
    /// The database could not be looked at.
    pub fn unreachable(why: String) -> Self {
        let why_it_matters = "without the database nothing is delivered, and nothing else can be looked at";
        Self::of(vec![Finding::critical("database", why, why_it_matters).shell("outboxd check --connect")], Vec::new())
    }

    /// A pooler is in the way that a relay refuses; nothing else was looked at, because a session that is shared is not to be leant on.
    pub fn shared_sessions(why: String) -> Self {
        let what = "the connection goes through a pooler that shares sessions between transactions";
        let finding = Finding::critical("pooler", what, why)
            .config("[database]\nurl = \"postgres://<the server itself, not the pooler>:5432/<database>\"")
            .config("; pgbouncer.ini: an entry of its own\n[databases]\n<name> = host=<server> dbname=<database> pool_mode=session pool_size=20");
        Self::of(vec![finding], Vec::new())
    }

    /// With one more finding, if there is one.
    #[must_use]
    pub fn and(self, more: Option<Finding>) -> Self {
        Self::of(self.findings.into_iter().chain(more).collect(), self.left_out)
    }

    fn of(mut findings: Vec<Finding>, left_out: Vec<Unread>) -> Self {
        // Stable: within a level the order of the checks stays.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let level = findings.first().map_or(Level::Ok, |worst| worst.level);
        Self { level, findings, left_out }
    }
}

impl Finding {
    /// The configuration file cannot be used; what was found beside it comes from the database alone.
    pub fn broken_configuration(why: &str) -> Self {
        let matters = "a relay does not start with this file, and a reload keeps the old one";
        Self::critical("configuration", why, matters).shell("outboxd check")
    }

    fn warning(check: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, what: what.into(), why: why.into(), fixes: Vec::new() }
    }

    fn critical(check: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { level: Level::Critical, ..Self::warning(check, what, why) }
    }

    fn sql(mut self, text: impl Into<String>) -> Self {
        self.fixes.push(Fix::Sql(text.into()));
        self
    }

    fn shell(mut self, text: impl Into<String>) -> Self {
        self.fixes.push(Fix::Shell(text.into()));
        self
    }

    fn config(mut self, text: impl Into<String>) -> Self {
        self.fixes.push(Fix::Config(text.into()));
        self
    }
}

/// A text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL writes it: as it is, where that is enough.
fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whole seconds above ten; operators need no more.
fn describe_age(age: Duration) -> String {
    describe_duration(if age.as_secs() >= 10 {
        Duration::from_secs(age.as_secs())
    } else {
        Duration::from_millis(age.as_millis() as u64)
    })
}

#[cfg(test)]
mod tests;
