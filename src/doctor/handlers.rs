//! Handlers: the configuration compared with the database, and waits compared with what is recorded.

use std::time::Duration;

use super::{Finding, Standards, identifier};
use crate::config::{Config, HandlerConfig};
use crate::settings::{describe_duration, format_duration};
use crate::status::is_alive;
use crate::store::facts::{Facts, UnmatchedPattern, UnwantedType};

pub(super) fn judge(facts: &Facts, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    if let Some(config) = standards.config {
        judge_retention(config, findings);
        judge_inbox(facts, config, findings);
        judge_lease(facts, config, standards, findings);
        judge_known(facts, config, findings);
    }
    findings.extend(facts.unmatched.iter().flatten().map(|unmatched| judge_unmatched(unmatched, standards.config)));
    let unwanted = facts.unwanted.as_deref().unwrap_or_default();
    if !unwanted.is_empty() {
        findings.push(judge_unwanted(unwanted));
    }
}

/// The longest that a delivery of this handler may be tried.
fn retry_span(handler: &HandlerConfig) -> Duration {
    let span = handler.retry.backoff.span(handler.retry.max_attempts);
    handler.retry.max_age.map_or(span, |max_age| max_age.min(span))
}

fn judge_retention(config: &Config, findings: &mut Vec<Finding>) {
    let Some(longest) = config.handlers.iter().max_by_key(|handler| retry_span(handler)) else { return };
    let (span, retention) = (retry_span(longest), config.outbox.retention);
    if retention.is_zero() || retention >= span {
        return;
    }
    let what = format!(
        "events are kept for {}, but handler {} tries for up to {}",
        describe_duration(retention),
        longest.name,
        describe_duration(span)
    );
    let why = "an event that is still retried stays, but retention removes its neighbours with their history: when it becomes a dead letter, \
              the events around it are gone, and they cannot be replayed for another handler";
    let hours = Duration::from_secs(span.as_secs().div_ceil(3600) * 3600);
    findings.push(Finding::warning("retention", what, why).config(format!("[outbox]\nretention = \"{}\"", format_duration(hours))));
}

/// A mark that went before the last delivery that it stands for lets that delivery have its effect twice.
fn judge_inbox(facts: &Facts, config: &Config, findings: &mut Vec<Finding>) {
    let Some(inbox) = facts.inbox.filter(|inbox| inbox.is_used) else { return };
    let (kept, events) = (config.outbox.inbox_retention, config.outbox.retention);
    let needed = inbox.oldest_event.max(events);
    if kept.is_zero() || (kept >= needed && !events.is_zero()) {
        return;
    }
    let (reach, setting) = match events.is_zero() {
        true => ("events stay for ever".to_owned(), "0s".to_owned()),
        false => {
            let whole_days = needed.as_micros().div_ceil(86_400_000_000);
            let days = Duration::from_secs(u64::try_from(whole_days).unwrap_or(u64::MAX / 86_400) * 86_400);
            (format!("events can be delivered again for {}", describe_duration(needed)), format_duration(days))
        }
    };
    let what = format!("marks in the inbox are kept for {}, but {reach}", describe_duration(kept));
    let why = "a replay or a rewind of an older event finds no mark, and its effect comes a second time";
    findings.push(Finding::warning("inbox", what, why).config(format!("[outbox]\ninbox_retention = \"{setting}\"")));
}

/// One relay alone never waits for a lease of another, and functions leave with their transaction.
fn judge_lease(facts: &Facts, config: &Config, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    let alive = facts.relays.iter().flatten().filter(|relay| is_alive(relay.silent)).count();
    let outside = config.handlers.iter().filter(|handler| !standards.functions.contains(&handler.name));
    let Some(slowest) = outside.max_by_key(|handler| handler.timeout) else { return };
    if alive < 2 || slowest.timeout <= config.relay.lease {
        return;
    }
    let what = format!(
        "an attempt of handler {} may take {}, but a lease ends after {}",
        slowest.name,
        describe_duration(slowest.timeout),
        describe_duration(config.relay.lease)
    );
    let why = format!(
        "{alive} relays share the handlers: when one of them hangs or loses the database, another makes the same attempt while the \
         first may still be under way, and the receiver gets the event twice at the same time"
    );
    let lease = Duration::from_secs(slowest.timeout.as_secs() + 1);
    findings.push(Finding::warning("lease", what, why).config(format!("[relay]\nlease = \"{}\"", format_duration(lease))));
}

