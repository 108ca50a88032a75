//! The lock: the published form of every contract, in one file beside the producer's code. The producer's CI compares with it,
//! without a server and without a database. Never written by a relay.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::compat::{self, Finding, Verdict};
use super::registry::{Registry, State, Version};
use super::schema::Schema;

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The form of the file.
    pub lock: u32,
    /// By event type, and by version.
    pub contracts: BTreeMap<String, BTreeMap<u32, Locked>>,
}

/// What was published of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    pub state: String,
    /// A day; absent where no end was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset: Option<String>,
    /// `sha256:` and the hash of the schema as it is here.
    pub digest: String,
    pub schema: Value,
}

/// What became of a published version.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// `order.placed@2`
    pub place: String,
    pub verdict: Verdict,
    /// What readers may not bear; each with the reason if an operator has allowed it.
    pub findings: Vec<(Finding, Option<String>)>,
    /// What else must not be: a version that is gone, a sunset that came nearer.
    pub texts: Vec<String>,
}

/// The only form there is.
const FORM: u32 = 1;

/// Why a text is no lock.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLock {
    #[error("could not be read")]
    Syntax(#[source] serde_json::Error),
    #[error("has the form {0}, and this program knows {FORM}")]
    Form(u32),
}

impl Lock {
    pub fn of(registry: &Registry) -> Self {
        let contracts = registry.contracts().map(|contract| {
            let versions = contract.versions.iter().map(|(number, version)| (*number, Locked::of(version))).collect();
            (contract.event_type.clone(), versions)
        });
        Self { lock: FORM, contracts: contracts.collect() }
    }

    pub fn parse(text: &str) -> Result<Self, InvalidLock> {
        let lock: Self = serde_json::from_str(text).map_err(InvalidLock::Syntax)?;
        if lock.lock == FORM { Ok(lock) } else { Err(InvalidLock::Form(lock.lock)) }
    }

    /// The file: sorted, so that a change of one contract changes its lines only.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and schemas have a JSON form") + "\n"
    }

    /// What differs from what was published, one entry for each version that does. `may_end_earlier`: an operator insists on a nearer sunset.
    pub fn changes(&self, registry: &Registry, may_end_earlier: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for (event_type, versions) in &self.contracts {
            for (number, locked) in versions {
                let place = format!("{event_type}@{number}");
                let version = registry.contract(event_type).and_then(|contract| contract.versions.get(number));
                changes.extend(locked.change(&place, version, may_end_earlier));
            }
        }
        changes
    }
}

impl Locked {
    fn of(version: &Version) -> Self {
        let sunset = version.deprecation.as_ref().and_then(|deprecation| deprecation.sunset).map(|day| day.to_string());
        let schema = version.schema.value().clone();
        Self { state: version.state.as_str().to_owned(), sunset, digest: digest(&schema), schema }
    }

    fn change(&self, place: &str, version: Option<&Version>, may_end_earlier: bool) -> Option<Change> {
        let was = State::named(&self.state);
        let Some(version) = version else {
            let is_free = matches!(was, Some(State::Draft | State::Retired));
            let text = format!("was published as {} and is gone; retire it first", self.state);
            return (!is_free).then(|| Change::of(place, Verdict::Breaking, vec![], vec![text]));
        };
        let now = Self::of(version);
        let mut texts = Vec::new();
        if let (Some(was), Some(now), false) = (&self.sunset, &now.sunset, may_end_earlier)
            && now < was
        {
            texts.push(format!("the sunset moved from {was} to {now}; it may be moved later only"));
        }
        if was != Some(State::Draft) && version.state == State::Draft {
            texts.push(format!("was published as {} and is a draft now", self.state));
        }
        let is_same = now.digest == self.digest;
        if (is_same || was == Some(State::Draft)) && texts.is_empty() {
            return None;
        }
        let findings = if is_same || was == Some(State::Draft) { Vec::new() } else { self.findings(version) };
        let open: Vec<Finding> =
            findings.iter().filter(|(_, allowed)| allowed.is_none()).map(|(finding, _)| finding.clone()).collect();
        let verdict = if texts.is_empty() { Verdict::of(&open) } else { Verdict::Breaking };
        Some(Change::of(place, verdict, findings, texts))
    }

    fn findings(&self, version: &Version) -> Vec<(Finding, Option<String>)> {
        let found = match Schema::parse(&self.schema.to_string()) {
            Ok(published) => compat::compare(&published, &version.schema),
            // It was written by this program and has been changed since.
            Err(_) => vec![Finding::unreadable()],
        };
        let allowed = |finding: &Finding| version.allows.get(&finding.key()).cloned();
        found.into_iter().map(|finding| (finding.clone(), allowed(&finding))).collect()
    }
}

