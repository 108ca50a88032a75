//! The handover note: one page to print or to send, with what is wrong now, since when, who did what in the last hours, and what is left open.

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::part;
use super::event::state_badge;
use super::front::{progress, severity_class, state};
use super::letters::reason;
use crate::domain::Level;
use crate::operations::handover::{self, HOURS, Handover, MOST_HOURS};
use crate::operations::status::HandlerStatus;

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let hours = match ask.query.get("hours") {
        Some(text) => text.parse().ok().filter(|hours| (1..=MOST_HOURS).contains(hours)),
        None => Some(HOURS),
    };
    let hours = hours.ok_or_else(|| Trouble::invalid(format!("hours: expected a whole number from 1 to {MOST_HOURS}")))?;
    let note = handover::read(ask.pool(), ask.schema(), &ask.console.adoptions(), hours).await?;
    let body = html! {
        h1 { "Handover note" }
        p { "As of " (point(note.at)) ", with the acts since " (point(note.since)) ". " (verdict(note.level)) }
        form.filter method="get" action=(ask.links.to("handover")) {
            p.field { label for="hours" { "Hours to look back" } input id="hours" name="hours" type="number" min="1" max=(MOST_HOURS) value=(hours); }
            p { button.quiet type="submit" { "Show" } }
        }
        (wrong(ask, &note))
        (left_open(ask, &note))
        (acts(ask, &note))
        (command(&format!("outboxd handover --hours {hours}")))
    };
    Ok(ask.page("Handover note", "handover", None, body))
}

fn verdict(level: Level) -> Markup {
    match level {
        Level::Ok => html! { (badge("ok", "all is well")) },
        Level::Warning => html! { (badge("warning", "something needs attention")) },
        Level::Critical => html! { (badge("critical", "something is broken")) },
    }
}

fn wrong(ask: &Ask, note: &Handover) -> Markup {
    html! {
        h2 { "Faults now" }
        @if note.reasons.is_empty() && note.alerts.is_empty() { (nothing("Nothing.")) }
        (list(&html! {
            @for reason in &note.reasons {
                li { (badge(level_class(reason.level), &reason.level.to_string())) " " @if let Some(handler) = &reason.handler { (foreign(handler)) ": " } (foreign_long(&reason.text)) }
            }
        }))
        @if !note.alerts.is_empty() { h3 { "Alerts" } }
        (list(&html! {
            @for view in &note.alerts {
                @let alert = &view.alert;
                li {
                    (badge(severity_class(alert.severity), alert.severity.as_str())) " " (foreign(&view.key)) ": " (foreign_long(&view.summary))
                    ", since " (moment(alert.started_at, ask.now))
                    @if let Some(by) = &alert.acknowledged_by { ", acknowledged by " (foreign(by)) }
                    @if let Some(until) = alert.snoozed_until.filter(|until| *until > note.at) { ", " strong { "silent until " (point(until)) } }
                }
            }
        }))
        @if !note.handlers.is_empty() { h3 { "Handlers that are not well" } }
        (list(&html! { @for handler in &note.handlers { li { (troubled(ask, handler)) } } }))
        @if !note.dead_letters.is_empty() { h3 { "Dead letters" } }
        (list(&html! {
            @for group in &note.dead_letters {
                li {
                    (count(group.count, true)) " of " (foreign(&group.handler)) ", " (reason(group.reason.as_deref(), group.status)) ": "
                    (foreign_or_dash(group.error.as_deref()))
                    @if let Some(first) = group.first { ", since " (moment(first, ask.now)) }
                    @for note in &group.notes { p.hint { "Note of " (foreign(&note.actor)) ": " (foreign(&note.text)) } }
                }
            }
        }))
    }
}

/// A list; nothing where it has no entries.
fn list(entries: &Markup) -> Markup {
    html! { @if !entries.0.is_empty() { ul.list { (entries) } } }
}

fn troubled(ask: &Ask, handler: &HandlerStatus) -> Markup {
    let stats = &handler.stats;
    html! {
        a href=(ask.links.handler(&stats.handler)) { (foreign(&stats.handler)) } " " (state(handler.state))
        @if let Some(paused) = &stats.paused {
            " since " (moment(paused.since, ask.now)) @if let Some(by) = &paused.by { " by " (foreign(by)) } @if let Some(why) = &paused.reason { ": " (foreign_long(why)) }
        }
        @if let Some(since) = stats.circuit.as_ref().and_then(|circuit| circuit.since) { ", its circuit open since " (moment(since, ask.now)) }
        @if let Some(failing) = &stats.failing { ", failing since " (moment(failing.since, ask.now)) ": " (foreign_long(&failing.error)) }
        @if stats.uncounted.is_none() { "; " (count(stats.pending, stats.pending_is_exact)) " ready, " (count(stats.retrying, true)) " retrying" }
    }
}

fn left_open(ask: &Ask, note: &Handover) -> Markup {
    html! {
        h2 { "Left open" }
        @if note.replays.is_empty() && note.keys.is_empty() { (nothing("No replay goes on, and no key waits.")) }
        (list(&html! {
            @for replay in &note.replays {
                li {
                    "Replay " a href=(ask.links.replay(replay.id)) { (foreign(replay.handler.as_deref().unwrap_or("of all handlers"))) } ": " (progress(replay))
                    " by " (foreign(&replay.actor)) " since " (moment(replay.at, ask.now)) @if let Some(why) = &replay.note { ": " (foreign_long(why)) }
                }
            }
            @for key in &note.keys {
                li {
                    "Key " (foreign(&key.key)) " of " (foreign(&key.handler)) ": " (counted(key.followers, "event waits", "events wait")) " behind "
                    a href=(ask.links.to(&format!("e/{}/{}", key.head, part(&key.handler)))) { (foreign(&key.event_type)) } " " (state_badge(&key.state))
                    @if let Some(since) = key.since { ", since " (moment(since, ask.now)) }
                }
            }
        }))
    }
}

fn acts(ask: &Ask, note: &Handover) -> Markup {
    let rows = html! {
        @for act in &note.acts {
            tr {
                td { (moment(act.at, ask.now)) }
                td { (foreign(&act.actor)) span.kind { " " (foreign(&act.via)) } }
                td { (foreign(&act.action)) }
                td { (foreign_or_dash(act.handler.as_deref())) }
                td.number { (count(act.affected, true)) }
                td.wide { (foreign_or_dash(act.reason.as_deref())) }
            }
        }
    };
    html! {
        h2 { "Acts of operators" }
        @if note.acts.is_empty() { (nothing("No operator has done anything in this time.")) }
        @else { (table("Acts of operators", &["At", "Who", "What", "Handler", "#Changed", "Why"], &rows)) }
        @if note.more_acts { p.hint { "Only the newest " (note.acts.len()) " acts are listed; the audit has all." } }
    }
}
