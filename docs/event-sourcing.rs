// What the blocks of event-sourcing.md have in common: each is compiled with this beside it, so that it shows only what is new.

use outboxd::uow::sourcing::{Sourced, SourcedEvent};
use outboxd::uow::{Decision, DomainEvent, Failure};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub enum AccountEvent {
    #[serde(rename = "points.earned")]
    Earned { points: i64 },
    #[serde(rename = "points.spent")]
    Spent { points: i64, order: i64 },
}

impl DomainEvent for AccountEvent {
    fn decide(&self) -> Result<Decision, Failure> {
        Ok(Decision::InMemory)
    }
}

impl SourcedEvent for AccountEvent {
    const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 1), ("points.spent", 1)];
}

#[derive(Debug, Default)]
pub struct Account {
    pub points: i64,
}

impl Sourced for Account {
    const TYPE: &'static str = "account";
    type Event = AccountEvent;

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Earned { points } => self.points += points,
            AccountEvent::Spent { points, .. } => self.points -= points,
        }
    }
}

impl Account {
    pub fn spend(&self, points: i64, order: i64) -> Result<[AccountEvent; 1], NotEnough> {
        if points > self.points {
            return Err(NotEnough);
        }
        Ok([AccountEvent::Spent { points, order }])
    }
}

#[derive(Debug, PartialEq)]
pub struct NotEnough;

impl std::fmt::Display for NotEnough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there are not enough points")
    }
}

impl std::error::Error for NotEnough {}
