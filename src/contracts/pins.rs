//! Pins: the versions that one receiver is sent, and the rendering of an event for it. Two pins are equal if they make the same
//! of every event (`FormId`), so that a running relay adopts a corrected cast and nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::brownout::{Brownout, InBrownout};
use super::cast::Cast;
use super::operation::Operation;
use super::path::Path;
use super::registry::{Contract, Registry, RenderError, Version};
use crate::domain::{Notification, PublicVersion, Timestamp, VERSION};

/// How the version of an event shows in CloudEvents; `{type}` and `{version}` stand for the values of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The attribute `type`.
    pub cloudevents_type: String,
    /// The attribute `dataschema`; `None`: there is none.
    pub dataschema: Option<String>,
}

/// Which version of each public event a receiver is sent.
pub struct Pins {
    registry: Arc<Registry>,
    versions: BTreeMap<String, Pinned>,
    /// Of all versions, each with its type and number. Asked for before every attempt, and nearly always empty.
    brownouts: Vec<(String, u32, Brownout)>,
}

struct Pinned {
    public: Arc<PublicVersion>,
    form: FormId,
}

/// Stands for everything that decides what is made of the events of a type: two receivers with the same one get the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FormId([u8; 32]);

/// An event as a receiver gets it.
#[derive(Debug)]
pub struct Rendered<'p> {
    /// Borrowed: as recorded, byte for byte.
    pub payload: Cow<'p, str>,
    pub public: Arc<PublicVersion>,
}

impl Pins {
    /// `versions`: event types with a contract in `registry`, each with one of its versions.
    pub fn new(registry: Arc<Registry>, versions: Vec<(String, u32)>, naming: &Naming) -> Self {
        let brownouts = versions.iter().flat_map(|(event_type, version)| {
            let all = registry.version(event_type, *version).map(|version| &*version.brownouts).unwrap_or_default();
            all.iter().map(|one| (event_type.clone(), *version, *one))
        });
        let brownouts = brownouts.collect();
        let pinned = |(event_type, version): (String, u32)| {
            let public = PublicVersion {
                version,
                cloudevents_type: named(&naming.cloudevents_type, &event_type, version),
                dataschema: naming.dataschema.as_ref().map(|text| named(text, &event_type, version)),
                announcements: registry.version(&event_type, version).map(announcements).unwrap_or_default(),
            };
            let form = FormId::of(&public, registry.contract(&event_type));
            (event_type, Pinned { public: Arc::new(public), form })
        };
        let versions = versions.into_iter().map(pinned).collect();
        Self { registry, versions, brownouts }
    }

    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// Event types and their versions, sorted.
    pub fn versions(&self) -> impl Iterator<Item = (&str, u32)> {
        self.versions.iter().map(|(event_type, pinned)| (event_type.as_str(), pinned.public.version))
    }

    /// The brownout that is in force now, of a version that is sent; of several the one that ends last.
    pub fn brownout(&self, now: Timestamp) -> Option<InBrownout<'_>> {
        let all = self.brownouts.iter().filter(|(_, _, one)| one.includes(now));
        let (event_type, version, brownout) = all.max_by_key(|(_, _, one)| one.until)?;
        Some(InBrownout { event_type, version: *version, until: brownout.until })
    }

    /// The contracts that the versions are of.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Stands for what is made of the events of all types, as 16 hexadecimal digits.
    pub fn tag(&self) -> String {
        let all = self.versions.values().fold(Sha256::new(), |hash, pinned| hash.chain_update(pinned.form.0));
        all.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is made of the events of a type; `None`: they go out as recorded.
    pub fn form(&self, event_type: &str) -> Option<FormId> {
        self.versions.get(event_type).map(|pinned| pinned.form)
    }

    /// What the receiver gets of an event. `recorded`: its version in the log; `None`: the header is no version. `None`: the type has no
    /// contract, and goes out as recorded.
    pub fn render<'p>(&self, event_type: &str, recorded: Option<u32>, payload: &'p str) -> Option<Result<Rendered<'p>, PinError>> {
        let pinned = self.versions.get(event_type)?;
        let Some(recorded) = recorded else { return Some(Err(PinError::NoVersion)) };
        let rendered = self.registry.render(event_type, recorded, pinned.public.version, payload);
        Some(rendered.map(|payload| Rendered { payload, public: Arc::clone(&pinned.public) }).map_err(PinError::Render))
    }

    /// The event as the receiver reads it; borrowed if its type has no contract.
    pub fn prepare<'n>(&self, notification: &'n Notification) -> Result<Cow<'n, Notification>, PinError> {
        let rendered = self.render(&notification.event_type, notification.recorded_version(), &notification.payload);
        let Some(rendered) = rendered.transpose()? else { return Ok(Cow::Borrowed(notification)) };
        let headers = match &rendered.payload {
            // As recorded; a header that is not there stays so.
            Cow::Borrowed(_) => notification.headers.clone(),
            Cow::Owned(_) => with_version(&notification.headers, rendered.public.version),
        };
        Ok(Cow::Owned(Notification {
            payload: rendered.payload.into_owned(),
            headers,
            contract: Some(rendered.public),
            event_type: notification.event_type.clone(),
            aggregate_type: notification.aggregate_type.clone(),
            aggregate_id: notification.aggregate_id.clone(),
            key: notification.key.clone(),
            ..*notification
        }))
    }
}

