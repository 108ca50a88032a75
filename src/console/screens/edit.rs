//! Edit and replay: the recorded payload of a dead letter in a field, then what would be changed, then the act. What is recorded is a new event
//! for the handler of the letter; what is shown is what is recorded, because the second page carries the payload to the act.

use maud::{Markup, html};
use tracing::info;
use uuid::Uuid;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::part;
use super::confirm::{Confirm, reason};
use crate::domain::json::{compact_json, hides, indent_json, visible_json};
use crate::operations::corrections::{self, ContractCheck, CorrectionOrder, CorrectionPlan, Draft, edit_command};
use crate::operations::{Configuration, OperationError};

/// Bytes of a payload that can be edited here; a form has no room for more.
const LARGEST: usize = 64 * 1024;

pub async fn form(ask: &Ask) -> Result<Answer, Trouble> {
    let (id, handler) = (ask.id(0)?, ask.parameter(1));
    let (event, _) = corrections::read_letter(ask.pool(), id, handler).await?;
    if event.payload.get().len() > LARGEST {
        return Ok(only_by_command(ask, id, "The payload is too large to be edited here."));
    }
    if hides(&event.payload, &ask.rules.redact) {
        return Ok(only_by_command(ask, id, "A part of the payload is redacted for everybody here, so it cannot be edited here."));
    }
    showed(ask, id);
    Ok(page(ask, &visible_json(&indent_json(event.payload.get())), &[]))
}

/// Every look at a payload is in the log; what would be changed shows a part of one.
fn showed(ask: &Ask, id: Uuid) {
    info!(actor = ask.caller.name, event_id = %id, "a payload was shown in the console");
    ask.console.metrics.showed_payload();
}

fn only_by_command(ask: &Ask, id: Uuid, why: &str) -> Answer {
    let body = html! {
        (crumbs(ask))
        h1 { "Edit a dead letter" }
        p.problem { (why) " The command takes the whole payload from a file:" }
        (command(&edit_command(id, ask.parameter(1))))
    };
    ask.page("Edit a dead letter", "dead-letters", None, body)
}

fn crumbs(ask: &Ask) -> Markup {
    html! { p.crumbs { a href=(ask.links.to(&letter(ask))) { "The dead letter" } } }
}

/// Path of the page of the letter.
fn letter(ask: &Ask) -> String {
    format!("e/{}/{}", part(ask.parameter(0)), part(ask.parameter(1)))
}

/// The field with a payload. Whatever is wrong with it stands above.
fn page(ask: &Ask, payload: &str, problems: &[String]) -> Answer {
    let body = html! {
        (crumbs(ask))
        h1 { "Edit a dead letter" }
        @for problem in problems { p.problem role="alert" { (foreign_long(problem)) } }
        p.intro {
            "The corrected payload becomes a new event that only " strong { (foreign(ask.parameter(1))) }
            " receives. The dead letter is discarded. Nothing is changed before you have seen what would change."
        }
        form method="post" action=(ask.links.to(&format!("{}/edit", letter(ask)))) {
            p.field {
                label for="payload" { "Payload, a JSON object" }
                // A browser leaves out the first line break of the field.
                textarea id="payload" name="payload" rows="18" spellcheck="false" autocomplete="off" required aria-describedby="payload-hint" { "\n" (payload) }
                span.hint id="payload-hint" { "Numbers keep every digit. Characters that cannot be seen stand as escapes. White space between values is not kept." }
            }
            p { button type="submit" { "Show what would change" } " " a href=(ask.links.to(&letter(ask))) { "Leave it" } }
        }
    };
    ask.page("Edit a dead letter", "dead-letters", None, body)
}

/// What would be changed. A payload that cannot be recorded comes back with what is wrong with it.
pub async fn preview(ask: &Ask) -> Result<Answer, Trouble> {
    let typed = ask.form.need("payload", "the corrected payload")?;
    match plan(ask, typed).await {
        Ok(plan) => {
            showed(ask, plan.event);
            Ok(confirm(ask, &plan, typed))
        }
        Err(Trouble::Operation(OperationError::Refused(refusal))) if is_about_payload(&refusal) => {
            Ok(page(ask, &visible_json(typed), &[refusal.text]))
        }
        Err(trouble) => Err(trouble),
    }
}

