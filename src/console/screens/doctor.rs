//! The doctor: what is wrong with the server, the outbox and the configuration, why it matters, and what to paste. Executes nothing.

use maud::{Markup, html};

use super::super::answer::{Answer, Trouble};
use super::super::ask::Ask;
use super::super::html::*;
use crate::doctor::{Finding, Fix};
use crate::operations::doctor::{OLD_TRANSACTION, examine};

pub async fn show(ask: &Ask) -> Result<Answer, Trouble> {
    let configuration = ask.console.configuration();
    let report = examine(ask.pool(), ask.schema(), configuration.as_ref().ok(), None, OLD_TRANSACTION).await;
    let body = html! {
        h1 { "Doctor" }
        @if let Err(why) = &configuration { p.problem { "The configuration could not be looked at: " (foreign_long(why)) } }
        p {
            (badge(level_class(report.level), &report.level.to_string())) " "
            @match report.findings.len() { 0 => "Nothing was found.", 1 => "One finding.", more => { (more) " findings." } }
        }
        @for finding in &report.findings { (shown(finding)) }
        @if !report.left_out.is_empty() {
            h2 { "Left out" }
            ul.list { @for left_out in &report.left_out { li { (foreign(left_out.check)) ": " (foreign_long(&left_out.reason)) } } }
        }
        (command("outboxd doctor"))
    };
    Ok(ask.page("Doctor", "doctor", None, body))
}

fn shown(finding: &Finding) -> Markup {
    html! {
        section.chosen {
            p { (badge(level_class(finding.level), &finding.level.to_string())) " " strong { (foreign_long(&finding.what)) } }
            p { "Why it matters: " (foreign_long(&finding.why)) }
            @for fix in &finding.fixes {
                @let (into, lines) = match fix {
                    Fix::Sql(lines) => ("In psql", lines),
                    Fix::Shell(lines) => ("In a shell", lines),
                    Fix::Config(lines) => ("In the configuration", lines),
                };
                h2 { (into) }
                (foreign_block(lines, into))
            }
            p.hint { "Check: " (foreign(finding.check)) }
        }
    }
}
