//! One handler: its state and why, what it has left to do, and what a person can do with it: pause, resume, close the circuit, try.

use std::time::Duration;

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::part;
use super::confirm::{Confirm, done, reason};
use super::front;
use crate::domain::Role;
use crate::operations::handlers::{self, HandlerView};
use crate::operations::shell_word;
use crate::operations::trial::{self, MadeUp, TrialView};

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let name = ask.parameter(0).to_owned();
    let handler = ask.console.seen.handlers.get(&name, handlers::show(ask.pool(), &name)).await?;
    let body = html! {
        p.crumbs { a href=(ask.links.to("")) { "Now" } }
        h1 { (foreign(&handler.name)) span.kind { " " (foreign(&handler.kind)) } }
        (done(ask))
        div data-part="handler" {
            p { (front::state(handler.state)) " " (why(&handler, ask)) }
            (numbers(&handler))
            (acts(ask, &handler))
        }
        h2 { "Related pages" }
        ul.list {
            li { a href=(ask.links.query("dead-letters", &[("handler", &handler.name)])) { "Dead letters by what failed" } }
            li { a href=(ask.links.query("keys", &[("handler", &handler.name)])) { "Keys and destinations that are blocked" } }
            li { a href=(ask.links.query("audit", &[("handler", &handler.name)])) { "Acts of operators on it" } }
        }
        (command("outboxd handlers list"))
    };
    Ok(ask.page("Handler", "", Some(5), body))
}

/// Why it is in the state that it is in.
fn why(handler: &HandlerView, ask: &Ask) -> Markup {
    html! {
        @if let Some(at) = handler.paused_at {
            "paused since " (moment(at, ask.now))
            @if let Some(by) = &handler.paused_by { " by " (foreign(by)) }
            @if let Some(reason) = &handler.pause_reason { ": " (foreign_long(reason)) }
            ". Its events wait in the log. "
        }
        @if let Some(since) = handler.failing_since {
            "failing since " (moment(since, ask.now)) @if let Some(error) = &handler.failing_error { ": " (foreign_long(error)) } ". "
        }
        @if handler.open_circuits > 0 {
            "its circuit is open" @if let Some(reason) = &handler.circuit_reason { " (" (foreign(reason)) ")" } ": events wait, and one probe at a time is sent. "
        }
        @if let Some(until) = handler.waiting_until { "its receiver asked for a pause until " (moment(until, ask.now)) ". " }
        @if handler.owned < handler.partitions { (handler.owned) " of " (handler.partitions) " partitions have a relay. " }
    }
}

fn numbers(handler: &HandlerView) -> Markup {
    let number = |number: u64, is_exact: bool| match &handler.uncounted {
        None => html! { (count(number, is_exact)) },
        Some(why) => html! { "? " span.hint { (foreign(why)) } },
    };
    facts(&[
        ("Ready, in the log", number(handler.pending, handler.pending_is_exact)),
        ("Retrying", number(handler.retrying, true)),
        ("Waiting behind a key", number(handler.waiting, true)),
        ("Dead letters", number(handler.dead, true)),
        ("Partitions", html! { (handler.owned) " of " (handler.partitions) " owned" }),
        ("Owned by", foreign_or_dash(Some(&handler.owners.join(", ")))),
    ])
}

fn acts(ask: &Ask, handler: &HandlerView) -> Markup {
    let to = |act: &str| ask.links.to(&format!("{}/{act}", path(&handler.name)));
    let name = shell_word(&handler.name);
    html! {
        @if ask.may(Role::Operate) {
            div.acts {
                @if handler.paused_at.is_some() { (button(&to("resume"), "Resume…")) (command(&format!("outboxd handlers resume {name}"))) }
                @else { a.button.quiet href=(to("pause")) { "Pause…" } }
                @if handler.open_circuits > 0 { a.button.quiet href=(to("close-circuit")) { "Close the circuit…" } }
                a.button.quiet href=(to("test")) { "Test…" }
            }
        }
    }
}

fn path(name: &str) -> String {
    format!("handlers/{}", part(name))
}

/// The page before an act on the handler.
async fn confirm(ask: &Ask, act: &str, title: &str, what: Markup, fields: Markup, line: &str) -> Result<Answer, Trouble> {
    let handler = handlers::show(ask.pool(), ask.parameter(0)).await?;
    let (back, action) = (path(&handler.name), format!("{}/{act}", path(&handler.name)));
    let what =
        html! { p { strong { (foreign(&handler.name)) } " is " (front::state(handler.state)) ". " (what) } (numbers(&handler)) };
    let command = line.replace("{}", &shell_word(&handler.name));
    let confirm = Confirm {
        title,
        section: "",
        back: (&back, "The handler"),
        what,
        action: &action,
        fields,
        button: title,
        is_final: false,
        command,
    };
    Ok(confirm.page(ask))
}

async fn finish(ask: &Ask, changed: bool, done: &str) -> Result<Answer, Trouble> {
    ask.console.seen.forget();
    let done = if changed { done } else { "unchanged" };
    Ok(Answer::SeeOther(ask.links.query(&path(ask.parameter(0)), &[("done", done)])))
}

