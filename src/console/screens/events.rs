//! Events: searched by type, key or aggregate, the newest first, a page at a time. Says how far back was searched.

use maud::{Markup, html};
use uuid::Uuid;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use crate::operations::events::{self, Search};
use crate::operations::shell_word;
use crate::store::events::{EventSummary, SEARCHED};

/// Events on a page.
const EVENTS: u32 = 50;

/// A field of a filter: its name in the query, its label, and an example.
pub(super) type FilterField = (&'static str, &'static str, &'static str);

const FIELDS: &[FilterField] =
    &[("type", "Type", "order.*"), ("key", "Key", "order/42"), ("aggregate", "Aggregate id", "42"), ("id", "Event id", "")];

pub async fn list(ask: &Ask) -> Result<Answer, Trouble> {
    if let Some(id) = ask.query.get("id") {
        let id: Uuid = id
            .parse()
            .map_err(|_| Trouble::invalid("id: expected the id of an event, such as 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d"))?;
        return Ok(Answer::SeeOther(ask.links.event(id)));
    }
    let text = |name: &str| ask.query.get(name).map(str::to_owned);
    let search = Search { event_type: text("type"), key: text("key"), aggregate_id: text("aggregate") };
    let before = ask
        .query
        .get("before")
        .map(|text| text.parse().map_err(|_| Trouble::invalid("before: is no place in the list; go back to its first page")))
        .transpose()?;
    let found = events::list(ask.pool(), &search, before, EVENTS).await?;
    let pairs: Vec<(&str, &str)> = FIELDS.iter().filter_map(|(name, ..)| Some((*name, ask.query.get(name)?))).collect();
    let next = found.goes_on_below.map(|below| below.to_string());
    let body = html! {
        h1 { "Events" }
        (filter(ask, "events", FIELDS, "Search"))
        p { a href=(ask.links.query("tail", &pairs)) { "Watch new events as they come" } }
        @if found.events.is_empty() { (nothing("No event matches.")) } @else { (event_table(ask, "Events", &found.events)) }
        @if found.is_cut_short { p.note { "Only the " (count(SEARCHED.unsigned_abs(), true)) " events before this place were searched; older ones may match." } }
        p.pages {
            @if before.is_some() { a href=(ask.links.query("events", &pairs)) { "The newest" } }
            @if let Some(next) = &next { a href=(ask.links.query("events", &[pairs.as_slice(), &[("before", next)]].concat())) { "Older ones" } }
        }
        (command(&line(&search)))
    };
    Ok(ask.page("Events", "events", None, body))
}

/// The form that filters a list of events.
pub(super) fn filter(ask: &Ask, screen: &str, fields: &[FilterField], button: &str) -> Markup {
    html! {
        form.filter method="get" action=(ask.links.to(screen)) role="search" {
            @for (place, (name, label, example)) in fields.iter().enumerate() {
                p.field {
                    label for=(format!("search-{name}")) { (label) }
                    input id=(format!("search-{name}")) name=(name) type="text" value=[ask.query.get(name)] placeholder=[Some(*example).filter(|example| !example.is_empty())]
                        autocomplete="off" data-search[place == 0];
                }
            }
            p { button.quiet type="submit" { (button) } }
        }
    }
}

/// Events as a table, each with a link to its page.
pub(super) fn event_table(ask: &Ask, caption: &str, events: &[EventSummary]) -> Markup {
    let rows = html! {
        @for event in events {
            tr {
                td { a href=(ask.links.event(event.id)) { (moment(event.occurred_at, ask.now)) } }
                td { (foreign(&event.event_type)) }
                td { (foreign_or_dash(event.aggregate_type.as_deref())) @if let Some(id) = &event.aggregate_id { "/" (foreign(id)) } }
                td.number { (event.seq) }
                td.number { (count(u64::from(event.payload_bytes.max(0).unsigned_abs()), true)) }
            }
        }
    };
    table(caption, &["Happened", "Type", "Aggregate", "#Number", "#Bytes"], &rows)
}

/// The command that lists the same events.
pub(super) fn line(search: &Search) -> String {
    let options = [("type", &search.event_type), ("key", &search.key), ("aggregate", &search.aggregate_id)];
    let options = options.iter().filter_map(|(name, value)| Some(format!(" --{name} {}", shell_word(value.as_deref()?))));
    format!("outboxd events list{}", options.collect::<String>())
}