fn is_about_payload(refusal: &crate::operations::Refusal) -> bool {
    refusal.kind == crate::operations::RefusalKind::Invalid
}

async fn plan(ask: &Ask, typed: &str) -> Result<CorrectionPlan, Trouble> {
    let payload = compact_json(typed);
    let draft = Draft { event: ask.id(0)?, handler: ask.parameter(1), payload: &payload, redact: &ask.rules.redact };
    let configuration = configuration(ask)?;
    Ok(corrections::plan(ask.pool(), configuration.as_ref(), &draft).await?)
}

/// For the contracts. One that cannot be read now is told: nobody should think that the payload was checked.
fn configuration(ask: &Ask) -> Result<Option<Configuration>, Trouble> {
    match ask.console.configuration.is_some() {
        true => ask.console.configuration().map(Some).map_err(|why| Trouble::invalid(format!("the configuration: {why}"))),
        false => Ok(None),
    }
}

fn confirm(ask: &Ask, plan: &CorrectionPlan, typed: &str) -> Answer {
    let back = letter(ask);
    let what = html! {
        p { span.number { (counted(plan.changes.len() as u64, "change", "changes")) } " of the payload of " (foreign(&plan.event_type)) }
        (changes(plan))
        ul.list {
            li { "Only " strong { (foreign(&plan.handler)) } " receives the new event. Other handlers, projections and clients of the feed do not." }
            li { "The dead letter is discarded in the same moment." }
            @if let Some(key) = &plan.key { li { "The new event comes last in the order of key " (foreign(key)) "." } }
            li { (contract(plan.contract)) }
        }
    };
    let fields = html! {
        (hidden("payload", &compact_json(typed)))
        (hidden("correction", &Uuid::new_v4().to_string()))
        @if plan.followers > 0 {
            p.problem { (counted(plan.followers, "event of the key waits", "events of the key wait")) " behind this dead letter. They would be delivered before the correction." }
            p.choice { label { input type="checkbox" name="force" value="yes" required; " That is right for this key" } }
        }
        (reason_field(true, "It is kept in the audit, which names the places that changed and no values."))
    };
    let confirm = Confirm {
        title: "Record the corrected event",
        section: "dead-letters",
        back: (&back, "The dead letter"),
        what,
        action: &format!("{back}/edit/record"),
        fields,
        button: "Record it and discard the letter",
        is_final: true,
        command: edit_command(plan.event, &plan.handler),
    };
    confirm.page(ask)
}

fn changes(plan: &CorrectionPlan) -> Markup {
    let value = |value: &Option<String>| html! { @match value { Some(value) => code { (foreign_long(value)) }, None => span.none { "absent" } } };
    let rows = html! {
        @for change in &plan.changes {
            tr { th scope="row" { (foreign(&change.path)) } td.wide { (value(&change.was)) } td.wide { (value(&change.now)) } }
        }
    };
    table("Changes", &["Place", "Was", "Becomes"], &rows)
}

fn contract(check: ContractCheck) -> &'static str {
    match check {
        ContractCheck::Valid => "The payload is valid under its contract.",
        ContractCheck::None => "The type has no contract.",
        ContractCheck::Unchecked => {
            "No contract was checked: this process has no configuration. The relay checks it at the attempt."
        }
    }
}

pub async fn record(ask: &Ask) -> Result<Answer, Trouble> {
    let typed = ask.form.need("payload", "the corrected payload")?;
    let id: Uuid = ask
        .form
        .get("correction")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Trouble::invalid("correction: is not what the page before had; go back and look again"))?;
    let why = reason(ask).ok_or_else(|| Trouble::invalid("because: say what was wrong with the payload"))?;
    let (event, handler) = (ask.id(0)?, ask.parameter(1));
    let known = corrections::find(ask.pool(), event, handler, (id, &compact_json(typed))).await?;
    if known.is_none() {
        let plan = plan(ask, typed).await?;
        let order = CorrectionOrder { id, reason: why, force: ask.form.get("force").is_some() };
        corrections::carry_out(ask.pool(), &ask.caller, &plan, &order).await?;
        ask.console.seen.forget();
    }
    let done = if known.is_some() { "edited-before" } else { "edited" };
    Ok(Answer::SeeOther(ask.links.query(&format!("e/{id}/{}", part(handler)), &[("done", done)])))
}
