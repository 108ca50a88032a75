//! The live tail: the newest events as they come, perhaps of one type or key. With a script the list is looked at again every two seconds while the
//! page is in front; without one, by a link. Everybody who watches the same shares one read.

use maud::html;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use crate::operations::events::{self, Search, TAIL};
use crate::operations::shell_word;

/// Events on the page.
const EVENTS: u32 = 50;

const FIELDS: &[(&str, &str, &str)] = &[("type", "Type", "order.*"), ("key", "Key", "order/42")];

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let text = |name: &str| ask.query.get(name).map(str::to_owned);
    let search = Search { event_type: text("type"), key: text("key"), aggregate_id: None };
    let question = (search.event_type.clone(), search.key.clone());
    let found = ask.console.seen.tails.get(&question, events::tail(ask.pool(), &search, EVENTS)).await?;
    let pairs: Vec<(&str, &str)> = FIELDS.iter().filter_map(|(name, ..)| Some((*name, ask.query.get(name)?))).collect();
    let rows = html! {
        @for event in &found.events {
            tr {
                td { a href=(ask.links.event(event.id)) { (moment(event.occurred_at, ask.now)) } }
                td { (foreign(&event.event_type)) }
                td { (foreign_or_dash(event.aggregate_type.as_deref())) @if let Some(id) = &event.aggregate_id { "/" (foreign(id)) } }
                td.number { (event.seq) }
                td.number { (count(u64::from(event.payload_bytes.max(0).unsigned_abs()), true)) }
            }
        }
    };
    let body = html! {
        p.crumbs { a href=(ask.links.query("events", &pairs)) { "Search all events" } }
        h1 { "Live tail" }
        form.filter method="get" action=(ask.links.to("tail")) role="search" {
            @for (place, (name, label, example)) in FIELDS.iter().enumerate() {
                p.field {
                    label for=(format!("search-{name}")) { (label) }
                    input id=(format!("search-{name}")) name=(name) type="text" value=[ask.query.get(name)] placeholder=(example) autocomplete="off" data-search[place == 0];
                }
            }
            p { button.quiet type="submit" { "Watch" } }
        }
        div data-part="tail" {
            @if found.events.is_empty() { (nothing("No recent event matches. New events appear here.")) }
            @else { (table("Newest events", &["Happened", "Type", "Aggregate", "#Number", "#Bytes"], &rows)) }
            @if found.is_cut_short { p.hint { "The tail goes back over the last " (count(TAIL.unsigned_abs(), true)) " numbers only." } }
            p.seen { "Seen at " (point(ask.now)) ". " a href=(ask.links.query("tail", &pairs)) { "Look again" } }
        }
        (command(&line(&search)))
    };
    Ok(ask.page("Live tail", "events", Some(2), body))
}

fn line(search: &Search) -> String {
    let options = [("type", &search.event_type), ("key", &search.key)];
    let options = options.iter().filter_map(|(name, value)| Some(format!(" --{name} {}", shell_word(value.as_deref()?))));
    format!("outboxd events list{}", options.collect::<String>())
}