fn judge_known(facts: &Facts, config: &Config, findings: &mut Vec<Finding>) {
    for known in facts.handlers.iter().flatten() {
        let name = &known.name;
        let Some(handler) = config.handlers.iter().find(|handler| handler.name == *name) else {
            let what = format!("handler {name} is in the database and not in the configuration");
            let why = "no relay delivers its events, and retention removes none of them: the log grows until the handler is served again or forgotten";
            findings.push(Finding::warning("handlers", what, why).shell(format!("outboxd handlers forget {}", shell_word(name))));
            continue;
        };
        if i32::from(handler.partitions) != known.partitions {
            let what = format!(
                "handler {name} has {} partitions in the database and {} in the configuration",
                known.partitions, handler.partitions
            );
            let why = "the number is fixed once a handler exists, because keys would change places; a relay refuses to start";
            let text = format!("[[handlers]]\nname = {}\npartitions = {}", toml_text(name), known.partitions);
            findings.push(Finding::critical("handlers", what, why).config(text));
        }
    }
}

fn judge_unmatched(unmatched: &UnmatchedPattern, config: Option<&Config>) -> Finding {
    let UnmatchedPattern { handler, pattern, recorded } = unmatched;
    let glob = as_glob(pattern);
    let what = format!("handler {handler} waits for {glob}, and none of the newest 100,000 events has such a type");
    let why = "either nothing of the kind happened lately, or the type is written otherwise where it is recorded, and the events of the \
               handler pass it by";
    let finding = Finding::warning("event_types", what, why);
    let Some(near) = nearest(&glob, recorded) else { return finding.shell("outboxd events list") };
    let configured = config.and_then(|config| config.handlers.iter().find(|known| known.name == *handler));
    let mut events: Vec<String> = configured.map(|known| known.filter.types.clone()).unwrap_or_else(|| vec![glob.clone()]);
    events.iter_mut().filter(|event| **event == glob).for_each(|event| near.clone_into(event));
    let events: Vec<String> = events.iter().map(|event| toml_text(event)).collect();
    finding.config(format!("[[handlers]]\nname = {}\nevents = [{}]", toml_text(handler), events.join(", ")))
}

fn judge_unwanted(unwanted: &[UnwantedType]) -> Finding {
    let named: Vec<String> = unwanted.iter().map(|of| format!("{} ({})", of.event_type, of.events)).collect();
    let what = format!("events are recorded that no handler wants: {}", named.join(", "));
    let why = "they are never delivered; if you intend that, add a handler that discards them, and this warning ends";
    let types: Vec<String> = unwanted.iter().map(|of| toml_text(&of.event_type)).collect();
    let text = format!("[[handlers]]\nname = \"unwanted\"\nkind = \"discard\"\nstart = \"now\"\nevents = [{}]", types.join(", "));
    Finding::warning("event_types", what, why).config(text)
}

/// A LIKE pattern as the configuration writes it.
fn as_glob(pattern: &str) -> String {
    let (mut glob, mut is_escaped) = (String::with_capacity(pattern.len()), false);
    for c in pattern.chars() {
        match c {
            '\\' if !is_escaped => {
                is_escaped = true;
                continue;
            }
            '%' if !is_escaped => glob.push('*'),
            c => glob.push(c),
        }
        is_escaped = false;
    }
    glob
}

/// The recorded type that is most like what is waited for, if any is.
fn nearest<'a>(glob: &str, recorded: &'a [String]) -> Option<&'a str> {
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(glob.trim_end_matches('*'), name);
    let (likeness, near) = recorded.iter().map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.6).then_some(near)
}

/// A JSON text is a TOML text, too.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn shell_word(text: &str) -> String {
    if identifier(text) == text { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
