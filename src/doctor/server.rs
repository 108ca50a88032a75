//! The server and the way to it: durability, autovacuum, clock, notification queue, pooler, standby.

use super::{Finding, Standards, describe_age, identifier};
use crate::config::WakeUp;
use crate::store::facts::{ClockReading, Facts, ServerSettings};

/// Below this a difference of clocks may be the network's.
const SKEW_TOLD: i64 = 2_000_000;
/// From here on receivers refuse signatures: what Standard Webhooks allows.
const SKEW_CRITICAL: i64 = 300_000_000;
/// Shares of the notification queue. It is 8 GB; healthy ones are empty.
const QUEUE_TOLD: f64 = 0.01;
const QUEUE_CRITICAL: f64 = 0.25;

pub(super) fn judge(facts: &Facts, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    if let Some(server) = &facts.server {
        judge_standby(server, findings);
        judge_encoding(server, findings);
        judge_durability(server, findings);
        judge_autovacuum(server, findings);
        judge_queue(server, findings);
    }
    if let Some(clock) = &facts.clock {
        judge_clock(clock, findings);
    }
    judge_way(facts, standards, findings);
}

pub(super) fn judge_encryption(standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    let why = "an attacker on the network between the machines can read and change it, including passwords and payloads";
    if let Some(what) = standards.unencrypted {
        let url =
            "[database]\nurl = \"postgres://<user>:<password>@<host>:5432/<database>?sslmode=verify-full&sslrootcert=<ca.pem>\"";
        findings.push(Finding::warning("encryption", what, why).config(url));
    }
    for (setting, caution) in standards.cautions {
        findings.push(Finding::warning("encryption", format!("{setting} {caution}"), why));
    }
}

fn judge_standby(server: &ServerSettings, findings: &mut Vec<Finding>) {
    if server.is_standby {
        let why =
            "a standby's snapshots do not name the transactions in progress, so their events would be lost; a relay refuses it";
        findings.push(
            Finding::critical("standby", "the server is a standby", why)
                .config("[database]\nurl = \"postgres://<the primary>:5432/<database>?target_session_attrs=read-write\"")
                .sql("select pg_promote();"),
        );
    }
}

fn judge_encoding(server: &ServerSettings, findings: &mut Vec<Finding>) {
    if server.encoding != "UTF8" {
        let database = &server.database;
        let what = format!("the database \"{database}\" has the encoding {}; outboxd needs UTF8", server.encoding);
        let why = "events, keys and answers of receivers may hold any character, and this database cannot store, compare or convert all of \
                   them; `outboxd migrate` and `outboxd run` refuse it";
        findings.push(Finding::critical("encoding", what, why).shell(format!(
            "createdb --encoding=UTF8 --template=template0 {database}_utf8\npg_dump --format=custom {database} | pg_restore --dbname={database}_utf8"
        )));
    }
}

fn judge_durability(server: &ServerSettings, findings: &mut Vec<Finding>) {
    let why = "after a crash of the machine the server may come back with rows missing or pages torn: committed events, and what is \
               known of their deliveries";
    for (name, is_on) in [("fsync", server.fsync), ("full_page_writes", server.full_page_writes)] {
        if !is_on {
            findings.push(
                Finding::critical("durability", format!("{name} is off"), why)
                    .sql(format!("alter system set {name} = on;\nselect pg_reload_conf();")),
            );
        }
    }
    if server.synchronous_commit == "off" {
        let (role, database) = (identifier(&server.role), identifier(&server.database));
        let why = "a commit of this role is not on disk when it returns: after a crash of the server the last deliveries are \
                   not known, and are repeated";
        findings.push(
            Finding::warning("durability", format!("synchronous_commit is off for role {role}"), why)
                .sql(format!("alter role {role} in database {database} set synchronous_commit = on;")),
        );
    }
}

fn judge_autovacuum(server: &ServerSettings, findings: &mut Vec<Finding>) {
    let why = "dead rows of retries, positions and retention stay for ever: every read becomes slower, and in the end the server stops \
               to protect itself from running out of transaction numbers";
    for (name, is_on) in [("autovacuum", server.autovacuum), ("track_counts", server.track_counts)] {
        if !is_on {
            findings.push(
                Finding::critical("autovacuum", format!("{name} is off on this server"), why)
                    .sql(format!("alter system set {name} = on;\nselect pg_reload_conf();")),
            );
        }
    }
}

fn judge_queue(server: &ServerSettings, findings: &mut Vec<Finding>) {
    if server.queue_usage < QUEUE_TOLD {
        return;
    }
    let what = format!("the notification queue of the server is {:.1} % full", server.queue_usage * 100.0);
    let why = "a session that listens sits in an open transaction, so nothing can be removed from the queue; when it is full, every \
               transaction that notifies fails at its commit, those that record events included";
    let finding = if server.queue_usage >= QUEUE_CRITICAL {
        Finding::critical("notification_queue", what, why)
    } else {
        Finding::warning("notification_queue", what, why)
    };
    // The server's log names the process that holds the queue; it is the oldest transaction as a rule.
    findings.push(finding.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity\n where backend_type = 'client backend' and pid <> pg_backend_pid() and \
         xact_start is not null\n order by xact_start limit 1;",
    ));
}

fn judge_clock(clock: &ClockReading, findings: &mut Vec<Finding>) {
    let uncertain = i64::try_from(clock.uncertain.as_micros()).unwrap_or(i64::MAX);
    let apart = clock.ahead_micros.saturating_abs();
    if apart <= SKEW_TOLD.saturating_add(uncertain) {
        return;
    }
    let direction = if clock.ahead_micros > 0 { "ahead of" } else { "behind" };
    let age = describe_age(std::time::Duration::from_micros(apart.unsigned_abs()));
    let what = format!("the clock of the server is {age} {direction} the clock here");
    let why = "stored times are those of the server, signatures use the clock here: receivers refuse signatures that are five \
               minutes off, and ages in logs, metrics and alerts are wrong by as much";
    let finding = if apart >= SKEW_CRITICAL { Finding::critical("clock", what, why) } else { Finding::warning("clock", what, why) };
    findings.push(finding.shell("timedatectl set-ntp true"));
}

fn judge_way(facts: &Facts, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    let is_listening = standards.config.is_none_or(|config| config.relay.wake_up == WakeUp::Listen);
    if facts.is_listen_heard == Some(false) && is_listening {
        let why = "the bell is never heard, so a sleeping relay learns of an event only when it looks, up to relay.idle_poll_interval \
                   later, and asks the server all the time";
        findings.push(
            Finding::warning("wake_up", "LISTEN is swallowed on the way to the server", why)
                .config("[relay]\nwake_up = \"poll\"")
                .config("[database]\nurl = \"postgres://<the server itself>:5432/<database>\""),
        );
    }
}
