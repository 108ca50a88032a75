//! One event: what became of it at every handler, why it waits, every attempt; its payload on a page of its own, for whoever may see it.

use maud::{Markup, html};
use tracing::info;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::part;
use super::compare::compare;
use super::confirm::done;
use super::letters::reason;
use crate::domain::Role;
use crate::domain::json::{indent_json, redact_json};
use crate::operations::corrections::Correction;
use crate::operations::{Explanation, events, explain, shell_word};
use crate::store::events::{Attempt, Event, EventState};

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let id = ask.id(0)?;
    let handler = Some(ask.parameter(1)).filter(|handler| !handler.is_empty());
    let history = events::show(ask.pool(), ask.schema(), id).await?;
    let explanations = explain(ask.pool(), ask.schema(), id, handler).await?;
    let is_shown = |name: &str| handler.is_none_or(|handler| handler == name);
    let attempts: Vec<&Attempt> = history.attempts.iter().filter(|attempt| is_shown(&attempt.handler)).collect();
    let states: Vec<&EventState> = history.handlers.iter().filter(|state| is_shown(&state.handler)).collect();
    let event = &history.event;
    let body = html! {
        p.crumbs {
            a href=(ask.links.to("events")) { "Events" }
            @if handler.is_some() { " / " a href=(ask.links.event(id)) { "this event at every handler" } }
        }
        h1 { (foreign(&event.event_type)) }
        (done(ask))
        (about(ask, event))
        @if states.is_empty() { (nothing("No handler wants this event, or none has met it yet.")) }
        @for state in &states { (at_handler(ask, event, state, explanations.iter().find(|one| one.handler == state.handler))) }
        h2 { "Attempts" }
        @if attempts.is_empty() { (nothing("None is recorded. A success at the first attempt leaves no entry.")) } @else { (attempt_table(ask, &attempts)) }
        @if let Some(handler) = handler { (compare(ask, &attempts, &ask.links.to(&format!("e/{id}/{}", part(handler))))) }
        (command(&match handler {
            Some(handler) => format!("outboxd dead-letters show {id} --handler {}", shell_word(handler)),
            None => format!("outboxd events show {id}"),
        }))
    };
    Ok(ask.page("Event", "events", Some(5), body))
}

fn about(ask: &Ask, event: &Event) -> Markup {
    let size = event.payload.get().len();
    html! {
        (facts(&[
            ("Event", html! { code { (event.id) } }),
            ("Aggregate", aggregate(event)),
            ("Happened", moment(event.occurred_at, ask.now)),
            ("Sequence number", html! { (event.seq) }),
            ("Payload", html! {
                (counted(size as u64, "byte", "bytes")) " "
                @if ask.caller.sees_payloads { a href=(ask.links.to(&format!("payloads/{}", event.id))) { "Show payload and headers" } }
                @else { span.hint { "shown to those with the right to payloads" } }
            }),
        ]))
        @if let Some(correction) = Correction::of(event) {
            p.note {
                "A correction of " a href=(ask.links.event(correction.corrects)) { code { (correction.corrects) } }
                " for " (foreign(&correction.only_for)) " only."
            }
        }
        @if let Some(damage) = &event.damage { p.problem { "It cannot be read as a whole: " (foreign(damage)) } }
    }
}

fn aggregate(event: &Event) -> Markup {
    html! {
        @match (&event.aggregate_type, &event.aggregate_id) {
            (None, None) => span.none { "–" },
            (kind, id) => { (foreign(kind.as_deref().unwrap_or_default())) "/" (foreign(id.as_deref().unwrap_or_default())) },
        }
        @if let Some(version) = event.aggregate_version { " version " (version) }
    }
}

