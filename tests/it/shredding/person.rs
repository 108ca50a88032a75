//! The aggregate of these tests: a person, whose state copies a name in clear text, as a careless program does.

use outboxd::uow::shredding::Shredded;
use outboxd::uow::sourcing::{Sourced, SourcedEvent, States, Upcasts};
use outboxd::uow::{Contract, Decision, DomainEvent, Failure};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub enum PersonEvent {
    #[serde(rename = "person.registered")]
    Registered {
        /// `mail` in version 1.
        email: Shredded<String>,
        profile: Profile,
    },
    #[serde(rename = "person.moved")]
    Moved { city: Shredded<String>, number: i64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    #[serde(rename = "fullName")]
    pub name: Shredded<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Shredded<String>>,
}

/// What others are sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct PersonRegisteredV1 {
    pub email: Shredded<String>,
}

impl Contract for PersonRegisteredV1 {
    const TYPE: &'static str = "shop.person_registered";
    const VERSION: u32 = 1;
}

impl DomainEvent for PersonEvent {
    fn decide(&self) -> Result<Decision, Failure> {
        match self {
            Self::Registered { email, .. } => {
                Decision::notify("person", email.subject(), &PersonRegisteredV1 { email: email.clone() })
            }
            Self::Moved { .. } => Ok(Decision::InMemory),
        }
    }
}

impl SourcedEvent for PersonEvent {
    const TYPES: &'static [(&'static str, u32)] = &[("person.registered", 2), ("person.moved", 1)];

    fn upcasts() -> Upcasts {
        Upcasts::new().step("person.registered", 1, |mut payload| {
            payload["email"] = payload["mail"].take();
            Ok(payload)
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub email: Option<Shredded<String>>,
    pub city: Option<Shredded<String>>,
    pub shown: String,
    pub events: u64,
}

impl Sourced for Person {
    const TYPE: &'static str = "person";
    type Event = PersonEvent;

    fn apply(&mut self, event: &PersonEvent) {
        self.events += 1;
        match event {
            PersonEvent::Registered { email, profile } => {
                self.email = Some(email.clone());
                self.shown = profile.name.read().map_or_else(|_| "a former customer".to_owned(), String::clone);
            }
            PersonEvent::Moved { city, .. } => self.city = Some(city.clone()),
        }
    }

    fn states() -> Option<States<Self>> {
        Some(States::new(1, 2))
    }
}

pub struct Register {
    pub id: i64,
    pub text: String,
}

impl Register {
    pub fn event(&self) -> PersonEvent {
        let value = |what: &str| Shredded::new(format!("customer/{}", self.id), format!("{} {what}", self.text));
        PersonEvent::Registered { email: value("email"), profile: Profile { name: value("name"), phone: Some(value("phone")) } }
    }
}

pub fn moved(id: i64, city: &str) -> PersonEvent {
    PersonEvent::Moved { city: Shredded::new(format!("customer/{id}"), city.to_owned()), number: id }
}