pub async fn pause_form(ask: &Ask) -> Result<Answer, Trouble> {
    let what = html! { "While it is paused its events wait in the log; nothing is lost, and nothing is tried." };
    let fields = reason_field(true, "The handler list shows it as the reason of the pause.");
    confirm(ask, "pause", "Pause the handler", what, fields, "outboxd handlers pause {} --because '...'").await
}

pub async fn pause(ask: &Ask) -> Result<Answer, Trouble> {
    let reason = reason(ask).ok_or_else(|| Trouble::invalid("because: say why it is paused"))?;
    let change = handlers::pause(ask.pool(), &ask.caller, ask.parameter(0), reason).await?;
    finish(ask, change.changed, "paused").await
}

pub async fn resume_form(ask: &Ask) -> Result<Answer, Trouble> {
    let what = html! { "It goes on where it stopped, with what has waited in the log." };
    confirm(ask, "resume", "Resume the handler", what, html! {}, "outboxd handlers resume {}").await
}

pub async fn resume(ask: &Ask) -> Result<Answer, Trouble> {
    let change = handlers::resume(ask.pool(), &ask.caller, ask.parameter(0)).await?;
    finish(ask, change.changed, "resumed").await
}

pub async fn close_form(ask: &Ask) -> Result<Answer, Trouble> {
    let what =
        html! { "Deliveries go on at once instead of one probe at a time. If the receiver still fails, the circuit opens again." };
    let fields = reason_field(false, "It is kept in the audit.");
    confirm(ask, "close-circuit", "Close the circuit", what, fields, "outboxd handlers circuit close {} --because '...'").await
}

pub async fn close(ask: &Ask) -> Result<Answer, Trouble> {
    let change = handlers::close_circuit(ask.pool(), &ask.caller, ask.parameter(0), reason(ask)).await?;
    finish(ask, change.changed, "closed").await
}

pub async fn test_form(ask: &Ask) -> Result<Answer, Trouble> {
    let what =
        html! { "One made-up event is sent to its receiver, outside the log. It says that it is a test, but it does go out." };
    let fields = html! {
        p.field {
            label for="type" { "Type" span.hint { " (optional)" } }
            input id="type" name="type" type="text" autocomplete="off" aria-describedby="type-hint";
            span.hint id="type-hint" { "Empty: the first that the handler wants." }
        }
        p.field {
            label for="payload" { "Payload" }
            input id="payload" name="payload" type="text" value="{}" autocomplete="off" aria-describedby="payload-hint";
            span.hint id="payload-hint" { "A JSON object that the receiver can bear." }
        }
    };
    confirm(ask, "test", "Test the handler", what, fields, "outboxd handlers test {}").await
}

pub async fn test(ask: &Ask) -> Result<Answer, Trouble> {
    let name = ask.parameter(0);
    let configuration = ask.console.configuration().map_err(Trouble::invalid)?;
    let payload = ask.form.get("payload").unwrap_or("{}");
    let payload = trial::parse_payload(payload).map_err(|problem| Trouble::invalid(format!("payload: {problem}")))?;
    let found = configuration.handlers.into_iter().find(|(config, _)| config.name == name);
    let (config, built) =
        found.ok_or_else(|| Trouble::NotFound("the configuration has no handler of this name any more".to_owned()))?;
    let made_up = MadeUp { event_type: ask.form.get("type").map(str::to_owned), payload: Some(payload), aggregate: None };
    let notification = trial::made_up(&made_up, &config, ask.now);
    let trial = trial::try_once(&config, built, &notification, Some((ask.pool(), ask.schema()))).await;
    let trial = trial.map_err(|error| Trouble::invalid(crate::telemetry::chain(&error)))?;
    tracing::info!(
        actor = ask.caller.name,
        handler = name,
        delivered = trial.verdict.is_delivered(),
        "a handler was tried from the console"
    );
    Ok(ask.page("Test", "", None, tried(ask, &trial::view(&config, &notification, &trial))))
}

fn tried(ask: &Ask, trial: &TrialView) -> Markup {
    let took = Duration::from_secs_f64((trial.duration_ms / 1e3).max(0.0));
    html! {
        p.crumbs { a href=(ask.links.handler(&trial.handler)) { "The handler" } }
        h1 { "Test of " (foreign(&trial.handler)) }
        @if trial.delivered { p.done role="status" { "The receiver took it." } } @else { p.problem role="alert" { "The receiver did not take it: " (foreign(trial.reason)) } }
        (facts(&[
            ("Outcome", html! { (foreign(trial.outcome)) }),
            ("Status", html! { @match trial.status { Some(status) => (status), None => span.none { "–" } } }),
            ("Took", html! { (took.as_millis()) " ms" }),
            ("Event", html! { code { (trial.event.id) } " " (foreign(&trial.event.event_type)) }),
            ("Taken back", html! { @if trial.rolled_back { "yes: the effect of the function was rolled back" } @else { "no: it went out" } }),
        ]))
        @if !trial.detail.is_empty() { h2 { "Answer" } (foreign_block(&trial.detail, "Answer of the receiver")) }
        (command(&format!("outboxd handlers test {}", shell_word(&trial.handler))))
    }
}
