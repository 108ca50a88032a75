//! Discarding dead letters, and notes on their groups. What was shown is what is discarded: no letter that came later, and nothing at all if the number
//! is another one by then.

use maud::html;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::confirm::{Confirm, reason};
use super::letters::{LETTER_HEAD, letter_row};
use super::which;
use crate::domain::Timestamp;
use crate::operations::{Purpose, Which, dead_letters, filter_options, preview, shell_word};
use crate::store::Acted;

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    plan(ask, &which::read(&ask.query)?, None).await
}

async fn plan(ask: &Ask, which: &Which, note: Option<String>) -> Result<Answer, Trouble> {
    let fields = if note.is_some() { &ask.form } else { &ask.query };
    let plan = preview(ask.pool(), which, Purpose::Discard, None).await?;
    let back = which::address("dead-letters", fields, &[]);
    let confirm = Confirm {
        title: "Discard dead letters",
        section: "dead-letters",
        back: (&back, "Dead letters"),
        what: html! {
            @if let Some(note) = note { p.problem role="alert" { (note) } }
            p { span.number { (counted(plan.matched, "dead letter", "dead letters")) } " as of " (clock(plan.as_of)) }
            @if plan.handlers.len() > 1 { p { @for one in &plan.handlers { (foreign(&one.handler)) ": " (count(one.count, true)) " " } } }
            (which::describe(fields))
            @if !plan.sample.is_empty() {
                h2 { "The newest" }
                (table("The newest of them", &LETTER_HEAD, &html! { @for letter in &plan.sample { (letter_row(ask, letter, ask.now)) } }))
            }
        },
        action: "dead-letters/discard",
        fields: html! {
            (which::hidden_fields(fields))
            (hidden("as_of", &plan.as_of.to_string()))
            (hidden("expected", &plan.matched.to_string()))
            (reason_field(true, "It is kept in the audit and with each delivery."))
        },
        button: &format!("Discard {} for good", counted(plan.matched, "dead letter", "dead letters")),
        is_final: true,
        command: format!("outboxd dead-letters discard{} --because '...'", filter_options(&plan.filter)),
    };
    Ok(confirm.page(ask))
}

pub async fn act(ask: &Ask) -> Result<Answer, Trouble> {
    let which = which::read(&ask.form)?;
    let (as_of, expected) = seen(ask)?;
    let reason = reason(ask).ok_or_else(|| Trouble::invalid("because: say why these need not be delivered"))?;
    let plan = preview(ask.pool(), &which, Purpose::Discard, Some(as_of)).await?;
    match dead_letters::discard(ask.pool(), &ask.caller, &plan.filter, Some(expected), reason).await? {
        Acted::Done(_) => {
            ask.console.seen.forget();
            Ok(Answer::SeeOther(ask.links.to(&which::address("dead-letters", &ask.form, &[("done", "discarded")]))))
        }
        Acted::Drifted(found) => self::plan(ask, &which, Some(drifted(expected, found))).await,
    }
}

/// The moment and the number that the page had shown.
pub fn seen(ask: &Ask) -> Result<(Timestamp, u64), Trouble> {
    let as_of = ask.form.get("as_of").and_then(|text| text.parse().ok());
    let expected = ask.form.get("expected").and_then(|text| text.parse().ok());
    as_of.zip(expected).ok_or_else(|| Trouble::invalid("as_of, expected: are not what the page before had; go back and look again"))
}

/// Why nothing was done.
pub fn drifted(expected: u64, found: u64) -> String {
    format!(
        "Nothing was changed: {} matched when you looked, and {} by now. This is how it is now.",
        count(expected, true),
        count(found, true)
    )
}

/// The form for a note on a group.
pub async fn note_form(ask: &Ask) -> Result<Answer, Trouble> {
    let which = which::read(&ask.query)?;
    let group = which.group.ok_or_else(|| Trouble::invalid("group: expected the group that the note is about"))?;
    let (back, handler) = (which::address("dead-letters", &ask.query, &[("group", "")]), which.handler.as_deref());
    let of = handler.map(|handler| format!(" --handler {}", shell_word(handler))).unwrap_or_default();
    let confirm = Confirm {
        title: "Note on a group",
        section: "dead-letters",
        back: (&back, "Dead letters"),
        what: which::describe(&ask.query),
        action: "dead-letters/note",
        fields: html! {
            (which::hidden_fields(&ask.query))
            (reason_field(true, "A note for other operators who see this group, for example the number of the incident."))
        },
        button: "Keep the note",
        is_final: false,
        command: format!("outboxd dead-letters note {group}{of} '...'"),
    };
    Ok(confirm.page(ask))
}

pub async fn note(ask: &Ask) -> Result<Answer, Trouble> {
    let which = which::read(&ask.form)?;
    let group = which.group.ok_or_else(|| Trouble::invalid("group: expected the group that the note is about"))?;
    let text = reason(ask).ok_or_else(|| Trouble::invalid("because: write the note"))?;
    dead_letters::note(ask.pool(), &ask.caller, which.handler.as_deref(), group, text).await?;
    Ok(Answer::SeeOther(ask.links.to(&which::address("dead-letters", &ask.form, &[("group", ""), ("done", "noted")]))))
}
