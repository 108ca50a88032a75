//! The front page: whether all is well, and if not, what is wrong and what to do about it.

use std::sync::Arc;

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::Links;
use super::super::seen::{Sight, read_sight};
use crate::domain::alerts::Severity;
use crate::domain::{Level, Timestamp};
use crate::operations::status::{HandlerStatus, RelayStatus};
use crate::status::{Complaint, HandlerState};
use crate::store::Replay;

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let sight = sight(ask).await?;
    Ok(ask.page("Now", "", Some(5), body(&sight, &ask.links, ask.now)))
}

/// How everything is doing, read once for all who look at the same time.
pub async fn sight(ask: &Ask) -> Result<Arc<Sight>, Trouble> {
    let adoptions = ask.console.adoptions();
    Ok(ask.console.seen.front.get(&(), read_sight(ask.pool(), ask.schema(), &adoptions)).await?)
}

fn body(sight: &Sight, links: &Links, now: Timestamp) -> Markup {
    html! {
        div data-part="now" {
            (verdict(sight, links))
            h2 { "Handlers" }
            (handlers(&sight.status.handlers, links))
            @if !sight.alerts.is_empty() { h2 { "Alerts" } (alerts(sight, links, now)) }
            @if !sight.replays.is_empty() { h2 { "Replays under way" } (replays(&sight.replays, links)) }
            h2 { "Relays" }
            (relays(&sight.status.relays, now))
            p.seen { "Seen at " (point(now)) ". " a href=(links.to("")) { "Look again" } }
        }
    }
}

fn verdict(sight: &Sight, links: &Links) -> Markup {
    let level = sight.status.level;
    let title = match level {
        Level::Ok => "All is well",
        Level::Warning => "Something needs attention",
        Level::Critical => "Something is broken",
    };
    html! {
        section class=(format!("verdict {}", level_class(level))) {
            h1 { (title) }
            @if !sight.status.reasons.is_empty() {
                ul.reasons { @for reason in &sight.status.reasons { li { (complaint(reason, links)) } } }
            }
        }
        (command("outboxd status"))
    }
}

fn complaint(complaint: &Complaint, links: &Links) -> Markup {
    html! {
        div.reason {
            (badge(level_class(complaint.level), &complaint.level.to_string()))
            div {
                p {
                    @if let Some(handler) = &complaint.handler { a href=(links.handler(handler)) { (foreign(handler)) } ": " }
                    (foreign(&complaint.text))
                }
                div.acts {
                    @if let Some((path, text)) = way_out(complaint) { (button(&links.to(&path), text)) }
                    (command(&complaint.command))
                }
            }
        }
    }
}

/// The page on which a person does what the command does, or sees more.
fn way_out(complaint: &Complaint) -> Option<(String, &'static str)> {
    use super::super::links::{part, with_query};
    let handler = complaint.handler.as_deref().unwrap_or_default();
    let of_handler = |rest: &str| format!("handlers/{}{rest}", part(handler));
    let command = complaint.command.strip_prefix("outboxd ").unwrap_or_default();
    match command.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["dead-letters", _] => Some((with_query("dead-letters", &[("handler", handler)]), "Show the dead letters")),
        ["keys", _] => Some((with_query("keys", &[("handler", handler)]), "Show the keys")),
        ["handlers", "resume"] if !handler.is_empty() => Some((of_handler("/resume"), "Resume")),
        ["doctor"] => Some(("doctor".to_owned(), "Ask the doctor")),
        _ if !handler.is_empty() => Some((of_handler(""), "Show the handler")),
        _ => None,
    }
}

