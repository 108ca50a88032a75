//! The aggregate of these tests: an account with points.

use outboxd::uow::sourcing::{Root, Sourced, SourcedEvent, States, Unknown, Upcasts};
use outboxd::uow::{Command, Decision, DomainEvent, Error, Failure, UnitOfWork};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub enum AccountEvent {
    #[serde(rename = "account.opened")]
    Opened { currency: String },
    #[serde(rename = "points.earned")]
    Earned { points: i64, reason: String },
    #[serde(rename = "account.closed")]
    Closed,
}

impl DomainEvent for AccountEvent {
    fn decide(&self) -> Result<Decision, Failure> {
        Ok(Decision::InMemory)
    }
}

impl SourcedEvent for AccountEvent {
    const TYPES: &'static [(&'static str, u32)] = &[("account.opened", 1), ("points.earned", 2), ("account.closed", 1)];

    fn upcasts() -> Upcasts {
        Upcasts::new().renamed("bonus.earned", "points.earned").step("points.earned", 1, |mut payload| {
            payload["reason"] = json!("order");
            Ok(payload)
        })
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub points: i64,
    pub events: u64,
}

impl Account {
    fn fold(&mut self, event: &AccountEvent) {
        self.events += 1;
        if let AccountEvent::Earned { points, .. } = event {
            assert!(*points != -666, "apply panics over this one");
            self.points += points;
        }
    }
}

impl Sourced for Account {
    const TYPE: &'static str = "account";
    type Event = AccountEvent;

    fn apply(&mut self, event: &AccountEvent) {
        self.fold(event);
    }

    fn states() -> Option<States<Self>> {
        Some(States::new(1, 10))
    }
}

/// The same streams, without states and with patience for what it does not know.
#[derive(Debug, Default, PartialEq)]
pub struct Patient(pub Account);

impl Sourced for Patient {
    const TYPE: &'static str = "account";
    type Event = AccountEvent;
    const UNKNOWN: Unknown = Unknown::Skip;

    fn apply(&mut self, event: &AccountEvent) {
        self.0.fold(event);
    }
}

pub fn earned(points: i64) -> AccountEvent {
    AccountEvent::Earned { points, reason: "order".to_owned() }
}

/// Earns points, by the state as it is.
#[derive(Clone)]
pub struct Earn {
    pub key: String,
    pub points: i64,
    pub is_locked: bool,
}

impl Earn {
    pub fn new(key: &str, points: i64) -> Self {
        Self { key: key.to_owned(), points, is_locked: false }
    }
}

impl Command for Earn {
    type Output = i64;
    type Error = Error;

    async fn run(&self, work: &mut UnitOfWork) -> Result<i64, Error> {
        let mut account = match self.is_locked {
            true => Root::<Account>::load_locked(&self.key, work).await?,
            false => Root::<Account>::load(&self.key, work).await?,
        };
        account.record(earned(self.points));
        let total = account.state().points;
        account.save(work).await?;
        Ok(total)
    }
}
