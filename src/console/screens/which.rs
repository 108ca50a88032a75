//! Which deliveries a page is about: the same words in every query, in every form and on the command line.

use maud::{Markup, html};

use super::super::answer::Trouble;
use super::super::ask::Fields;
use super::super::html::{facts, foreign, hidden};
use super::super::links::with_query;
use crate::domain::Reason;
use crate::operations::{Moment, Which, parse_moment};

/// Names in queries and forms, each with its label and what can be written.
pub const FILTER: &[(&str, &str, &str)] = &[
    ("handler", "Handler", ""),
    ("type", "Type", "order.*"),
    ("key", "Key", "order/42"),
    ("reason", "Reason", "timeout"),
    ("text", "Text in the answer", ""),
    ("since", "Since", "2h, or a moment"),
    ("until", "Until", ""),
    ("group", "Group", ""),
];

/// Ids that a filter may name.
const MOST_IDS: usize = 100;

/// The deliveries that a query or a form names; every mistake in it is told.
pub fn read(fields: &Fields) -> Result<Which, Trouble> {
    let mut mistakes = Vec::new();
    let text = |name: &str| fields.get(name).map(str::to_owned);
    let mut moment = |name: &str| -> Option<Moment> {
        parse_moment(fields.get(name)?).map_err(|expected| mistakes.push(format!("{name}: {expected}"))).ok()
    };
    let (since, until) = (moment("since"), moment("until"));
    let group =
        fields.get("group").and_then(|text| text.parse().map_err(|expected| mistakes.push(format!("group: {expected}"))).ok());
    let reason = text("reason");
    if let Some(reason) = reason.as_ref().filter(|reason| !Reason::ALL.iter().any(|known| known.as_str() == reason.as_str())) {
        mistakes.push(format!("reason: got {reason:?}, expected a word such as timeout or server_error; docs/metrics.md has all"));
    }
    let mut ids = Vec::new();
    for id in fields.all("id") {
        match id.parse() {
            Ok(id) => ids.push(id),
            Err(_) => mistakes.push(format!("id: got {id:?}, expected the id of an event")),
        }
    }
    if ids.len() > MOST_IDS {
        mistakes.push(format!("id: got {}, expected at most {MOST_IDS}", ids.len()));
    }
    if !mistakes.is_empty() {
        return Err(Trouble::Invalid(mistakes));
    }
    Ok(Which {
        delivered: false,
        handler: text("handler"),
        event_type: text("type"),
        key: text("key"),
        reason,
        ids,
        since,
        until,
        text: text("text"),
        group,
    })
}

/// What a query or a form says of it, for the next page.
pub fn pairs(fields: &Fields) -> Vec<(&str, &str)> {
    let ids = fields.all("id").map(|id| ("id", id));
    FILTER.iter().filter_map(|(name, ..)| Some((*name, fields.get(name)?))).chain(ids).collect()
}

/// The same without one part, and with others in its place.
pub fn with<'a>(fields: &'a Fields, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = pairs(fields).into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    kept.chain(more.iter().copied()).collect()
}

/// A page of ours about the same deliveries.
pub fn address(path: &str, fields: &Fields, more: &[(&str, &str)]) -> String {
    with_query(path, &with(fields, more))
}

/// As hidden fields of a form.
pub fn hidden_fields(fields: &Fields) -> Markup {
    html! { @for (name, value) in pairs(fields) { (hidden(name, value)) } }
}

/// In words.
pub fn describe(fields: &Fields) -> Markup {
    let ids = fields.all("id").count();
    let chosen: Vec<(&str, Markup)> =
        FILTER.iter().filter_map(|(name, label, _)| Some((*label, foreign(fields.get(name)?)))).collect();
    html! {
        @if chosen.is_empty() && ids == 0 { p { "Every dead letter of every handler." } } @else { (facts(&chosen)) }
        @if ids > 0 { p { "Only " (ids) " named " @if ids == 1 { "event" } @else { "events" } "." } }
    }
}

/// The form in which a person narrows what a list shows. Its address can be kept and sent.
pub fn form(action: &str, fields: &Fields) -> Markup {
    html! {
        form.filter method="get" action=(action) role="search" {
            @for (place, (name, label, example)) in FILTER.iter().enumerate() {
                p.field {
                    label for=(format!("filter-{name}")) { (label) }
                    input id=(format!("filter-{name}")) name=(name) type="text" value=[fields.get(name)] placeholder=[Some(*example).filter(|example| !example.is_empty())]
                        autocomplete="off" data-search[place == 0];
                }
            }
            p { button.quiet type="submit" { "Filter" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_says_is_kept_from_page_to_page() {
        let fields = Fields::parse(b"handler=bill%2Fing&since=2h&reason=timeout&group=&other=1&after=3");
        let which = read(&fields).unwrap_or_else(|trouble| panic!("{trouble:?}"));
        assert_eq!((which.handler.as_deref(), which.group), (Some("bill/ing"), None));
        assert_eq!(address("dead-letters/list", &fields, &[]), "dead-letters/list?handler=bill%2Fing&reason=timeout&since=2h");
        assert_eq!(address("x", &fields, &[("since", "1h")]), "x?handler=bill%2Fing&reason=timeout&since=1h");
    }

    #[test]
    fn every_mistake_of_a_query_is_told() {
        let Err(Trouble::Invalid(mistakes)) = read(&Fields::parse(b"since=yesterday&until=never&group=x&reason=bad&id=1")) else {
            panic!("it is wrong")
        };
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
    }
}
