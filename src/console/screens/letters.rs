//! Dead letters: groups of what failed alike first, then the letters of a group, a page at a time.

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::part;
use super::confirm::done;
use super::which;
use crate::domain::{Role, Timestamp};
use crate::operations::{OperationError, Page, dead_letters, filter_options};
use crate::store::{DeadLetter, DeadLetterGroup, DeliveryFilter, LetterPlace};

/// Groups on a page; there are few, or something is wrong with the grouping.
const GROUPS: u32 = 100;
/// Letters on a page.
const LETTERS: u32 = 50;

pub async fn groups(ask: &Ask) -> Result<Answer, Trouble> {
    let which = which::read(&ask.query)?;
    let read = async {
        let filter = which.resolve(ask.pool()).await?;
        let groups = dead_letters::groups(ask.pool(), &filter, GROUPS).await?;
        Ok::<_, OperationError>((filter, groups))
    };
    let seen = ask.console.seen.groups.get(&which::address("", &ask.query, &[]), read).await?;
    let (filter, groups) = &*seen;
    let total: u64 = groups.items.iter().map(|group| group.count).sum();
    let body = html! {
        h1 { "Dead letters" }
        p.intro { "Deliveries that were given up on, by what failed. Each stays until a person replays or discards it." }
        (done(ask))
        (which::form(&ask.links.to("dead-letters"), &ask.query))
        div data-part="groups" {
            p { strong { (counted(total, "dead letter", "dead letters")) } " in " (counted(groups.items.len() as u64, "group", "groups"))
                @if groups.more { "; only the largest " (GROUPS) " groups are shown and counted" } "." }
            @if total > 0 { (acts(ask, filter)) }
            @if groups.items.is_empty() { (nothing("No dead letter matches.")) } @else { (group_table(ask, groups)) }
        }
    };
    Ok(ask.page("Dead letters", "dead-letters", Some(10), body))
}

/// What can be done with all that match, and the lines that do the same.
fn acts(ask: &Ask, filter: &DeliveryFilter) -> Markup {
    let to = |path: &str| ask.links.to(&which::address(path, &ask.query, &[]));
    html! {
        div.acts {
            @if ask.may(Role::Operate) {
                (button(&to("replays/new"), "Replay…"))
                a.button.quiet href=(to("dead-letters/discard")) { "Discard…" }
            }
            a.button.quiet href=(to("dead-letters/list")) { "Show each letter" }
            (command(&format!("outboxd dead-letters groups{}", without_all(filter))))
        }
    }
}

/// `--all` is for acts; a list needs no word for everything.
fn without_all(filter: &DeliveryFilter) -> String {
    filter_options(filter).replacen(" --all", "", 1)
}

fn group_table(ask: &Ask, groups: &Page<DeadLetterGroup>) -> Markup {
    let rows = html! {
        @for group in &groups.items {
            @let fingerprint = group.group.map(|group| group.to_string()).unwrap_or_default();
            @let query = [("handler", group.handler.as_str()), ("group", fingerprint.as_str())];
            tr {
                td.number { (count(group.count, true)) }
                td.wide {
                    @if group.group.is_some() {
                        a href=(ask.links.to(&which::address("dead-letters/list", &ask.query, &query))) { (error(group)) }
                    } @else { (error(group)) }
                    @for note in &group.notes { p.hint { "Note of " (foreign(&note.actor)) ": " (foreign(&note.text)) } }
                }
                td { a href=(ask.links.handler(&group.handler)) { (foreign(&group.handler)) } }
                td { (reason(group.reason.as_deref(), group.status)) }
                td { (moment_or_dash(group.first, ask.now)) }
                td { (moment_or_dash(group.last, ask.now)) }
                td { a href=(ask.links.to(&format!("e/{}/{}", group.sample, part(&group.handler)))) { (foreign(&group.sample_type)) } }
                td {
                    @if ask.may(Role::Operate) && group.group.is_some() {
                        a href=(ask.links.to(&which::address("replays/new", &ask.query, &query))) { "Replay…" } " "
                        a href=(ask.links.to(&which::address("dead-letters/note", &ask.query, &query))) { "Note…" }
                    }
                }
            }
        }
    };
    table("Groups of dead letters", &["#Letters", "Failure", "Handler", "Reason", "First", "Last", "Example", "Acts"], &rows)
}

