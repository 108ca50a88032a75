//! Whether a version may be retired: a judgement of its state, its dates, the receivers that are pinned to it, and what they were
//! really sent.
//!
//! If the evidence is not clear, the answer is no. A receiver that was sent the version recently reads it; silence counts only
//! where a use would have been recorded.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::registry::{Contract, Deprecation, State, Version};
use crate::domain::Timestamp;

/// A handler or client, beside one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// `handler:NAME` or `client:NAME`.
    pub name: String,
    /// The configuration pins it to this version.
    pub is_pinned: bool,
    /// When it was first and last sent this version, and how many events; `None`: never since counting began.
    pub used: Option<(Timestamp, Timestamp, u64)>,
}

/// What is known of the use of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub now: Timestamp,
    /// When counting began.
    pub counted_since: Timestamp,
    /// When an event of the type was last sent to any receiver in any version.
    pub type_sent_at: Option<Timestamp>,
    /// Those that are pinned to the version, or were ever sent it.
    pub receivers: Vec<Receiver>,
}

/// Why a version may not be retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    Draft,
    /// Nothing says that it ends.
    NotAnnounced(State),
    NoSunset,
    SunsetAhead(Date),
    /// No other version is served, so receivers would get events as they were recorded.
    OnlyServed,
    /// Counting began too recently to know.
    CountedSince(Timestamp, Duration),
    /// A receiver was sent it within the time that is asked for: name, since when, last, how many.
    Read(String, Timestamp, Timestamp, u64),
    /// These are pinned to it and silent, but no receiver was sent any version: there may have been nothing to send.
    NothingSent(Vec<String>, Duration),
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// It is retired already.
    Done,
    /// It may be retired. With the receivers that are pinned to it and silent, which have to be changed first.
    Allowed(Vec<Receiver>),
    Refused(Vec<Objection>),
}

impl Deprecation {
    /// Whether the day from which the version may be retired has come, in UTC. `false` without a sunset.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let midnight = self.sunset.and_then(|day| day.to_zoned_datetime(TimeZone::UTC).ok());
        midnight.is_some_and(|midnight| midnight.timestamp().as_microsecond() <= now.as_micros())
    }
}

impl Receiver {
    /// Whether it was sent the version within `time` before `now`.
    pub fn reads(&self, now: Timestamp, time: Duration) -> bool {
        self.used.is_some_and(|(_, last, _)| last.after(time) > now)
    }
}

impl Objection {
    /// From a closed set, for scripts.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::NotAnnounced(_) => "not_announced",
            Self::NoSunset => "no_sunset",
            Self::SunsetAhead(_) => "sunset_ahead",
            Self::OnlyServed => "only_served",
            Self::CountedSince(..) => "counted_too_short",
            Self::Read(..) => "read",
            Self::NothingSent(..) => "nothing_sent",
        }
    }
}

/// Judges whether a version of `contract` may be retired. `unused_for`: how long no receiver may have been sent it.
pub fn judge(contract: &Contract, version: &Version, evidence: &Evidence, unused_for: Duration) -> Retirement {
    match version.state {
        State::Retired => return Retirement::Done,
        State::Draft => return Retirement::Refused(vec![Objection::Draft]),
        State::Active | State::Deprecated | State::Brownout => {}
    }
    let mut objections: Vec<Objection> = objection_of_dates(version, evidence.now).into_iter().collect();
    if !contract.served().any(|other| other.number != version.number) {
        objections.push(Objection::OnlyServed);
    }
    if evidence.counted_since.after(unused_for) > evidence.now {
        objections.push(Objection::CountedSince(evidence.counted_since, unused_for));
    }
    let reading = |receiver: &&Receiver| receiver.reads(evidence.now, unused_for);
    for receiver in evidence.receivers.iter().filter(reading) {
        if let Some((first, last, events)) = receiver.used {
            objections.push(Objection::Read(receiver.name.clone(), first, last, events));
        }
    }
    let silent: Vec<&Receiver> = evidence.receivers.iter().filter(|one| one.is_pinned && !reading(one)).collect();
    let was_heard = evidence.type_sent_at.is_some_and(|at| at.after(unused_for) > evidence.now);
    if !silent.is_empty() && !was_heard {
        let names = silent.iter().map(|receiver| receiver.name.clone()).collect();
        objections.push(Objection::NothingSent(names, unused_for));
    }
    match objections.is_empty() {
        true => Retirement::Allowed(silent.into_iter().cloned().collect()),
        false => Retirement::Refused(objections),
    }
}