impl Change {
    fn of(place: &str, verdict: Verdict, findings: Vec<(Finding, Option<String>)>, texts: Vec<String>) -> Self {
        Self { place: place.to_owned(), verdict, findings, texts }
    }
}

/// `sha256:` and the hash of a schema, whatever white space and order its members have.
pub fn digest(schema: &Value) -> String {
    let hash = Sha256::digest(schema.to_string());
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contracts::{Contract, Deprecation};

    const PUBLISHED: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}"#;

    fn registry(schema: &str, state: State, sunset: Option<&str>, allows: &[(&str, &str)]) -> Registry {
        let date = |text: &str| text.parse().expect("a day");
        let deprecation =
            sunset.map(|day| Deprecation { since: date("2026-01-01"), sunset: Some(date(day)), successor: None, link: None });
        let version = Version {
            number: 1,
            state,
            schema: Arc::new(Schema::parse(schema).expect("valid")),
            examples: vec![],
            deprecation,
            from_previous: None,
            from_next: None,
            brownouts: vec![],
            allows: allows.iter().map(|(key, reason)| ((*key).to_owned(), (*reason).to_owned())).collect(),
        };
        let contract = Contract { event_type: "t".to_owned(), owner: None, versions: BTreeMap::from([(1, version)]) };
        Registry::new(vec![contract]).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn told(lock: &Lock, registry: &Registry) -> Vec<(Verdict, Vec<String>)> {
        let text = |change: &Change| {
            change
                .findings
                .iter()
                .map(|(finding, allowed)| format!("{} {allowed:?}", finding.key()))
                .chain(change.texts.clone())
                .collect()
        };
        lock.changes(registry, false).iter().map(|change| (change.verdict, text(change))).collect()
    }

    #[test]
    fn a_lock_is_written_as_it_is_read_and_an_equal_schema_is_no_change() {
        let lock = Lock::of(&registry(PUBLISHED, State::Active, None, &[]));
        assert_eq!(Lock::parse(&lock.text()).expect("a lock"), lock);
        let spaced = PUBLISHED.replace(',', ",\n ");
        assert_eq!(told(&lock, &registry(&spaced, State::Active, None, &[])), []);
        assert!(matches!(Lock::parse("{\"lock\":2,\"contracts\":{}}"), Err(InvalidLock::Form(2))));
    }

    #[test]
    fn a_change_of_what_was_published_is_judged() {
        let lock = Lock::of(&registry(PUBLISHED, State::Active, None, &[]));
        let optional = PUBLISHED.replace(r#""required":["id"],"#, "");
        let added = PUBLISHED.replace(r#""id":{"#, r#""note":{"type":"string"},"id":{"#);
        assert_eq!(told(&lock, &registry(&added, State::Active, None, &[])), [(Verdict::Compatible, vec![])]);
        let breaking = (Verdict::Breaking, vec!["forward required None".to_owned()]);
        assert_eq!(told(&lock, &registry(&optional, State::Active, None, &[])), [breaking]);
        let allowed = registry(&optional, State::Active, None, &[("forward required", "agreed with all")]);
        let told = told(&lock, &allowed);
        assert_eq!(told, [(Verdict::Compatible, vec!["forward required Some(\"agreed with all\")".to_owned()])]);
    }

    #[test]
    fn a_published_version_does_not_vanish_and_its_end_comes_no_nearer() {
        let lock = Lock::of(&registry(PUBLISHED, State::Deprecated, Some("2026-12-31"), &[]));
        let vanished = told(&lock, &Registry::default());
        assert_eq!(vanished, [(Verdict::Breaking, vec!["was published as deprecated and is gone; retire it first".to_owned()])]);
        let earlier = registry(PUBLISHED, State::Deprecated, Some("2026-11-30"), &[]);
        assert_eq!(told(&lock, &earlier)[0].0, Verdict::Breaking);
        assert_eq!(lock.changes(&earlier, true), []);
        assert_eq!(told(&lock, &registry(PUBLISHED, State::Deprecated, Some("2027-01-31"), &[])), []);
        let draft = Lock::of(&registry(PUBLISHED, State::Draft, None, &[]));
        assert_eq!(told(&draft, &registry("{\"type\":\"object\"}", State::Active, None, &[])), [], "a draft was never published");
    }
}
