//! The audit: acts of operators with time, reason and origin. Read only; no page changes it.

use maud::html;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use crate::operations::audit;
use crate::store::AuditQuery;

/// Acts on a page.
const ACTS: u32 = 50;

const FIELDS: &[(&str, &str)] = &[("actor", "Who"), ("action", "What"), ("handler", "Handler"), ("via", "Road")];

pub async fn list(ask: &Ask) -> Result<Answer, Trouble> {
    let text = |name: &str| ask.query.get(name).map(str::to_owned);
    let before = ask
        .query
        .get("before")
        .map(|text| text.parse().map_err(|_| Trouble::invalid("before: is no place in the list; go back to its first page")))
        .transpose()?;
    let query = AuditQuery { actor: text("actor"), action: text("action"), handler: text("handler"), via: text("via"), before };
    let page = audit::list(ask.pool(), &query, ACTS).await?;
    let next = page.last().map(|row| row.id.to_string());
    let pairs: Vec<(&str, &str)> = FIELDS.iter().filter_map(|(name, _)| Some((*name, ask.query.get(name)?))).collect();
    let rows = html! {
        @for row in &page.items {
            tr {
                td { (moment(row.at, ask.now)) }
                td { (foreign(&row.actor)) span.kind { " " (foreign(&row.via)) } }
                td { (foreign(&row.action)) }
                td { @match &row.handler { Some(handler) => a href=(ask.links.handler(handler)) { (foreign(handler)) }, None => span.none { "–" } } }
                td.number { (count(row.affected, true)) }
                td.wide { (foreign_or_dash(row.reason.as_deref())) }
                td.wide { @if row.filter.as_object().is_some_and(|filter| !filter.is_empty()) { code { (foreign(&row.filter.to_string())) } } @else { span.none { "–" } } }
            }
        }
    };
    let body = html! {
        h1 { "Audit" }
        form.filter method="get" action=(ask.links.to("audit")) role="search" {
            @for (place, (name, label)) in FIELDS.iter().enumerate() {
                p.field {
                    label for=(format!("search-{name}")) { (label) }
                    input id=(format!("search-{name}")) name=(name) type="text" value=[ask.query.get(name)] autocomplete="off" data-search[place == 0];
                }
            }
            p { button.quiet type="submit" { "Search" } }
        }
        @if page.items.is_empty() { (nothing("No act matches.")) }
        @else { (table("Acts of people", &["At", "Who", "What", "Handler", "#Changed", "Why", "Asked for"], &rows)) }
        p.pages {
            @if before.is_some() { a href=(ask.links.query("audit", &pairs)) { "The newest" } }
            @if let Some(next) = &next { a href=(ask.links.query("audit", &[pairs.as_slice(), &[("before", next)]].concat())) { "Older ones" } }
        }
    };
    Ok(ask.page("Audit", "audit", None, body))
}
