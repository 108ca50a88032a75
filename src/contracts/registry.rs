//! The registry: every contract with its versions, checked as a whole, and the casts from each version to each other. A version
//! lives from draft to retired. Only served versions are sent, and no event is sent that its schema refuses. A long file: a
//! contract, its rules and the rendering by them stand together.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::brownout::Brownout;
use super::cast::{Cast, CastError};
use super::difference::differences;
use super::schema::{Invalid, Schema};
use super::shape;

/// Where a version stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Being designed: no receiver can pin it.
    Draft,
    Active,
    /// Served, and announced to end.
    Deprecated,
    /// Served, but for windows in which it is refused on purpose.
    Brownout,
    /// Not served any more; what was recorded in it still reaches the others.
    Retired,
}

/// That a version comes to an end, and what comes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecation {
    pub since: Date,
    /// The day from which the version may be retired.
    pub sunset: Option<Date>,
    /// The version to move to.
    pub successor: Option<u32>,
    /// A page about the migration; an http or https URL.
    pub link: Option<String>,
}

/// A payload that shows what a version looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The name of its file.
    pub name: String,
    /// A JSON object.
    pub text: String,
}

/// One version of a public event.
#[derive(Debug)]
pub struct Version {
    /// From 1.
    pub number: u32,
    pub state: State,
    pub schema: Arc<Schema>,
    pub examples: Vec<Example>,
    pub deprecation: Option<Deprecation>,
    /// Times in which it is not sent on purpose; in the state `brownout` only.
    pub brownouts: Vec<Brownout>,
    /// From the version before to this one.
    pub from_previous: Option<Cast>,
    /// From the version after to this one.
    pub from_next: Option<Cast>,
    /// Findings of a comparison with what was published that an operator has allowed, each with the reason.
    pub allows: BTreeMap<String, String>,
}

/// A public event with its versions.
#[derive(Debug)]
pub struct Contract {
    pub event_type: String,
    /// Who answers for it, for display.
    pub owner: Option<String>,
    pub versions: BTreeMap<u32, Version>,
}

/// Something wrong with contracts that are each well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `order.placed@2`, or that with `.from_previous[0]` and so on.
    pub place: String,
    pub text: String,
}

/// Every contract, and the composed casts between their versions. Exists only checked.
#[derive(Debug, Default)]
pub struct Registry {
    contracts: BTreeMap<String, Contract>,
    casts: HashMap<String, HashMap<(u32, u32), Arc<Cast>>>,
}

/// Why an event is not sent in a version. Never repeats a value of the payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("there is no contract for \"{0}\"")]
    NoContract(String),
    #[error("the contract {event_type} has no version {version}; it has {known}")]
    NoVersion { event_type: String, version: u32, known: String },
    #[error("{event_type}@{version} is {state}, and is not sent")]
    NotServed { event_type: String, version: u32, state: State },
    #[error("{event_type}@{from} cannot become version {to}: no casts lead there")]
    NoWay { event_type: String, from: u32, to: u32 },
    #[error("{event_type}@{from} could not be cast to version {to}")]
    Cast {
        event_type: String,
        from: u32,
        to: u32,
        #[source]
        cause: CastError,
    },
    #[error("{event_type}@{from}, cast to version {to}, is not valid there")]
    Invalid {
        event_type: String,
        from: u32,
        to: u32,
        #[source]
        cause: Invalid,
    },
}

impl Version {
    /// Number, state and the dates of its end, as members of a JSON object.
    pub fn facts(&self) -> Map<String, Value> {
        let ending = self.deprecation.as_ref();
        let facts = [
            ("version", json!(self.number)),
            ("state", json!(self.state.as_str())),
            ("deprecated_since", json!(ending.map(|ending| ending.since.to_string()))),
            ("sunset", json!(ending.and_then(|ending| ending.sunset).map(|day| day.to_string()))),
            ("successor", json!(ending.and_then(|ending| ending.successor))),
            ("link", json!(ending.and_then(|ending| ending.link.as_deref()))),
            (
                "brownouts",
                self.brownouts.iter().map(|brownout| json!({ "from": brownout.from, "until": brownout.until })).collect(),
            ),
        ];
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl State {
    pub const ALL: [Self; 5] = [Self::Draft, Self::Active, Self::Deprecated, Self::Brownout, Self::Retired];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Brownout => "brownout",
            Self::Retired => "retired",
        }
    }

    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// Whether handlers may be sent this version.
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Active | Self::Deprecated | Self::Brownout)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Contract {
    /// The versions that handlers may be sent, in order.
    pub fn served(&self) -> impl Iterator<Item = &Version> {
        self.versions.values().filter(|version| version.state.is_served())
    }

    /// The versions as operators read them: `1 and 2`.
    pub fn known(&self) -> String {
        let numbers: Vec<String> = self.versions.keys().map(ToString::to_string).collect();
        match numbers.split_last() {
            None => "none".to_owned(),
            Some((only, [])) => only.clone(),
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
        }
    }

    /// The edges from one version to another, one after the other. `None`: one of them is missing.
    fn way(&self, from: u32, to: u32) -> Option<Vec<&Cast>> {
        let between = |a: u32, b: u32| self.versions.range(a..=b).map(|(_, version)| version).collect::<Vec<_>>();
        if from <= to {
            between(from, to).into_iter().skip(1).map(|version| version.from_previous.as_ref()).collect()
        } else {
            let mut down = between(to, from);
            down.pop();
            down.into_iter().rev().map(|version| version.from_next.as_ref()).collect()
        }
    }
}

