//! The map: which types flow, how fast, to which handlers, and where they are stuck.

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::front::{sight, state};
use crate::operations::map::{self, MapHandler, MapType};
use crate::operations::status::HandlerStatus;
use crate::store::LOOKED_AT;

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let types = ask.console.seen.map.get(&(), map::read(ask.pool())).await?;
    let sight = sight(ask).await?;
    let rows = html! { @for one in types.iter() { (row(ask, one)) } };
    let body = html! {
        h1 { "Map" }
        p.intro { "The types of the newest " (count(LOOKED_AT.unsigned_abs(), true)) " events, with the handlers that want them and what is not finished there." }
        div data-part="map" {
            @if types.is_empty() { (nothing("No event is recorded.")) }
            @else { (table("Types by handlers", &["Type", "Handlers", "#A minute", "#Events", "Newest"], &rows)) }
            h2 { "Handlers" }
            ul.tags { @for handler in &sight.status.handlers { li { (backlog(ask, handler)) } } }
            p.seen { "Seen at " (point(ask.now)) ". " a href=(ask.links.to("map")) { "Look again" } }
        }
        (command("outboxd status"))
    };
    Ok(ask.page("Map", "map", Some(10), body))
}

fn row(ask: &Ask, one: &MapType) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(ask.links.query("tail", &[("type", &one.event_type)])) { (foreign(&one.event_type)) } }
            td {
                @if one.handlers.is_empty() { (badge("warning", "no handler wants it")) }
                @else { ul.tags { @for handler in &one.handlers { li { (handler_of(ask, one, handler)) } } } }
            }
            td.number { (rate(one.recent)) }
            td.number { (count(one.events, true)) }
            td { (moment(one.last_at, ask.now)) }
        }
    }
}

/// Events a minute, of those in five minutes.
fn rate(recent: u64) -> String {
    match recent {
        0 => "0".to_owned(),
        1..50 => format!("{}.{}", recent / 5, recent % 5 * 2),
        recent => count(recent / 5, true),
    }
}

fn handler_of(ask: &Ask, one: &MapType, handler: &MapHandler) -> Markup {
    let MapHandler { handler, retrying, waiting, dead } = handler;
    let letters = ask.links.query("dead-letters", &[("handler", handler), ("type", &one.event_type)]);
    html! {
        a href=(ask.links.handler(handler)) { (foreign(handler)) }
        @if *retrying > 0 { " " (badge("warning", &format!("{} retrying", count(*retrying, true)))) }
        @if *waiting > 0 { " " (badge("warning", &format!("{} waiting", count(*waiting, true)))) }
        @if *dead > 0 { " " a.dead href=(letters) { (counted(*dead, "dead letter", "dead letters")) } }
    }
}

fn backlog(ask: &Ask, handler: &HandlerStatus) -> Markup {
    let stats = &handler.stats;
    html! {
        a href=(ask.links.handler(&stats.handler)) { (foreign(&stats.handler)) } " " (state(handler.state)) " "
        @if stats.uncounted.is_some() { "not counted" }
        @else { (count(stats.pending, stats.pending_is_exact)) " ready" }
        @if let Some(age) = stats.oldest_unfinished { ", the oldest " (span(age)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_as_exactly_as_five_minutes_tell_it() {
        for (recent, want) in
            [(0, "0"), (1, "0.2"), (4, "0.8"), (5, "1.0"), (12, "2.4"), (49, "9.8"), (50, "10"), (6_000, "1\u{202f}200")]
        {
            assert_eq!(rate(recent), want);
        }
    }
}
