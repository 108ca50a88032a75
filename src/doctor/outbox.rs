//! The outbox itself, apart from its catalogue: whether it exists and belongs to this server, the rights of the role, its relays,
//! its sequences, and the work that vacuum has left.

use super::{Finding, describe_age, identifier, literal};
use crate::domain::Standing;
use crate::rebase;
use crate::status::is_alive;
use crate::store::blind_spots::BlindSpot;
use crate::store::facts::{Facts, ServerSettings, SilentRelay, TableHealth};
use crate::store::rebase::{LowSequence, bell_repair};

/// Dead rows below which performance does not suffer.
const DEAD_TOLD: i64 = 10_000;
/// Size below which a table may be as empty as it likes.
const BLOAT_BYTES: i64 = 8 << 20;
/// Times its rows that a table may be large.
const BLOAT_TIMES: i64 = 8;
/// Changes since the last analyze that make a plan a guess.
const CHANGED_TOLD: i64 = 100_000;

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(server) = &facts.server else { return };
    if !server.has_outbox {
        // A standby is told as one; whether it has the outbox says nothing then.
        findings.push(judge_absence(facts, server));
        return;
    }
    judge_version(facts, findings);
    judge_identity(facts, findings);
    judge_grants(facts, server, findings);
    judge_relays(facts, findings);
    judge_sequences(facts, findings);
    if facts.is_bell_right == Some(false) {
        findings.push(judge_bell(&facts.schema));
    }
    findings.extend(facts.blind_spots.iter().flatten().filter(|spot| spot.kind() != "sequence").map(judge_blind_spot));
    facts.tables.iter().flatten().for_each(|table| judge_table(&facts.schema, table, findings));
}

fn judge_absence(facts: &Facts, server: &ServerSettings) -> Finding {
    let schema = &facts.schema;
    if server.has_schema && server.current_schema != *schema {
        let role = identifier(&server.role);
        let what = format!("role {role} may not use schema {schema}");
        return Finding::critical("grants", what, "a relay with this role cannot even look for the outbox")
            .sql(format!("grant usage on schema {schema} to {role};"));
    }
    let why = "applications cannot record events, and a relay has nothing to read";
    Finding::critical("schema", format!("there is no outbox in schema {schema}"), why).shell("outboxd migrate")
}

fn judge_version(facts: &Facts, findings: &mut Vec<Finding>) {
    if let Some(Some(refusal)) = &facts.schema_refusal {
        let why = "a relay of this version refuses the outbox";
        findings.push(Finding::critical("schema", refusal.clone(), why).shell("outboxd migrate"));
    }
}

fn judge_identity(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(identity) = &facts.identity else { return };
    let standing = identity.standing();
    let what = rebase::explain(&standing);
    let why = "a relay refuses to start here: it cannot know whether this is the database to publish from, and positions of another \
               server would lose events or repeat them";
    match standing {
        Standing::Ours | Standing::Fresh | Standing::Standby => {}
        Standing::NewTimeline { .. } => findings
            .push(Finding::critical("identity", what, why).shell("outboxd rebase").shell("outboxd run --follow-new-timeline")),
        Standing::OtherCluster { .. } | Standing::Copied { .. } | Standing::Renumbered { .. } | Standing::NumberedAgain { .. } => {
            findings.push(Finding::critical("identity", what, why).shell("outboxd rebase"));
        }
    }
}

fn judge_grants(facts: &Facts, server: &ServerSettings, findings: &mut Vec<Finding>) {
    let missing = facts.missing_grants.as_deref().unwrap_or_default();
    if missing.is_empty() {
        return;
    }
    let (schema, role) = (&facts.schema, identifier(&server.role));
    let named: Vec<String> = missing.iter().map(|grant| grant.name.clone()).collect();
    let what = format!("role {role} lacks rights on {}", named.join(", "));
    let grants: Vec<String> = missing
        .iter()
        .map(|grant| {
            let qualified = if grant.name.contains('.') { grant.name.clone() } else { format!("{schema}.{}", grant.name) };
            format!("grant {} on {}{qualified} to {role};", grant.privileges, grant.kind)
        })
        .collect();
    let why = "a relay with this role fails where it needs them: some of it at its start, some only with the first failure or in the \
               first round of retention";
    findings.push(Finding::critical("grants", what, why).sql(grants.join("\n")));
}

fn judge_relays(facts: &Facts, findings: &mut Vec<Finding>) {
    let relays = facts.relays.as_deref().unwrap_or_default();
    let has_handlers = facts.handlers.as_ref().is_some_and(|handlers| !handlers.is_empty());
    let is_served = relays.iter().any(|relay| is_alive(relay.silent));
    if !is_served && has_handlers {
        let what = "no relay is running";
        findings.push(Finding::critical("relays", what, "events are recorded and nothing is delivered").shell("outboxd run"));
    }
    findings.extend(relays.iter().filter(|relay| !is_alive(relay.silent)).map(|relay| judge_silence(&facts.schema, relay)));
}

