//! The codec: events of one Rust type to rows and back. Made once per program and type, with all upcasts in it; knows no database.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{SourcedEvent, SourcingError, Upcasts};
use crate::domain::NewEvent;
use crate::uow::Failure;
use crate::uow::contract::VERSION;
use crate::uow::shredding::{self, Keyring, Place};

/// How events of one type are written and read.
pub(in crate::uow) struct Codec {
    /// Name of the Rust type, for display.
    event: &'static str,
    /// The version in which each type is recorded.
    types: HashMap<&'static str, u32>,
    upcasts: Upcasts,
}

/// An event as it was read, and where.
pub(super) struct Row<'a> {
    pub stream: &'a str,
    pub version: u64,
    pub id: Uuid,
    pub event_type: &'a str,
    /// The header `version`.
    pub recorded: Option<&'a str>,
    pub payload: &'a str,
}

static CODECS: LazyLock<RwLock<HashMap<TypeId, Arc<Codec>>>> = LazyLock::new(RwLock::default);

impl Codec {
    /// The one of these events.
    pub(in crate::uow) fn of<E: SourcedEvent>() -> Result<Arc<Self>, SourcingError> {
        if let Some(known) = CODECS.read().unwrap_or_else(PoisonError::into_inner).get(&TypeId::of::<E>()) {
            return Ok(Arc::clone(known));
        }
        let composed = Arc::new(Self::compose(std::any::type_name::<E>(), E::TYPES, E::upcasts())?);
        CODECS.write().unwrap_or_else(PoisonError::into_inner).insert(TypeId::of::<E>(), Arc::clone(&composed));
        Ok(composed)
    }

    fn compose(event: &'static str, types: &[(&'static str, u32)], upcasts: Upcasts) -> Result<Self, SourcingError> {
        let refuse = |reason: String| Err(SourcingError::Events { event, reason });
        let mut known = HashMap::new();
        for (name, version) in types {
            if *version == 0 || known.insert(*name, *version).is_some() {
                return refuse(format!("TYPES names \"{name}\" twice or in version 0"));
            }
        }
        for (name, from) in upcasts.steps.keys() {
            match known.get(name) {
                Some(version) if *from > 0 && from < version => {}
                Some(version) => {
                    return refuse(format!("an upcast leads from version {from} of \"{name}\", recorded in version {version}"));
                }
                None => return refuse(format!("an upcast is for \"{name}\", which TYPES does not name")),
            }
        }
        for (former, now) in &upcasts.names {
            if known.contains_key(former) || !known.contains_key(now) {
                return refuse(format!(
                    "\"{former}\" cannot be a former name of \"{now}\": TYPES names the latter and not the former"
                ));
            }
        }
        Ok(Self { event, types: known, upcasts })
    }

    /// Types that it knows.
    pub(in crate::uow) fn types(&self) -> impl Iterator<Item = &'static str> {
        self.types.keys().copied()
    }

    /// The event to record.
    pub(in crate::uow) fn write<E: SourcedEvent>(&self, stream: &str, event: &E) -> Result<NewEvent, SourcingError> {
        let unwritable = |cause: Failure| SourcingError::Unwritable { stream: stream.to_owned(), cause };
        let (written, shredded) = shredding::collect(|| serde_json::to_value(event));
        let mut written = written.map_err(|error| unwritable(error.into()))?;
        let (Some(event_type), payload) = (
            written.get("type").and_then(Value::as_str).map(str::to_owned),
            // A variant without fields has none.
            written.get_mut("payload").map_or_else(|| json!({}), Value::take),
        ) else {
            let reason = "they have no `type`: derive Serialize with #[serde(tag = \"type\", content = \"payload\")]".to_owned();
            return Err(SourcingError::Events { event: self.event, reason });
        };
        let Some(version) = self.types.get(event_type.as_str()) else {
            return Err(SourcingError::Events { event: self.event, reason: format!("TYPES does not name \"{event_type}\"") });
        };
        let mut new = NewEvent::new(event_type, payload).map_err(|error| unwritable(error.into()))?;
        new.headers.insert(VERSION.to_owned(), (*version).into());
        new.shredded = shredded;
        Ok(new)
    }

    /// The event that was recorded, with the keys of its subjects; `None`: its type is not known.
    pub(super) fn read<E: SourcedEvent>(&self, row: &Row<'_>, keyring: &Keyring) -> Result<Option<E>, SourcingError> {
        let name = self.upcasts.names.get(row.event_type).copied().unwrap_or(row.event_type);
        let Some((name, known)) = self.types.get_key_value(name) else { return Ok(None) };
        let recorded: u32 = match row.recorded {
            None => 1,
            Some(text) => text.parse().map_err(|error: std::num::ParseIntError| row.unreadable(error.into()))?,
        };
        let upcast = if recorded == *known { None } else { Some(self.upcast(name, recorded, *known, row)?.to_string()) };
        // Opened where they were recorded, and read where the upcasts have moved them.
        let opened = shredding::open(row.payload, &Place::event(row.id, row.event_type), keyring);
        let parsed = shredding::read(opened, || parse(name, upcast.as_deref().unwrap_or(row.payload)));
        let parsed = parsed.map_err(|error| row.unreadable(error.into()))?;
        parsed.map(Some).map_err(|error| row.unreadable(error.into()))
    }

    fn upcast(&self, name: &'static str, recorded: u32, known: u32, row: &Row<'_>) -> Result<Value, SourcingError> {
        let (stream, version, event_type) = (row.stream.to_owned(), row.version, name.to_owned());
        if recorded > known {
            return Err(SourcingError::TooNew { stream, version, event_type, recorded, known });
        }
        let mut payload: Value = serde_json::from_str(row.payload).map_err(|error| row.unreadable(error.into()))?;
        for from in recorded..known {
            let Some(step) = self.upcasts.steps.get(&(name, from)) else {
                return Err(SourcingError::NoUpcast { stream, version, event_type, from });
            };
            payload = step(payload).map_err(|cause| row.unreadable(cause))?;
        }
        Ok(payload)
    }
}

