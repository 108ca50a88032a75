//! Transactions that are open for too long, and those that were prepared and forgotten.

use super::{Finding, Standards, describe_age, literal};
use crate::store::facts::{Facts, OpenTransaction, PreparedTransaction};

/// No normal transaction lasts this many times longer than the reported limit.
const CRITICAL_TIMES: u32 = 12;
/// Sessions told one by one.
const MOST_TOLD: usize = 3;

pub(super) fn judge(facts: &Facts, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    let old = facts.transactions.iter().flatten().filter(|open| open.age > standards.older_than);
    findings.extend(old.take(MOST_TOLD).map(|open| judge_open(open, standards)));
    let forgotten = facts.prepared.iter().flatten().filter(|prepared| prepared.age > standards.older_than);
    findings.extend(forgotten.map(judge_prepared));
}

fn judge_open(open: &OpenTransaction, standards: &Standards<'_>) -> Finding {
    let OpenTransaction { pid, application, role, database, state, has_number, age } = open;
    let who = if application.is_empty() { "an unnamed application".to_owned() } else { format!("\"{application}\"") };
    let age_text = describe_age(*age);
    let what =
        format!("process {pid} ({who}, role {role}, database {database}, {state}) has had a transaction open for {age_text}");
    let stragglers = if *has_number { "its own events are delivered when it commits, hours after younger ones; " } else { "" };
    let why = format!(
        "{stragglers}vacuum can remove nothing that was deleted since it began, in any table of the cluster, so every table grows and \
         reads of positions become slower"
    );
    let finding = if *age > standards.older_than.saturating_mul(CRITICAL_TIMES) && !standards.older_than.is_zero() {
        Finding::critical("transactions", what, why)
    } else {
        Finding::warning("transactions", what, why)
    };
    finding.sql(format!("select pg_terminate_backend({pid});"))
}

fn judge_prepared(prepared: &PreparedTransaction) -> Finding {
    let PreparedTransaction { gid, role, database, age } = prepared;
    let age = describe_age(*age);
    let what = format!("transaction {} (role {role}, database {database}) was prepared {age} ago and never finished", literal(gid));
    let why = "it holds vacuum for the whole cluster and every lock that it took; if it has recorded events, they wait for it, and no \
               relay can sleep: they keep asking. No restart ends it";
    Finding::warning("prepared", what, why)
        .sql(format!("rollback prepared {};", literal(gid)))
        .sql(format!("commit prepared {};", literal(gid)))
}
