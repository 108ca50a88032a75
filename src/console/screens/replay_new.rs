//! Starting a replay: what would leave, a first few to begin with if wanted, the rate, and one button. The id is made with the page, so that a form that
//! is sent twice starts one replay.

use maud::{Markup, html};
use uuid::Uuid;

use super::super::answer::{Answer, Trouble};
use super::super::ask::{Ask, Fields};
use super::super::html::*;
use super::super::links::with_query;
use super::confirm::{Confirm, reason};
use super::discard::{drifted, seen};
use super::letters::{LETTER_HEAD, letter_row};
use super::which;
use crate::operations::replays::{self, ReplayOrder, parse_rate};
use crate::operations::{Preview, Purpose, Which, filter_options, preview};
use crate::store::{self, Started};

/// The most that can go first; more is what the rate is for.
const MOST_FIRST: u32 = 100;
/// What is offered to begin with.
const FIRST: u32 = 10;

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    plan(ask, &ask.query, None).await
}

async fn plan(ask: &Ask, fields: &Fields, note: Option<String>) -> Result<Answer, Trouble> {
    let which = which::read(fields)?;
    let plan = preview(ask.pool(), &which, Purpose::Replay, None).await?;
    let first = first(ask, &plan, &which).await?;
    let (rate, id) = (fields.get("rate").unwrap_or_default(), Uuid::new_v4());
    let back = which::address("dead-letters", fields, &[]);
    let rate_option = if rate.is_empty() { String::new() } else { format!(" --rate {rate}") };
    let confirm = Confirm {
        title: "Replay dead letters",
        section: "replays",
        back: (&back, "Dead letters"),
        what: html! {
            @if let Some(note) = note { p.problem role="alert" { (note) } }
            p { span.number { (counted(plan.matched, "dead letter", "dead letters")) } " as of " (clock(plan.as_of)) }
            @if plan.handlers.len() > 1 { p { @for one in &plan.handlers { (foreign(&one.handler)) ": " (count(one.count, true)) " " } } }
            (which::describe(fields))
            p.hint { "Each keeps its id. Per handler and key they leave in order, behind older events of the key that are not finished. "
                "Letters that another replay holds are not among them." }
            @if !plan.sample.is_empty() {
                h2 { "The newest" }
                (table("The newest of them", &LETTER_HEAD, &html! { @for letter in &plan.sample { (letter_row(ask, letter, ask.now)) } }))
            }
        },
        action: "replays/new",
        fields: html! {
            (which::hidden_fields(fields))
            (hidden("as_of", &plan.as_of.to_string()))
            (hidden("expected", &plan.matched.to_string()))
            (hidden("replay", &id.to_string()))
            @if first.len() > 1 && (first.len() as u64) < plan.matched { (choice(&first)) }
            p.field {
                label for="rate" { "At most" span.hint { " (optional)" } }
                input id="rate" name="rate" type="text" value=(rate) placeholder="200/s" autocomplete="off" aria-describedby="rate-hint";
                span.hint id="rate-hint" { "Deliveries in a second, a minute (10/m) or an hour (1000/h), over all handlers. Empty: as many as the handlers take." }
            }
            (reason_field(false, "It is kept in the audit."))
        },
        button: "Replay",
        is_final: false,
        command: format!("outboxd replay{}{rate_option}", filter_options(&plan.filter)),
    };
    Ok(confirm.page(ask))
}

/// All of them, or a few to see whether it works now.
fn choice(first: &[Uuid]) -> Markup {
    let count = first.len();
    html! {
        fieldset {
            legend { "How many" }
            p { input id="how-first" type="radio" name="how" value="first" checked; " " label for="how-first" { "The oldest " (count) " first" }
                span.hint { " – then the rest, when these have shown that it works" } }
            p { input id="how-all" type="radio" name="how" value="all"; " " label for="how-all" { "All of them" } }
            @for id in first { input type="hidden" name="first" value=(id); }
        }
    }
}

/// The oldest few of them.
async fn first(ask: &Ask, plan: &Preview, which: &Which) -> Result<Vec<Uuid>, Trouble> {
    let wanted = ask.query.get("first").and_then(|text| text.parse().ok()).unwrap_or(FIRST).clamp(1, MOST_FIRST);
    if plan.matched <= 1 || !which.ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(store::find_oldest_replayable(ask.pool(), &plan.filter, wanted).await?)
}

pub async fn act(ask: &Ask) -> Result<Answer, Trouble> {
    let (as_of, expected) = seen(ask)?;
    let id: Uuid = ask
        .form
        .get("replay")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Trouble::invalid("replay: is no id; go back and look again"))?;
    let rate = ask
        .form
        .get("rate")
        .map(|rate| parse_rate(rate).map_err(|expected| Trouble::invalid(format!("rate: {expected}"))))
        .transpose()?;
    let first: Vec<Uuid> = ask.form.all("first").filter_map(|id| id.parse().ok()).take(MOST_FIRST as usize).collect();
    let is_first = ask.form.get("how") == Some("first") && !first.is_empty();
    let mut which = which::read(&ask.form)?;
    let mut order = ReplayOrder { id, rate, note: reason(ask).map(str::to_owned), force: false, expected: Some(expected) };
    if is_first {
        which.ids = first;
        // The number that was shown is that of all; of these, so many as are still there.
        order.expected = None;
    }
    let plan = preview(ask.pool(), &which, Purpose::Replay, Some(as_of)).await?;
    let rest = if is_first { with_query("", &which::pairs(&ask.form)) } else { String::new() };
    let rest = rest.strip_prefix('?').unwrap_or_default();
    let to = |done: &str| Ok(Answer::SeeOther(ask.links.query(&format!("replays/{id}"), &[("done", done), ("rest", rest)])));
    match replays::start(ask.pool(), &ask.caller, &plan.filter, &order).await? {
        Started::Frozen(0) => {
            self::plan(ask, &ask.form, Some("Nothing was left to replay. This is how it is now.".to_owned())).await
        }
        Started::Frozen(_) => {
            ask.console.seen.forget();
            to("started")
        }
        Started::Known => to("known"),
        Started::Drifted(found) => self::plan(ask, &ask.form, Some(drifted(expected, found))).await,
        Started::Taken => Err(Trouble::invalid("replay: belongs to another replay; go back and look again")),
    }
}