fn objection_of_dates(version: &Version, now: Timestamp) -> Option<Objection> {
    let Some(ending) = &version.deprecation else { return Some(Objection::NotAnnounced(version.state)) };
    let Some(sunset) = ending.sunset else { return Some(Objection::NoSunset) };
    (!ending.is_over(now)).then_some(Objection::SunsetAhead(sunset))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::contracts::Schema;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn contract(state: State, sunset: Option<&str>, others: &[State]) -> Contract {
        let day = |text: &str| text.parse::<Date>().expect("a day");
        let version = |number: u32, state: State| {
            let ends = matches!(state, State::Deprecated | State::Brownout);
            let ending = Deprecation { since: day("2026-01-01"), sunset: sunset.map(day), successor: None, link: None };
            Version {
                number,
                state,
                schema: Arc::new(Schema::parse("{}").expect("valid")),
                examples: vec![],
                deprecation: ends.then_some(ending),
                from_previous: None,
                from_next: None,
                allows: BTreeMap::new(),
                brownouts: vec![],
            }
        };
        let states = std::iter::once(state).chain(others.iter().copied());
        let versions = (1..).zip(states).map(|(number, state)| (number, version(number, state))).collect();
        Contract { event_type: "t".to_owned(), owner: None, versions }
    }

    fn receiver(name: &str, is_pinned: bool, last: Option<&str>) -> Receiver {
        Receiver { name: name.to_owned(), is_pinned, used: last.map(|last| (at("2026-01-02T00:00:00Z"), at(last), 7)) }
    }

    fn evidence(receivers: Vec<Receiver>) -> Evidence {
        Evidence {
            now: at("2026-07-01T12:00:00Z"),
            counted_since: at("2026-01-01T00:00:00Z"),
            type_sent_at: Some(at("2026-07-01T11:59:00Z")),
            receivers,
        }
    }

    fn rules(verdict: &Retirement) -> Vec<&'static str> {
        match verdict {
            Retirement::Done => vec!["done"],
            Retirement::Allowed(_) => vec![],
            Retirement::Refused(objections) => objections.iter().map(Objection::rule).collect(),
        }
    }

    #[test]
    fn a_version_is_retired_only_after_its_announced_end() {
        let active = &[State::Active][..];
        for (state, sunset, others, want) in [
            (State::Deprecated, Some("2026-07-01"), active, &[][..]),
            (State::Brownout, Some("2026-06-30"), active, &[]),
            (State::Deprecated, Some("2026-07-02"), active, &["sunset_ahead"]),
            (State::Deprecated, None, active, &["no_sunset"]),
            (State::Active, None, active, &["not_announced"]),
            (State::Draft, None, active, &["draft"]),
            (State::Retired, None, active, &["done"]),
            (State::Deprecated, Some("2026-07-01"), &[State::Draft, State::Retired], &["only_served"]),
        ] {
            let contract = contract(state, sunset, others);
            let verdict = judge(&contract, &contract.versions[&1], &evidence(vec![]), 30 * DAY);
            assert_eq!(rules(&verdict), want, "{state} {sunset:?}");
        }
    }

    #[test]
    fn whoever_was_sent_it_lately_reads_it_and_silence_counts_only_where_something_was_sent() {
        let contract = contract(State::Deprecated, Some("2026-06-01"), &[State::Active]);
        let judged = |evidence: &Evidence, time| rules(&judge(&contract, &contract.versions[&1], evidence, time));
        let (late, early) = (Some("2026-06-20T00:00:00Z"), Some("2026-05-20T00:00:00Z"));
        for (receivers, want) in [
            (vec![receiver("handler:a", true, late)], &["read"][..]),
            (vec![receiver("handler:gone", false, late)], &["read"]),
            (vec![receiver("handler:a", true, early), receiver("client:b", true, None)], &[]),
            (vec![receiver("handler:a", false, early)], &[]),
        ] {
            assert_eq!(judged(&evidence(receivers.clone()), 30 * DAY), want, "{receivers:?}");
        }
        let silent = evidence(vec![receiver("handler:a", true, None)]);
        assert_eq!(judged(&Evidence { type_sent_at: early.map(at), ..silent.clone() }, 30 * DAY), ["nothing_sent"]);
        assert_eq!(judged(&Evidence { type_sent_at: None, receivers: vec![], ..silent.clone() }, 30 * DAY), [""; 0]);
        let new = Evidence { counted_since: at("2026-06-30T00:00:00Z"), ..silent };
        assert_eq!(judged(&new, 30 * DAY), ["counted_too_short"]);
        assert_eq!(judged(&new, DAY), [""; 0], "a shorter time may be asked for");
        let Retirement::Allowed(silent) = judge(&contract, &contract.versions[&1], &new, DAY) else { panic!("it is allowed") };
        assert_eq!(silent.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["handler:a"]);
    }
}
