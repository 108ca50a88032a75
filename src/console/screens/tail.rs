//! The live tail: the newest events as they come, perhaps of one type or key. With a script the list is looked at again every two seconds while the
//! page is in front; without one, by a link. Viewers of the same filter share one read.

use maud::html;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::events::{FilterField, event_table, filter, line};
use crate::operations::events::{self, Search, TAIL};

/// Events on the page.
const EVENTS: u32 = 50;

const FIELDS: &[FilterField] = &[("type", "Type", "order.*"), ("key", "Key", "order/42")];

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let text = |name: &str| ask.query.get(name).map(str::to_owned);
    let search = Search { event_type: text("type"), key: text("key"), aggregate_id: None };
    let question = (search.event_type.clone(), search.key.clone());
    let found = ask.console.seen.tails.get(&question, events::tail(ask.pool(), &search, EVENTS)).await?;
    let pairs: Vec<(&str, &str)> = FIELDS.iter().filter_map(|(name, ..)| Some((*name, ask.query.get(name)?))).collect();
    let body = html! {
        p.crumbs { a href=(ask.links.query("events", &pairs)) { "Search all events" } }
        h1 { "Live tail" }
        (filter(ask, "tail", FIELDS, "Watch"))
        div data-part="tail" {
            @if found.events.is_empty() { (nothing("No recent event matches. New events appear here.")) }
            @else { (event_table(ask, "Newest events", &found.events)) }
            @if found.is_cut_short { p.hint { "The tail goes back over the last " (count(TAIL.unsigned_abs(), true)) " numbers only." } }
            p.seen { "Seen at " (point(ask.now)) ". " a href=(ask.links.query("tail", &pairs)) { "Look again" } }
        }
        (command(&line(&search)))
    };
    Ok(ask.page("Live tail", "events", Some(2), body))
}