fn judge_silence(schema: &str, relay: &SilentRelay) -> Finding {
    let SilentRelay { id, host, pid, silent, owns } = relay;
    let what = format!("the relay {host}/{pid} has been silent for {} and never signed off", describe_age(*silent));
    let owned = if *owns { "; it is still recorded as the owner of subscriptions" } else { "" };
    let why = format!(
        "it was killed, or it hangs: find the cause in its log{owned}. Other relays acquire its subscriptions after relay.lease"
    );
    Finding::warning("relays", what, why).sql(format!("delete from {schema}.instances where id = {};", literal(id)))
}

fn judge_sequences(facts: &Facts, findings: &mut Vec<Finding>) {
    let schema = &facts.schema;
    if let Some(sequence) = &facts.sequence {
        let alter = |what: String, change: &str| {
            let why = "numbers must follow the order in which transactions got them: otherwise events of one aggregate are delivered \
                       in the wrong order, and a page of the log may miss some";
            Finding::critical("sequence", what, why).sql(format!("alter table {schema}.events alter column seq {change};"))
        };
        if sequence.cache != 1 {
            let what = format!("the sequence of the events hands out {} numbers at a time to every session", sequence.cache);
            findings.push(alter(what, "set cache 1"));
        }
        if sequence.increment != 1 {
            findings
                .push(alter(format!("the sequence of the events goes by steps of {}", sequence.increment), "set increment by 1"));
        }
        if sequence.cycles {
            findings.push(alter("the sequence of the events begins anew when it is used up".to_owned(), "set no cycle"));
        }
    }
    // Where events have been given numbers again, raising the sequence alone would leave them as they are: a rebase does both.
    let is_numbered_again =
        facts.identity.as_ref().is_some_and(|identity| matches!(identity.standing(), Standing::NumberedAgain { .. }));
    let low = facts.low_sequences.iter().flatten();
    for LowSequence { name, last, needed } in low.filter(|low| !(is_numbered_again && low.name == "events_seq_seq")) {
        let what = format!("the sequence {name} stands at {last}, although {needed} is taken");
        let why = "it was left behind by a copy: inserts fail with a duplicate key, and an event with a number used before would be \
                   taken for one that was handled";
        let qualified = if name.contains('.') { name.clone() } else { format!("{schema}.{name}") };
        findings.push(Finding::critical("sequence", what, why).sql(format!("select setval({}, {needed});", literal(&qualified))));
    }
}

fn judge_bell(schema: &str) -> Finding {
    let what =
        "the bell does not belong to this schema: lock, channel and trigger disagree, or the trigger is missing or switched off";
    let why = "applications do not ring it, so a sleeping relay learns of events only when it looks, once a second";
    let repair: Vec<&str> = bell_repair().lines().filter(|line| !line.starts_with("--")).collect();
    let text = format!("set search_path = {schema}, pg_catalog, public;\n{};\nreset search_path;", repair.join("\n").trim_end());
    Finding::warning("bell", what, why).sql(text)
}

fn judge_blind_spot(spot: &BlindSpot) -> Finding {
    let finding = if spot.is_severe() { Finding::critical } else { Finding::warning };
    finding("blind_spots", spot.what(), spot.why().to_owned()).sql(spot.fix())
}

fn judge_table(schema: &str, table: &TableHealth, findings: &mut Vec<Finding>) {
    let TableHealth { name, live, dead, bytes, needed_bytes, is_autovacuum_off, is_analyzed, changed } = table;
    let qualified = format!("{schema}.{name}");
    if *is_autovacuum_off {
        let what = format!("autovacuum is switched off for {qualified}");
        let why = "its dead rows stay for ever, and what the planner knows of it grows old";
        let reset = format!("alter table {qualified} reset (autovacuum_enabled);");
        findings.push(Finding::warning("autovacuum", what, why).sql(reset));
    }
    if *dead > DEAD_TOLD.max(live / 2) {
        let what = format!("{qualified} has {dead} dead rows beside {live} that live");
        let why = "reads go through all of them; if they stay after a vacuum, an old transaction holds them";
        findings.push(Finding::warning("dead_rows", what, why).sql(format!("vacuum (analyze) {qualified};")));
    } else if needed_bytes.is_some_and(|needed| *bytes > BLOAT_BYTES && *bytes > needed.saturating_mul(BLOAT_TIMES)) {
        let what =
            format!("{qualified} takes {} MiB for {live} rows that need {} MiB", bytes >> 20, needed_bytes.unwrap_or(0) >> 20);
        let why = "the space is used again, but until then every scan goes through it; the statement locks the table while it runs";
        findings.push(Finding::warning("bloat", what, why).sql(format!("vacuum (full, analyze) {qualified};")));
    }
    if *changed > CHANGED_TOLD.max(live / 2) && (!*is_analyzed || *is_autovacuum_off) {
        let what = format!("{qualified} was never analyzed since {changed} of its rows changed");
        let why = "the planner guesses, and may read the log by a scan instead of its index";
        findings.push(Finding::warning("statistics", what, why).sql(format!("analyze {qualified};")));
    }
}