fn at_handler(ask: &Ask, event: &Event, state: &EventState, explanation: Option<&Explanation>) -> Markup {
    let name = state.handler.as_str();
    let id = event.id.to_string();
    let only = [("handler", name), ("id", id.as_str())];
    let to = |path: &str| ask.links.to(&super::super::links::with_query(path, &only));
    html! {
        section.handler data-part=(format!("at-{name}-{}", state.partition)) {
            h2 { a href=(ask.links.handler(name)) { (foreign(name)) } " " (state_badge(&state.state)) }
            @if let Some(explanation) = explanation {
                p.why { (foreign_long(&explanation.text)) }
                @if let Some(behind) = explanation.behind { p { a href=(ask.links.to(&format!("e/{behind}/{}", part(name)))) { "The event that it waits for" } } }
            }
            (facts(&[
                ("Key", foreign_or_dash(state.key.as_deref())),
                ("Attempts", html! { @match state.attempts { Some(attempts) => (attempts), None => span.none { "–" } } }),
                ("First attempt", moment_or_dash(state.first_attempt_at, ask.now)),
                ("Due", moment_or_dash(state.due_at, ask.now)),
                ("Ended", moment_or_dash(state.handled_at, ask.now)),
                ("Reason", reason(state.reason.as_deref(), state.status)),
                ("Replay", html! { @match state.replay { Some(replay) => a href=(ask.links.replay(replay)) { "the last one" }, None => span.none { "–" } } }),
            ]))
            @if let Some(detail) = state.detail.as_deref().filter(|detail| !detail.is_empty()) { h3 { "Answer" } (foreign_block(detail, "Answer of the receiver")) }
            div.acts {
                @if ask.may(Role::Operate) && state.state == "dead" {
                    (button(&to("replays/new"), "Replay…"))
                    @if ask.caller.sees_payloads { a.button.quiet href=(ask.links.to(&format!("e/{id}/{}/edit", part(name)))) { "Edit…" } }
                    a.button.quiet href=(to("dead-letters/discard")) { "Discard…" }
                }
                @if let Some(line) = explanation.and_then(|explanation| explanation.command.as_deref()) { (command(line)) }
            }
        }
    }
}

pub fn state_badge(state: &str) -> Markup {
    let class = match state {
        "delivered" => "ok",
        "dead" => "critical",
        "retrying" | "waiting" => "warning",
        _ => "info",
    };
    badge(class, state)
}

fn attempt_table(ask: &Ask, attempts: &[&Attempt]) -> Markup {
    let rows = html! {
        @for attempt in attempts {
            tr {
                td { (moment(attempt.at, ask.now)) }
                td { (foreign(&attempt.handler)) }
                td.number { (attempt.attempt) }
                td { (foreign(&attempt.outcome)) @if attempt.ambiguous { span.hint { " – may have arrived all the same" } } }
                td { (reason(Some(&attempt.reason), attempt.status)) }
                td.number { (attempt.duration_ms) " ms" }
                td.wide { (foreign_or_dash(attempt.detail.as_deref())) }
            }
        }
    };
    table("Attempts", &["At", "Handler", "#Attempt", "Outcome", "Reason", "#Took", "Answer"], &rows)
}

/// Payload and headers, as they were recorded but for what is redacted. Who looked is in the log.
pub async fn payload(ask: &Ask) -> Result<Answer, Trouble> {
    let id = ask.id(0)?;
    let event = events::show(ask.pool(), ask.schema(), id).await?.event;
    info!(actor = ask.caller.name, event_id = %id, "a payload was shown in the console");
    ask.console.metrics.showed_payload();
    let shown = |json| indent_json(redact_json(json, &ask.rules.redact).get());
    let body = html! {
        p.crumbs { a href=(ask.links.event(id)) { "The event" } }
        h1 { "Payload of " (foreign(&event.event_type)) }
        @if !ask.rules.redact.is_empty() { p.intro { "Some members are redacted for all viewers." } }
        h2 { "Payload" }
        (foreign_block(&shown(&event.payload), "Payload"))
        h2 { "Headers" }
        (foreign_block(&shown(&event.headers), "Headers"))
        (command(&format!("outboxd events show {id} --full")))
    };
    Ok(ask.page("Payload", "events", None, body))
}
