//! Replays: which there were, how far one is and what has become of it; cancelled and taken up again. A replay goes on without any page.

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::{Ask, Fields};
use super::super::html::*;
use super::confirm::{Confirm, done, reason};
use super::front::progress;
use super::which;
use crate::domain::{Role, Timestamp};
use crate::operations::replays;
use crate::store::{Replay, ReplayPlace};

/// Replays on a page.
const REPLAYS: u32 = 30;

pub async fn list(ask: &Ask) -> Result<Answer, Trouble> {
    let after = ask
        .query
        .get("after")
        .map(|text| place(text).ok_or_else(|| Trouble::invalid("after: is no place in a list; go back to its first page")))
        .transpose()?;
    let page = replays::list(ask.pool(), after, REPLAYS).await?;
    let next = page.last().map(|replay| format!("{}.{}", replay.at.as_micros(), replay.id));
    let rows = html! {
        @for replay in &page.items {
            tr {
                td { a href=(ask.links.replay(replay.id)) { (moment(replay.at, ask.now)) } }
                td { (foreign(replay.handler.as_deref().unwrap_or("all handlers"))) }
                td { (state(replay)) }
                td { (progress(replay)) }
                td { (foreign(&replay.actor)) }
                td.wide { (foreign_or_dash(replay.note.as_deref())) }
            }
        }
    };
    let body = html! {
        h1 { "Replays" }
        p.intro { "Sets of dead letters that people had delivered once more, each frozen when it was asked for." }
        div data-part="replays" {
            @if page.items.is_empty() { (nothing("There are no replays yet. Start a replay from the dead letters.")) }
            @else { (table("Replays", &["Asked", "Handler", "State", "Progress", "By", "Why"], &rows)) }
        }
        p.pages {
            @if after.is_some() { a href=(ask.links.to("replays")) { "The newest" } }
            @if let Some(next) = &next { a href=(ask.links.query("replays", &[("after", next)])) { "Older ones" } }
        }
        (command("outboxd replays list"))
    };
    Ok(ask.page("Replays", "replays", Some(5), body))
}

fn place(text: &str) -> Option<ReplayPlace> {
    let (at, id) = text.split_once('.')?;
    Some(ReplayPlace { at: Timestamp::from_micros(at.parse().ok()?), id: id.parse().ok()? })
}

fn state(replay: &Replay) -> Markup {
    let class = match replay.state.as_str() {
        "done" if replay.failed == 0 => "ok",
        "done" | "cancelled" => "warning",
        _ => "info",
    };
    badge(class, &replay.state)
}

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let replay = replays::show(ask.pool(), ask.id(0)?).await?;
    let live = (!replay.is_over()).then_some(2);
    let body = html! {
        p.crumbs { a href=(ask.links.to("replays")) { "Replays" } }
        h1 { "Replay of " (foreign(replay.handler.as_deref().unwrap_or("all handlers"))) }
        (done(ask))
        div data-part="replay" {
            p { (state(&replay)) " " (progress(&replay)) }
            (facts(&[
                ("Asked", html! { (count(replay.asked, true)) " by " (foreign(&replay.actor)) ", " (moment(replay.at, ask.now)) }),
                ("Delivered", html! { (count(replay.delivered, true)) }),
                ("Failed again", html! { (count(replay.failed, true)) }),
                ("To leave", html! { (count(replay.held, true)) }),
                ("Under way", html! { (count(replay.released, true)) }),
                ("Cancelled", html! { (count(replay.cancelled, true)) @if let Some(by) = &replay.cancelled_by { " by " (foreign(by)) } }),
                ("Dropped", html! { (count(replay.dropped, true)) }),
                ("Rate", html! { @match replay.rate { Some(rate) => { "at most " (describe_rate(rate)) }, None => "as many as the handlers take" } }),
                ("Ended", moment_or_dash(replay.ended_at, ask.now)),
                ("Why", foreign_or_dash(replay.note.as_deref())),
            ]))
            @if !replay.stopped.is_empty() && !replay.is_over() {
                p.problem { "It waits: " @for name in &replay.stopped { a href=(ask.links.handler(name)) { (foreign(name)) } " " } "does not deliver now." }
            }
            (next_steps(ask, &replay))
        }
        h2 { "Request" }
        (foreign_block(&replay.filter.to_string(), "The filter of the replay"))
        (command(&format!("outboxd replays show {}", replay.id)))
    };
    Ok(ask.page("Replay", "replays", live, body))
}