impl Row<'_> {
    fn unreadable(&self, cause: Failure) -> SourcingError {
        SourcingError::Unreadable {
            stream: self.stream.to_owned(),
            version: self.version,
            event_type: self.event_type.to_owned(),
            cause,
        }
    }
}

/// In the form in which serde reads an adjacently tagged enum from the first byte to the last.
fn parse<E: SourcedEvent>(name: &str, payload: &str) -> Result<E, serde_json::Error> {
    let name = Value::from(name);
    let parsed = serde_json::from_str(&format!("{{\"type\":{name},\"payload\":{payload}}}"));
    match parsed {
        // A variant without fields is written without a payload.
        Err(_) if payload.trim() == "{}" => serde_json::from_str(&format!("{{\"type\":{name}}}")),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::uow::{Decision, DomainEvent};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", content = "payload")]
    enum Happened {
        #[serde(rename = "points.earned")]
        Earned { points: i64, reason: String },
        #[serde(rename = "closed")]
        Closed,
        #[serde(rename = "unnamed")]
        Unnamed {},
    }

    impl DomainEvent for Happened {
        fn decide(&self) -> Result<Decision, Failure> {
            Ok(Decision::InMemory)
        }
    }

    impl SourcedEvent for Happened {
        const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 3), ("closed", 1)];
        fn upcasts() -> Upcasts {
            Upcasts::new()
                .renamed("bonus.earned", "points.earned")
                .step("points.earned", 1, |payload| Ok(json!({ "points": payload["cents"].as_i64().ok_or("no cents")? / 100 })))
                .step("points.earned", 2, |mut payload| {
                    payload["reason"] = json!("order");
                    Ok(payload)
                })
        }
    }

    fn read(event_type: &str, recorded: Option<&str>, payload: &str) -> Result<Option<Happened>, String> {
        let codec = Codec::of::<Happened>().expect("the events fit together");
        let row = Row { stream: "account/ann", version: 7, id: Uuid::nil(), event_type, recorded, payload };
        codec.read(&row, &Keyring::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn events_of_every_version_become_those_of_today() {
        let earned = |points, reason: &str| Ok(Some(Happened::Earned { points, reason: reason.to_owned() }));
        assert_eq!(read("points.earned", Some("3"), "{\"points\":5,\"reason\":\"gift\"}"), earned(5, "gift"));
        assert_eq!(read("points.earned", Some("2"), "{\"points\":5}"), earned(5, "order"));
        assert_eq!(read("points.earned", None, "{\"cents\":500}"), earned(5, "order"));
        assert_eq!(read("bonus.earned", Some("1"), "{\"cents\":500}"), earned(5, "order"));
        assert_eq!(read("closed", Some("1"), "{}"), Ok(Some(Happened::Closed)));
        assert_eq!(read("points.spent", None, "{}"), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_says_where_it_stands() {
        for (event_type, recorded, payload, words) in [
            ("points.earned", Some("4"), "{}", "in version 4, and this program knows it up to version 3"),
            ("points.earned", Some("0"), "{}", "no upcast of \"points.earned\" from version 0; version 7 of stream account/ann"),
            ("points.earned", Some("x"), "{}", "version 7 of stream account/ann, \"points.earned\", could not be read"),
            ("points.earned", Some("1"), "{}", "could not be read"),
            ("points.earned", Some("3"), "{}", "could not be read"),
        ] {
            let error = read(event_type, recorded, payload).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let codec = Codec::of::<Happened>().expect("the events fit together");
        for event in [Happened::Earned { points: i64::MAX, reason: "\u{0}\"".to_owned() }, Happened::Closed] {
            let new = codec.write("account/ann", &event).expect("it can be written");
            let version = new.headers["version"].to_string();
            assert_eq!(read(&new.event_type, Some(&version), &new.payload.to_string()), Ok(Some(event)));
        }
        let error = codec.write("account/ann", &Happened::Unnamed {}).expect_err("TYPES does not name it").to_string();
        assert!(error.contains("TYPES does not name \"unnamed\""), "{error}");
    }

    #[test]
    fn types_and_upcasts_that_do_not_fit_together_are_refused() {
        let compose = |types: &[(&'static str, u32)], upcasts| match Codec::compose("E", types, upcasts) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let same = |payload| Ok(payload);
        assert_eq!(compose(&[("a", 2)], Upcasts::new().step("a", 1, same).renamed("b", "a")), "");
        assert!(compose(&[("a", 1), ("a", 2)], Upcasts::new()).contains("twice"));
        assert!(compose(&[("a", 0)], Upcasts::new()).contains("version 0"));
        assert!(compose(&[("a", 2)], Upcasts::new().step("a", 2, same)).contains("recorded in version 2"));
        assert!(compose(&[("a", 2)], Upcasts::new().step("b", 1, same)).contains("does not name"));
        assert!(compose(&[("a", 2)], Upcasts::new().renamed("a", "a")).contains("former name"));
        assert!(compose(&[("a", 2)], Upcasts::new().renamed("b", "c")).contains("former name"));
    }
}