impl Registry {
    /// Checks contracts as a whole; every fault is in the list. No two have the same event type.
    pub fn new(contracts: Vec<Contract>) -> Result<Self, Vec<Fault>> {
        let mut registry = Self::default();
        let mut faults = Vec::new();
        for contract in contracts {
            let casts = compose(&contract);
            faults.extend(check(&contract, &casts));
            registry.casts.insert(contract.event_type.clone(), casts);
            registry.contracts.insert(contract.event_type.clone(), contract);
        }
        if faults.is_empty() { Ok(registry) } else { Err(faults) }
    }

    pub fn is_empty(&self) -> bool {
        self.contracts.is_empty()
    }

    /// By event type, sorted.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.values()
    }

    pub fn contract(&self, event_type: &str) -> Option<&Contract> {
        self.contracts.get(event_type)
    }

    pub fn version(&self, event_type: &str, version: u32) -> Result<&Version, RenderError> {
        let contract = self.contract(event_type).ok_or_else(|| RenderError::NoContract(event_type.to_owned()))?;
        contract.versions.get(&version).ok_or_else(|| RenderError::NoVersion {
            event_type: event_type.to_owned(),
            version,
            known: contract.known(),
        })
    }

    /// The payload of an event as a receiver of the version `to` gets it. `from` is the recorded version. An equal version is borrowed,
    /// byte for byte and unchecked; every other one is cast and checked against its schema.
    pub fn render<'p>(&self, event_type: &str, from: u32, to: u32, payload: &'p str) -> Result<Cow<'p, str>, RenderError> {
        self.version(event_type, from)?;
        let target = self.version(event_type, to)?;
        if !target.state.is_served() {
            return Err(RenderError::NotServed { event_type: event_type.to_owned(), version: to, state: target.state });
        }
        if from == to {
            return Ok(Cow::Borrowed(payload));
        }
        let cast = self.casts.get(event_type).and_then(|casts| casts.get(&(from, to)));
        let event_type = || event_type.to_owned();
        let cast = cast.ok_or_else(|| RenderError::NoWay { event_type: event_type(), from, to })?;
        let cast = cast.apply(payload).map_err(|cause| RenderError::Cast { event_type: event_type(), from, to, cause })?;
        let check = target.schema.validate(&cast);
        check.map_err(|cause| RenderError::Invalid { event_type: event_type(), from, to, cause })?;
        Ok(Cow::Owned(cast))
    }
}

fn compose(contract: &Contract) -> HashMap<(u32, u32), Arc<Cast>> {
    let numbers: Vec<u32> = contract.versions.keys().copied().collect();
    let mut casts = HashMap::new();
    for from in &numbers {
        for to in numbers.iter().filter(|to| *to != from) {
            if let Some(way) = contract.way(*from, *to) {
                casts.insert((*from, *to), Arc::new(Cast::composed(way)));
            }
        }
    }
    casts
}

fn check(contract: &Contract, casts: &HashMap<(u32, u32), Arc<Cast>>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut previous: Option<&Version> = None;
    for version in contract.versions.values() {
        let place = |rest: &str| format!("{}@{}{rest}", contract.event_type, version.number);
        let next = contract.versions.range(version.number + 1..).map(|(_, next)| next).next();
        faults.extend(check_life(contract, version).into_iter().map(|text| Fault { place: place(""), text }));
        for (name, cast, neighbour) in
            [("from_previous", &version.from_previous, previous), ("from_next", &version.from_next, next)]
        {
            match (cast, neighbour) {
                (Some(_), None) => {
                    let text =
                        format!("there is no {} version to cast from", if name == "from_next" { "later" } else { "earlier" });
                    faults.push(Fault { place: place(&format!(".{name}")), text });
                }
                (Some(cast), Some(neighbour)) => {
                    let found = shape::check(cast, (&neighbour.schema, neighbour.number), (&version.schema, version.number));
                    faults.extend(found.into_iter().map(|fault| {
                        let index = fault.operation.map(|index| format!("[{index}]")).unwrap_or_default();
                        Fault { place: place(&format!(".{name}{index}")), text: fault.text }
                    }));
                }
                (None, _) => {}
            }
        }
        previous = Some(version);
    }
    if faults.is_empty() {
        faults.extend(check_ways(contract, casts));
        faults.extend(check_examples(contract, casts));
    }
    faults
}

