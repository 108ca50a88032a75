//! Keys: what waits behind a failed event although its handler goes on, destinations in trouble, and letting a key go on.

use maud::html;

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::super::links::part;
use super::confirm::{Confirm, done, reason};
use super::event::state_badge;
use super::letters::reason as failure;
use crate::domain::Role;
use crate::operations::keys::{self, Blocked};
use crate::operations::shell_word;
use crate::store::BlockedKey;

/// Keys on the page, those with the most followers.
const KEYS: u32 = 100;

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let handler = ask.query.get("handler");
    let seen = ask.console.seen.keys.get(&handler.map(str::to_owned), keys::list(ask.pool(), handler, KEYS)).await?;
    let Blocked { keys, destinations, only_witnesses } = &*seen;
    let rows = html! {
        @for key in keys {
            tr {
                td { (foreign(&key.key)) }
                td { a href=(ask.links.handler(&key.handler)) { (foreign(&key.handler)) } }
                td.number { (count(key.followers, true)) }
                td { a href=(ask.links.to(&format!("e/{}/{}", key.head, part(&key.handler)))) { (foreign(&key.event_type)) } " " (state_badge(&key.state)) }
                td { (failure(key.reason.as_deref(), key.status)) }
                td { (moment_or_dash(key.due_at, ask.now)) }
                td { @if ask.may(Role::Operate) { a href=(ask.links.query("keys/skip", &[("handler", &key.handler), ("key", &key.key)])) { "Skip…" } } }
            }
        }
    };
    let troubled = html! {
        @for destination in destinations {
            tr {
                td { (foreign(&destination.destination)) }
                td { a href=(ask.links.handler(&destination.handler)) { (foreign(&destination.handler)) } }
                td { (foreign(&destination.reason)) }
                td { (moment(destination.since, ask.now)) }
                td { (moment(destination.probe_at, ask.now)) }
            }
        }
    };
    let body = html! {
        h1 { "Blocked keys" }
        p.intro { "Per handler and key, events leave one after the other. Behind one that fails the later ones of its key wait; other keys go on." }
        (done(ask))
        div data-part="keys" {
            @if keys.is_empty() { (nothing("No key is blocked.")) }
            @else { (table("Blocked keys", &["Key", "Handler", "#Waiting", "Behind", "Reason", "Next attempt", "Acts"], &rows)) }
            @if keys.len() == KEYS as usize { p.hint { "Only the " (KEYS) " keys with the most waiting events are shown." } }
            @if !destinations.is_empty() {
                h2 { "Destinations in trouble" }
                (table("Destinations in trouble", &["Destination", "Handler", "Reason", "Since", "Next probe"], &troubled))
            }
            @if !only_witnesses.is_empty() {
                h2 { "Events by which alone a circuit is judged" }
                ul.list { @for witness in only_witnesses { li {
                    a href=(ask.links.to(&format!("e/{}/{}", witness.event, part(&witness.handler)))) { (witness.event) }
                    " of " (foreign(&witness.handler)) ": " (foreign_or_dash(witness.reason.as_deref()))
                } } }
            }
        }
        (command(&match handler {
            Some(handler) => format!("outboxd keys list --handler {}", shell_word(handler)),
            None => "outboxd keys list".to_owned(),
        }))
    };
    Ok(ask.page("Keys", "keys", Some(5), body))
}

/// The key that is named, as it is now.
async fn find(ask: &Ask, handler: &str, key: &str) -> Result<BlockedKey, Trouble> {
    let found = keys::list(ask.pool(), Some(handler), 10_000).await?.keys.into_iter().find(|blocked| blocked.key == key);
    found.ok_or_else(|| Trouble::NotFound("this key waits for nothing (any more)".to_owned()))
}

pub async fn skip_form(ask: &Ask) -> Result<Answer, Trouble> {
    let (handler, name) = (ask.query.need("handler", "the handler")?, ask.query.need("key", "the key")?);
    let key = find(ask, handler, name).await?;
    let confirm = Confirm {
        title: "Skip what the key waits for",
        section: "keys",
        back: ("keys", "Keys"),
        what: html! {
            (facts(&[("Key", foreign(&key.key)), ("Handler", foreign(&key.handler)), ("Event", html! { (foreign(&key.event_type)) " " (state_badge(&key.state)) }),
                ("Reason", failure(key.reason.as_deref(), key.status)), ("Waiting behind it", html! { (count(key.followers, true)) })]))
            p { "The event becomes a dead letter, which stays until an operator decides, and the events behind it are delivered. "
                "That is another order than the one in which things happened: the receiver must be able to bear it." }
        },
        action: "keys/skip",
        fields: html! {
            (hidden("handler", handler)) (hidden("key", name)) (hidden("seen", &key.head.to_string()))
            (reason_field(true, "It is kept in the audit and with the dead letter."))
        },
        button: "Skip this event",
        is_final: true,
        command: format!("outboxd keys skip {} {} --because '...'", shell_word(handler), shell_word(name)),
    };
    Ok(confirm.page(ask))
}

pub async fn skip(ask: &Ask) -> Result<Answer, Trouble> {
    let (handler, key) = (ask.form.need("handler", "the handler")?, ask.form.need("key", "the key")?);
    let seen = ask
        .form
        .need("seen", "the event that the page had shown")?
        .parse()
        .map_err(|_| Trouble::invalid("seen: is no id of an event"))?;
    let reason = reason(ask).ok_or_else(|| Trouble::invalid("because: say why the event need not be delivered first"))?;
    keys::skip(ask.pool(), &ask.caller, (handler, key), Some(seen), reason).await?;
    ask.console.seen.forget();
    Ok(Answer::SeeOther(ask.links.query("keys", &[("done", "skipped")])))
}
