//! The frame of every page: title, navigation, who looks, and the page itself.

use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use super::super::assets;
use super::super::links::Links;
use super::parts::{command, foreign, hidden};
use crate::operations::Caller;

/// What the frame needs to know.
pub struct Frame<'a> {
    pub links: &'a Links,
    /// `None`: the viewer is unknown.
    pub caller: Option<&'a Caller>,
    pub can_log_in: bool,
}

/// A page of the console.
pub struct Page<'a> {
    pub title: &'a str,
    /// Path of the section in the navigation.
    pub section: &'a str,
    /// Looked at again after so many seconds, where there is a script.
    pub live: Option<u32>,
    pub body: Markup,
}

const SECTIONS: &[(&str, &str)] = &[
    ("", "Now"),
    ("dead-letters", "Dead letters"),
    ("replays", "Replays"),
    ("keys", "Keys"),
    ("alerts", "Alerts"),
    ("events", "Events"),
    ("map", "Map"),
    ("handover", "Handover"),
    ("audit", "Audit"),
    ("doctor", "Doctor"),
];

impl Frame<'_> {
    pub fn page(&self, page: &Page<'_>) -> Markup {
        let live = page.live.map(|seconds| seconds.to_string());
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (page.title) " · outboxd" }
                    link rel="icon" type="image/svg+xml" href=(self.links.to(assets::icon()));
                    link rel="stylesheet" href=(self.links.to(assets::styles()));
                    script src=(self.links.to(assets::script())) defer {}
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header.top {
                        a.brand href=(self.links.to("")) { "outboxd" }
                        @if self.caller.is_some() { (self.navigation(page.section)) }
                        (self.who())
                    }
                    main #content data-live=[live] tabindex="-1" { (page.body) }
                }
            }
        }
    }

    fn navigation(&self, section: &str) -> Markup {
        html! {
            nav aria-label="Sections" {
                ul {
                    @for (path, name) in SECTIONS {
                        li { a href=(self.links.to(path)) aria-current=[(*path == section).then_some("page")] { (name) } }
                    }
                }
            }
        }
    }

    fn who(&self) -> Markup {
        html! {
            div.who {
                @if let Some(caller) = self.caller {
                    span { (foreign(&caller.name)) " · " (caller.role.name()) @if caller.sees_payloads { " · payloads" } }
                    @if self.can_log_in { form method="post" action=(self.links.to("logout")) { button.plain type="submit" { "Log out" } } }
                }
            }
        }
    }
}

/// Why there is no page.
pub fn failure(frame: &Frame<'_>, status: StatusCode, texts: &[String], line: Option<&str>) -> Markup {
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::UNAUTHORIZED => "Who are you?",
        StatusCode::CONFLICT => "It has changed",
        StatusCode::SERVICE_UNAVAILABLE => "The database could not be asked",
        _ => "This does not work",
    };
    let body = html! {
        h1 { (title) }
        @for text in texts { p.problem { (crate::domain::text::printable(text)) } }
        @if let Some(line) = line { (command(line)) }
        p { a href=(frame.links.to("")) { "Back to the front page" } }
    };
    frame.page(&Page { title, section: "-", live: None, body })
}

/// The page on which a token is shown, once.
pub fn login(frame: &Frame<'_>, next: &str, note: Option<&str>) -> Markup {
    let body = html! {
        div.narrow {
            h1 { "Log in" }
            @if let Some(note) = note { p.problem role="alert" { (note) } }
            form method="post" action=(frame.links.to("login")) {
                (hidden("next", next))
                p.field {
                    label for="token" { "Token" }
                    input id="token" name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="token-hint";
                    span.hint id="token-hint" { "An administrator makes one with " code { "outboxd console token" } ". The session lasts twelve hours." }
                }
                p { button type="submit" { "Log in" } }
            }
        }
    };
    Frame { caller: None, ..*frame }.page(&Page { title: "Log in", section: "-", live: None, body })
}