/// What the dates and the state of a version say together.
fn check_life(contract: &Contract, version: &Version) -> Vec<String> {
    let mut texts = Vec::new();
    let is_ending = matches!(version.state, State::Deprecated | State::Brownout);
    if is_ending && version.deprecation.is_none() {
        texts.push(format!(
            "is {}, and says neither since when nor what comes instead; add deprecated = {{ since = \"...\" }}",
            version.state
        ));
    }
    if !version.brownouts.is_empty() && version.state != State::Brownout {
        texts.push(format!("is {}, and has brownouts; set state = \"brownout\" or leave them out", version.state));
    }
    texts.extend(version.brownouts.iter().filter_map(Brownout::fault));
    if let Some(Deprecation { since, sunset, successor, .. }) = &version.deprecation {
        if matches!(version.state, State::Draft | State::Active) {
            texts.push(format!(
                "is {}, and has dates of a deprecation; set state = \"deprecated\" or leave the state out",
                version.state
            ));
        }
        if let Some(sunset) = sunset.filter(|sunset| sunset < since) {
            texts.push(format!("the sunset {sunset} is before the deprecation {since}"));
        }
        if let Some(successor) = successor {
            match contract.versions.get(successor) {
                _ if *successor == version.number => texts.push("is its own successor".to_owned()),
                None => texts.push(format!("the successor {successor} is no version; there are {}", contract.known())),
                Some(other) if !other.state.is_served() => texts.push(format!("the successor {successor} is {}", other.state)),
                Some(_) => {}
            }
        }
    }
    texts
}

/// Every version that may have been recorded reaches every version that is served.
fn check_ways(contract: &Contract, casts: &HashMap<(u32, u32), Arc<Cast>>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for from in contract.versions.values().filter(|version| version.state != State::Draft) {
        for to in contract.served().filter(|to| to.number != from.number) {
            if casts.contains_key(&(from.number, to.number)) {
                continue;
            }
            let key = if from.number < to.number { "from_previous" } else { "from_next" };
            let text = format!(
                "version {} may be in the log and cannot become version {}, which is {}; add {key} to the versions between",
                from.number, to.number, to.state
            );
            faults.push(Fault { place: format!("{}@{}", contract.event_type, to.number), text });
        }
    }
    faults
}

/// Every example is valid, survives every cast, and comes back but for what is declared lost.
fn check_examples(contract: &Contract, casts: &HashMap<(u32, u32), Arc<Cast>>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for version in contract.versions.values() {
        for example in &version.examples {
            let place = || format!("{}@{}: example {}", contract.event_type, version.number, example.name);
            if let Err(invalid) = version.schema.validate(&example.text) {
                faults.push(Fault { place: place(), text: format!("is not valid under its own schema: {invalid}") });
                continue;
            }
            for other in contract.versions.values().filter(|other| other.number != version.number) {
                let (low, high) = (version.number.min(other.number), version.number.max(other.number));
                let is_neighbour = contract.versions.range(low..=high).count() == 2;
                let text = try_cast(&example.text, version, other, is_neighbour, casts);
                faults.extend(text.map(|text| Fault { place: place(), text }));
            }
        }
    }
    faults
}

fn try_cast(
    example: &str,
    from: &Version,
    to: &Version,
    is_neighbour: bool,
    casts: &HashMap<(u32, u32), Arc<Cast>>,
) -> Option<String> {
    let there = casts.get(&(from.number, to.number))?;
    let cast = match there.apply(example) {
        Ok(cast) => cast,
        Err(error) => return Some(format!("cannot be cast to version {}: {error}", to.number)),
    };
    if let Err(invalid) = to.schema.validate(&cast) {
        return Some(format!("is not valid after the cast to version {}: {invalid}", to.number));
    }
    // Neighbours declare what they lose; on a longer way each edge is checked separately.
    let back = casts.get(&(to.number, from.number)).filter(|_| is_neighbour)?;
    let returned = match back.apply(&cast) {
        Ok(returned) => returned,
        Err(error) => return Some(format!("comes to version {} and cannot be cast back: {error}", to.number)),
    };
    let lost = differences(example, &returned).ok()?;
    let undeclared: Vec<String> = lost
        .iter()
        .filter(|difference| !there.loses().iter().any(|path| difference.is_declared_by(path)))
        .map(|difference| format!("\"{difference}\""))
        .collect();
    let key = if from.number < to.number { "from_previous" } else { "from_next" };
    (!undeclared.is_empty()).then(|| {
        format!(
            "does not come back from version {}: {} differs; mend the casts, or declare it in {key} of version {} with loses = [...]",
            to.number,
            undeclared.join(", "),
            to.number
        )
    })
}