fn handlers(handlers: &[HandlerStatus], links: &Links) -> Markup {
    if handlers.is_empty() {
        return nothing("No handler has a subscription: no relay has run on this outbox yet.");
    }
    let rows = html! {
        @for HandlerStatus { state: word, stats: handler } in handlers {
            @let is_counted = handler.uncounted.is_none();
            @let number = |number: u64, is_exact: bool| if is_counted { count(number, is_exact) } else { "?".to_owned() };
            tr {
                th scope="row" { a href=(links.handler(&handler.handler)) { (foreign(&handler.handler)) } span.kind { " " (foreign(&handler.kind)) } }
                td { (state(*word)) }
                td.number { @match handler.oldest_unfinished { Some(age) => (span(age)), None => span.none { "–" } } }
                td.number { (number(handler.pending, handler.pending_is_exact)) }
                td.number { (number(handler.retrying, handler.deliveries_are_exact)) }
                td.number { (number(handler.waiting, handler.deliveries_are_exact)) }
                td.number {
                    @if handler.dead > 0 && is_counted {
                        a.dead href=(links.query("dead-letters", &[("handler", &handler.handler)])) { (count(handler.dead, handler.deliveries_are_exact)) }
                    } @else { (number(handler.dead, true)) }
                }
            }
        }
    };
    table("Handlers", &["Handler", "State", "#Oldest", "#Ready", "#Retrying", "#Waiting", "#Dead"], &rows)
}

pub fn state(state: HandlerState) -> Markup {
    let class = match state {
        HandlerState::Ok => "ok",
        HandlerState::NoOwner | HandlerState::Stuck => "critical",
        HandlerState::Paused | HandlerState::CircuitOpen | HandlerState::Waiting | HandlerState::Lagging => "warning",
    };
    badge(class, &state.to_string())
}

fn alerts(sight: &Sight, links: &Links, now: Timestamp) -> Markup {
    html! {
        ul.list {
            @for view in &sight.alerts {
                @let alert = &view.alert;
                li {
                    (badge(severity_class(alert.severity), alert.severity.as_str())) " "
                    a href=(links.to("alerts")) { (foreign(&view.key)) } " "
                    (foreign(&view.summary)) ", since " (moment(alert.started_at, now))
                    @if let Some(by) = &alert.acknowledged_by { ", acknowledged by " (foreign(by)) }
                }
            }
        }
    }
}

pub fn severity_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn replays(replays: &[Replay], links: &Links) -> Markup {
    html! {
        ul.list {
            @for replay in replays {
                li {
                    a href=(links.replay(replay.id)) { (foreign(replay.handler.as_deref().unwrap_or("all handlers"))) } ": "
                    (progress(replay)) " by " (foreign(&replay.actor))
                }
            }
        }
    }
}

/// How far a replay is.
pub fn progress(replay: &Replay) -> Markup {
    let done = replay.asked.saturating_sub(replay.held + replay.released);
    html! {
        progress max=(replay.asked.max(1)) value=(done) aria-label="Deliveries with an outcome" {}
        " " (count(done, true)) " of " (count(replay.asked, true))
        @if replay.failed > 0 { ", " (count(replay.failed, true)) " failed again" }
    }
}

fn relays(relays: &[RelayStatus], now: Timestamp) -> Markup {
    if relays.is_empty() {
        return nothing("No relay has been here yet.");
    }
    let rows = html! {
        @for RelayStatus { is_alive, stats: relay } in relays {
            tr {
                th scope="row" { (foreign(&relay.host)) "/" (relay.pid) }
                td { @if *is_alive { (badge("ok", "alive")) } @else { (badge("critical", "silent")) } }
                td { (foreign(&relay.version)) }
                td { (moment(relay.started_at, now)) }
                td { (moment(relay.seen_at, now)) }
            }
        }
    };
    table("Relays", &["Relay", "State", "Version", "Started", "Heard of"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_complaint_leads_to_where_something_can_be_done() {
        let way = |handler: Option<&str>, command: &str| {
            let complaint = Complaint {
                level: Level::Warning,
                handler: handler.map(str::to_owned),
                text: String::new(),
                command: command.to_owned(),
            };
            way_out(&complaint).map(|(path, _)| path)
        };
        let billing = Some("bill/ing");
        assert_eq!(
            way(billing, "outboxd dead-letters list --handler bill/ing").as_deref(),
            Some("dead-letters?handler=bill%2Fing")
        );
        assert_eq!(way(billing, "outboxd handlers resume bill/ing").as_deref(), Some("handlers/bill%2Fing/resume"));
        assert_eq!(way(billing, "outboxd status --watch").as_deref(), Some("handlers/bill%2Fing"));
        assert_eq!(way(None, "outboxd doctor").as_deref(), Some("doctor"));
        assert_eq!(way(None, "outboxd run"), None);
    }
}