/// The headers, which say the version that the payload is in now.
fn with_version(headers: &str, version: u32) -> String {
    let path = Path::parse(VERSION).expect("a name is a path");
    let cast = Cast::new(vec![Operation::Const { path, value: version.to_string() }], Vec::new());
    // Headers that are no object, or name the version twice, cannot come from the table; they are sent as they are.
    cast.apply(headers).unwrap_or_else(|_| headers.to_owned())
}

impl FormId {
    fn of(public: &PublicVersion, contract: Option<&Contract>) -> Self {
        let mut hash = Sha256::new().chain_update(format!("{public:?}"));
        for version in contract.iter().flat_map(|contract| contract.versions.values()) {
            let edges = (&version.from_previous, &version.from_next);
            let (state, brownouts) = (version.state, &version.brownouts);
            hash.update(format!("{} {state:?} {brownouts:?} {edges:?} {}\n", version.number, version.schema.text().len()));
            hash.update(version.schema.text());
        }
        Self(hash.finalize().into())
    }
}

/// Why an event is not sent. Never repeats a value of the payload.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("the header \"version\" is not a whole number from 1 on, so it is not known what was recorded")]
    NoVersion,
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl PartialEq for Pins {
    fn eq(&self, other: &Self) -> bool {
        let forms =
            |pins: &Self| pins.versions.iter().map(|(event_type, pinned)| (event_type.clone(), pinned.form)).collect::<Vec<_>>();
        forms(self) == forms(other)
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.versions()).finish()
    }
}

fn named(template: &str, event_type: &str, version: u32) -> String {
    template.replace("{type}", event_type).replace("{version}", &version.to_string())
}

/// The headers of RFC 9745 and RFC 8594, for a version that comes to an end.
fn announcements(version: &Version) -> Vec<(&'static str, String)> {
    let Some(ending) = version.deprecation.as_ref().filter(|_| version.state.is_served()) else { return Vec::new() };
    let midnight = |day: Date| day.to_zoned_datetime(TimeZone::UTC).ok();
    let since = midnight(ending.since).map(|moment| ("deprecation", format!("@{}", moment.timestamp().as_second())));
    let sunset = ending.sunset.and_then(midnight);
    let sunset = sunset.map(|moment| ("sunset", moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()));
    let link = ending.link.as_ref().map(|link| ("link", format!("<{link}>; rel=\"deprecation\"")));
    since.into_iter().chain(sunset).chain(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::{Deprecation, Schema, State};

    #[test]
    fn a_version_that_comes_to_an_end_says_so_in_the_words_of_the_standards() {
        let day = |text: &str| text.parse::<Date>().expect("a day");
        let link = Some("https://example.com/m".to_owned());
        let ending = Deprecation { since: day("2026-03-01"), sunset: Some(day("2026-12-31")), successor: None, link };
        let version = |state, deprecation| Version {
            number: 1,
            state,
            schema: Arc::new(Schema::parse("{}").expect("valid")),
            examples: vec![],
            deprecation,
            from_previous: None,
            from_next: None,
            allows: BTreeMap::new(),
            brownouts: vec![],
        };
        let told = announcements(&version(State::Deprecated, Some(ending)));
        assert_eq!(
            told.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>(),
            [
                "deprecation: @1772323200",
                "sunset: Thu, 31 Dec 2026 00:00:00 GMT",
                "link: <https://example.com/m>; rel=\"deprecation\"",
            ]
        );
        assert_eq!(announcements(&version(State::Active, None)), []);
    }
}
