//! A request as a screen sees it: who asks, the parts of the path, the query and the form, and the way to the database.

use std::sync::Arc;

use maud::Markup;
use sqlx::PgPool;
use uuid::Uuid;

use super::access::Rules;
use super::answer::{Answer, Trouble};
use super::html::{Frame, Page};
use super::links::Links;
use super::{Console, now};
use crate::domain::{Role, Timestamp};
use crate::operations::Caller;

/// What was asked for.
pub struct Ask {
    pub console: Arc<Console>,
    pub rules: Arc<Rules>,
    pub caller: Caller,
    pub links: Links,
    /// By the clock of this process; for how long ago something was.
    pub now: Timestamp,
    /// What stood in the places of the pattern.
    pub parameters: Vec<String>,
    pub query: Fields,
    pub form: Fields,
}

/// Names and values of a query or a form.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn parse(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value of this name, without white space around it; `None`: absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// All values of this name, without empty ones.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, value)| known == name && !value.trim().is_empty()).map(|(_, value)| value.trim())
    }

    /// A value that has to be there.
    pub fn need(&self, name: &str, what: &str) -> Result<&str, Trouble> {
        self.get(name).ok_or_else(|| Trouble::invalid(format!("{name}: expected {what}")))
    }
}

impl Ask {
    pub fn new(console: Arc<Console>, rules: Arc<Rules>, caller: Caller, links: Links) -> Self {
        Self {
            console,
            rules,
            caller,
            links,
            now: now(),
            parameters: Vec::new(),
            query: Fields::default(),
            form: Fields::default(),
        }
    }

    pub fn pool(&self) -> &PgPool {
        &self.console.pool
    }

    /// The schema of the outbox.
    pub fn schema(&self) -> &str {
        &self.console.schema
    }

    /// What stood in the n-th place of the pattern.
    pub fn parameter(&self, place: usize) -> &str {
        self.parameters.get(place).map(String::as_str).unwrap_or_default()
    }

    /// The same, as the id of an event or a replay.
    pub fn id(&self, place: usize) -> Result<Uuid, Trouble> {
        let text = self.parameter(place);
        text.parse().map_err(|_| {
            Trouble::NotFound(
                "there is no such id: an id has 32 hexadecimal digits, such as 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d".to_owned(),
            )
        })
    }

    /// A page in its frame. `live`: looked at again after so many seconds.
    pub fn page(&self, title: &str, section: &str, live: Option<u32>, body: Markup) -> Answer {
        let frame = Frame { links: &self.links, caller: Some(&self.caller), can_log_in: self.rules.has_tokens() };
        Answer::Page(frame.page(&Page { title, section, live, body }))
    }

    pub fn may(&self, role: Role) -> bool {
        self.caller.role >= role
    }
}
