//! The page before an act: what would be changed, why, and one button. Nothing is changed by looking at it.

use maud::{Markup, html};

use super::super::answer::Answer;
use super::super::ask::Ask;
use super::super::html::*;

/// What is about to happen.
pub struct Confirm<'a> {
    pub title: &'a str,
    /// Of the navigation.
    pub section: &'a str,
    /// Where to go instead, and how that is called.
    pub back: (&'a str, &'a str),
    /// What would be changed.
    pub what: Markup,
    /// The path that the form is sent to.
    pub action: &'a str,
    pub fields: Markup,
    pub button: &'a str,
    /// Whether it cannot be taken back.
    pub is_final: bool,
    /// The line that does the same.
    pub command: String,
}

impl Confirm<'_> {
    pub fn page(self, ask: &Ask) -> Answer {
        let class = if self.is_final { "danger" } else { "" };
        let body = html! {
            p.crumbs { a href=(ask.links.to(self.back.0)) { (self.back.1) } }
            h1 { (self.title) }
            div.chosen { (self.what) }
            form method="post" action=(ask.links.to(self.action)) {
                (self.fields)
                p { button class=(class) type="submit" { (self.button) } " " a href=(ask.links.to(self.back.0)) { "Leave it" } }
            }
            h2 { "The same on the command line" }
            (command(&self.command))
        };
        ask.page(self.title, self.section, None, body)
    }
}

/// What was done, on the page that comes after it. The words are ours: an address may be made by anybody.
pub fn done(ask: &Ask) -> Markup {
    let text = match ask.query.get("done") {
        Some("paused") => "Paused. Its events wait in the log.",
        Some("resumed") => "Resumed. It goes on.",
        Some("closed") => "The circuit is closed. Deliveries go on at once.",
        Some("unchanged") => "Nothing was changed: it was so already.",
        Some("discarded") => "Discarded. The remaining dead letters are below.",
        Some("skipped") => "Skipped. The event is a dead letter now, and its key goes on.",
        Some("acknowledged") => "Acknowledged. Nothing is repeated until it grows worse or is over.",
        Some("snoozed") => "Silent for a while. Then what is true is told.",
        Some("edited") => "Recorded. The handler receives it in the order of its key; the dead letter is discarded.",
        Some("edited-before") => "This correction was recorded already; nothing was recorded twice.",
        Some("noted") => "The note is kept.",
        Some("started") => "Started. It goes on without this page.",
        Some("known") => "This replay was started already; nothing was started twice.",
        Some("cancelled") => "Cancelled. Dead letters that were not sent stay dead letters.",
        Some("taken-up") => "It goes on.",
        _ => return html! {},
    };
    html! { p.done role="status" { (text) } }
}

/// The words of the person, if there are any.
pub fn reason(ask: &Ask) -> Option<&str> {
    ask.form.get("because")
}