/// What a person may want to do now.
fn next_steps(ask: &Ask, replay: &Replay) -> Markup {
    let handler = replay.handler.as_deref().unwrap_or_default();
    let rest = ask.query.get("rest").map(|rest| Fields::parse(rest.as_bytes()));
    let since = replay.at.to_string();
    html! {
        div.acts {
            @if ask.may(Role::Operate) && replay.held > 0 && replay.state == "running" {
                (button(&ask.links.to(&format!("replays/{}/cancel", replay.id)), "Cancel…"))
            }
            @if ask.may(Role::Operate) && replay.state == "cancelled" && replay.cancelled > 0 {
                (button(&ask.links.to(&format!("replays/{}/resume", replay.id)), "Take up again…"))
            }
            @if let Some(rest) = rest.filter(|_| ask.may(Role::Operate) && replay.is_over()) {
                (button(&ask.links.to(&which::address("replays/new", &rest, &[])), "Replay the rest…"))
            }
            @if replay.failed > 0 {
                a.button.quiet href=(ask.links.query("dead-letters", &[("handler", handler), ("since", &since)])) { "Failed again" }
            }
        }
    }
}

fn describe_rate(rate: f64) -> String {
    match rate {
        rate if rate >= 1.0 => format!("{rate:.0}/s"),
        rate if rate * 60.0 >= 1.0 => format!("{:.0}/m", rate * 60.0),
        rate => format!("{:.0}/h", rate * 3600.0),
    }
}

pub async fn cancel_form(ask: &Ask) -> Result<Answer, Trouble> {
    let replay = replays::show(ask.pool(), ask.id(0)?).await?;
    let (path, action) = (format!("replays/{}", replay.id), format!("replays/{}/cancel", replay.id));
    let confirm = Confirm {
        title: "Cancel the replay",
        section: "replays",
        back: (&path, "The replay"),
        what: html! { p { span.number { (counted(replay.held, "delivery", "deliveries")) } " have not left yet and stay dead letters. "
        (count(replay.released, true)) " are under way and go on." } },
        action: &action,
        fields: reason_field(false, "It is kept in the audit."),
        button: "Cancel the replay",
        is_final: false,
        command: format!("outboxd replays cancel {}", replay.id),
    };
    Ok(confirm.page(ask))
}

pub async fn cancel(ask: &Ask) -> Result<Answer, Trouble> {
    let id = ask.id(0)?;
    replays::cancel(ask.pool(), &ask.caller, id, reason(ask)).await?;
    ask.console.seen.forget();
    Ok(Answer::SeeOther(ask.links.query(&format!("replays/{id}"), &[("done", "cancelled")])))
}

pub async fn resume_form(ask: &Ask) -> Result<Answer, Trouble> {
    let replay = replays::show(ask.pool(), ask.id(0)?).await?;
    let (path, action) = (format!("replays/{}", replay.id), format!("replays/{}/resume", replay.id));
    let confirm = Confirm {
        title: "Take the replay up again",
        section: "replays",
        back: (&path, "The replay"),
        what: html! { p { span.number { (counted(replay.cancelled, "delivery", "deliveries")) } " were taken back. Those that are still dead letters leave now." } },
        action: &action,
        fields: html! {},
        button: "Take it up again",
        is_final: false,
        command: format!("outboxd replays resume {}", replay.id),
    };
    Ok(confirm.page(ask))
}

pub async fn resume(ask: &Ask) -> Result<Answer, Trouble> {
    let id = ask.id(0)?;
    let held = replays::resume(ask.pool(), &ask.caller, id).await?;
    ask.console.seen.forget();
    let done = if held == 0 { "unchanged" } else { "taken-up" };
    Ok(Answer::SeeOther(ask.links.query(&format!("replays/{id}"), &[("done", done)])))
}