fn error(group: &DeadLetterGroup) -> Markup {
    match group.error.as_deref().filter(|error| !error.trim().is_empty()) {
        Some(error) => foreign(error),
        None => html! { "without a text" },
    }
}

/// For example "server_error (500)".
pub fn reason(reason: Option<&str>, status: Option<i32>) -> Markup {
    html! { (foreign_or_dash(reason)) @if let Some(status) = status { " (" (status) ")" } }
}

pub async fn list(ask: &Ask) -> Result<Answer, Trouble> {
    let filter = which::read(&ask.query)?.resolve(ask.pool()).await?;
    let after = ask
        .query
        .get("after")
        .map(|text| place(text).ok_or_else(|| Trouble::invalid("after: is no place in a list; go back to its first page")))
        .transpose()?;
    let letters = dead_letters::list(ask.pool(), &filter, after, LETTERS).await?;
    let next = letters.last().and_then(DeadLetter::place).map(|place| cursor(&place));
    let body = html! {
        p.crumbs { a href=(ask.links.to(&which::address("dead-letters", &ask.query, &[("group", "")]))) { "Dead letters by what failed" } }
        h1 { "Dead letters, each" }
        (which::form(&ask.links.to("dead-letters/list"), &ask.query))
        (acts(ask, &filter))
        @if letters.items.is_empty() { (nothing("No dead letter matches.")) } @else { (letter_table(ask, &letters)) }
        p.pages {
            @if after.is_some() { a href=(ask.links.to(&which::address("dead-letters/list", &ask.query, &[]))) { "The newest" } }
            @if let Some(next) = &next { a href=(ask.links.to(&which::address("dead-letters/list", &ask.query, &[("after", next)]))) { "Older ones" } }
        }
        (command(&format!("outboxd dead-letters list{}", without_all(&filter))))
    };
    Ok(ask.page("Dead letters", "dead-letters", None, body))
}

fn letter_table(ask: &Ask, letters: &Page<DeadLetter>) -> Markup {
    let rows = html! { @for letter in &letters.items { (letter_row(ask, letter, ask.now)) } };
    table("Dead letters", &LETTER_HEAD, &rows)
}

pub const LETTER_HEAD: [&str; 7] = ["Since", "Type", "Handler", "Key", "Reason", "#Attempts", "Answer"];

/// A dead letter in a list.
pub fn letter_row(ask: &Ask, letter: &DeadLetter, now: Timestamp) -> Markup {
    html! {
        tr {
            td { a href=(ask.links.to(&format!("e/{}/{}", letter.id, part(&letter.handler)))) { (moment_or_dash(letter.dead_since, now)) } }
            td { (foreign(&letter.event_type)) }
            td { (foreign(&letter.handler)) }
            td { (foreign_or_dash(letter.key.as_deref())) }
            td { (reason(letter.reason.as_deref(), letter.status)) }
            td.number { (letter.attempts) }
            td.wide { @if let Some(replay) = letter.replay { a href=(ask.links.replay(replay)) { "in a replay" } ": " } (foreign_or_dash(letter.detail.as_deref())) }
        }
    }
}

/// A place in the list, for the address of the next page.
fn cursor(place: &LetterPlace) -> String {
    format!("{}.{}.{}", place.dead_since.as_micros(), place.seq, place.subscription)
}

fn place(text: &str) -> Option<LetterPlace> {
    let mut parts = text.splitn(3, '.');
    let dead_since = Timestamp::from_micros(parts.next()?.parse().ok()?);
    Some(LetterPlace { dead_since, seq: parts.next()?.parse().ok()?, subscription: parts.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let written = LetterPlace { dead_since: Timestamp::from_micros(1_700_000_000_123_456), seq: i64::MAX, subscription: 7 };
        assert_eq!(place(&cursor(&written)), Some(written));
        for text in ["", "1", "1.2", "1.2.x", "1.2.3.4", "9223372036854775808.1.1"] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
