//! Alerts: what a human must know of, saying that one knows, being told nothing for a while; and how each channel is doing.

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use super::confirm::{done, reason};
use super::front::severity_class;
use crate::domain::Role;
use crate::operations::alerts::{self, AlertView};
use crate::operations::shell_word;
use crate::settings::parse_duration;
use crate::store::alerts::ChannelRow;

pub async fn list(ask: &Ask) -> Result<Answer, Trouble> {
    let all = ask.query.get("all").is_some();
    let found = alerts::list(ask.pool(), all).await?;
    let body = html! {
        h1 { "Alerts" }
        (done(ask))
        div data-part="alerts" {
            @if found.alerts.is_empty() { (nothing("Nothing fires.")) } @else { (alert_table(ask, &found.alerts)) }
            p { @if all { a href=(ask.links.to("alerts")) { "Only what fires" } } @else { a href=(ask.links.query("alerts", &[("all", "yes")])) { "Also what is over, for 30 days" } } }
            h2 { "Channels" }
            @if found.channels.is_empty() { (nothing("No channel is configured, or no relay has looked after alerts yet: alerts are lines in the log.")) }
            @else { (channel_table(ask, &found.channels)) }
        }
        (command(if all { "outboxd alerts list --all" } else { "outboxd alerts list" }))
    };
    Ok(ask.page("Alerts", "alerts", Some(10), body))
}

fn alert_table(ask: &Ask, alerts: &[AlertView]) -> Markup {
    let rows = html! {
        @for AlertView { alert, key, summary, command } in alerts {
            tr {
                td { (badge(severity_class(alert.severity), alert.severity.as_str())) }
                td.wide { strong { (foreign(key)) } p { (foreign(summary)) } (super::super::html::command(command)) }
                td {
                    (alert.status.as_str())
                    @if let Some(by) = &alert.acknowledged_by { " by " (foreign(by)) }
                    @if let Some(until) = alert.snoozed_until.filter(|_| alert.is_snoozed(ask.now)) { ", silent until " (moment(until, ask.now)) }
                }
                td { (moment(alert.started_at, ask.now)) }
                td { @if ask.may(Role::Operate) && alert.status.is_active() { a href=(ask.links.query("alerts/act", &[("alert", key)])) { "Acknowledge or snooze…" } } }
            }
        }
    };
    table("Alerts", &["Severity", "Alert", "State", "Since", "Acts"], &rows)
}

fn channel_table(ask: &Ask, channels: &[ChannelRow]) -> Markup {
    let rows = html! {
        @for channel in channels {
            tr {
                th scope="row" { (foreign(&channel.name)) span.kind { " " (foreign(&channel.kind)) } }
                td { @if channel.failures == 0 { (badge("ok", "works")) } @else { (badge("critical", &format!("failed {} times", channel.failures))) } }
                td { (moment_or_dash(channel.last_sent_at, ask.now)) }
                td.wide { (foreign_or_dash(channel.last_error.as_deref().filter(|_| channel.failures > 0))) }
            }
        }
    };
    table("Channels", &["Channel", "State", "Last sent", "Last error"], &rows)
}

/// The page on which one alert is acknowledged or silenced.
pub async fn form(ask: &Ask) -> Result<Answer, Trouble> {
    let key = ask.query.need("alert", "the alert")?;
    let found = alerts::list(ask.pool(), false).await?.alerts.into_iter().find(|view| view.key == key);
    let view = found.ok_or_else(|| Trouble::NotFound("this alert does not fire (any more)".to_owned()))?;
    let word = shell_word(&view.key);
    let field = |id: &str| {
        html! {
            p.field {
                label for=(id) { "Why" span.hint { " (optional)" } }
                input id=(id) name="because" type="text" maxlength="500" autocomplete="off";
            }
        }
    };
    let body = html! {
        p.crumbs { a href=(ask.links.to("alerts")) { "Alerts" } }
        h1 { (foreign(&view.key)) }
        div.chosen { p { (badge(severity_class(view.alert.severity), view.alert.severity.as_str())) " " (foreign(&view.summary)) }
            p { (view.alert.status.as_str()) " since " (moment(view.alert.started_at, ask.now)) } }
        h2 { "Acknowledge" }
        p { "All operators see the acknowledgement. The alert is not repeated until it gets worse or is over." }
        form method="post" action=(ask.links.to("alerts/ack")) {
            (hidden("alert", &view.key)) (field("why-acknowledged"))
            p { button type="submit" { "Acknowledge" } }
        }
        (command(&format!("outboxd alerts ack {word} --because '...'")))
        h2 { "Snooze" }
        p { "The alert is not sent for a while. When the time is over, its state at that time is sent." }
        form method="post" action=(ask.links.to("alerts/snooze")) {
            (hidden("alert", &view.key))
            p.field {
                label for="time" { "For" }
                input id="time" name="for" type="text" value="1h" required autocomplete="off" aria-describedby="time-hint";
                span.hint id="time-hint" { "Such as 30m or 2h; 0s ends a snooze." }
            }
            (field("why-snoozed"))
            p { button type="submit" { "Snooze" } }
        }
        (command(&format!("outboxd alerts snooze {word} --for 1h --because '...'")))
    };
    Ok(ask.page("Alert", "alerts", None, body))
}

pub async fn acknowledge(ask: &Ask) -> Result<Answer, Trouble> {
    let key = ask.form.need("alert", "the alert")?;
    let change = alerts::acknowledge(ask.pool(), &ask.caller, key, reason(ask)).await?;
    finish(ask, change.changed, "acknowledged").await
}

pub async fn snooze(ask: &Ask) -> Result<Answer, Trouble> {
    let key = ask.form.need("alert", "the alert")?;
    let time = parse_duration(ask.form.need("for", "a time such as 30m or 2h")?);
    let time = time.ok_or_else(|| Trouble::invalid("for: expected a time such as 30m or 2h"))?;
    let change = alerts::snooze(ask.pool(), &ask.caller, key, time, reason(ask)).await?;
    finish(ask, change.changed, "snoozed").await
}

async fn finish(ask: &Ask, changed: bool, done: &str) -> Result<Answer, Trouble> {
    ask.console.seen.forget();
    Ok(Answer::SeeOther(ask.links.query("alerts", &[("done", if changed { done } else { "unchanged" })])))
}
