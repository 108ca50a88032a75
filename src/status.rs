//! Status: whether all is well, as a pure judgement of what the store counted. Every complaint names the command to run next.
//! Reads nothing and knows no clock; ages come with the counts.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use crate::domain::Level;
use crate::domain::circuit_command;
use crate::store::ReloadOutcome;
use crate::store::adoption::{AdoptionState, InspectedAdoption};
use crate::store::blind_spots::BlindSpot;
use crate::store::projections;
use crate::store::status::{Failing, HandlerStats, LastFailure, RelayStats, Stats};

/// Without a live lease for longer, a handler is not merely changing hands.
const UNOWNED_BOUND: Duration = Duration::from_secs(60);

/// A relay that was silent for longer has died: it says that it lives several times within a lease.
const SILENCE_BOUND: Duration = Duration::from_secs(60);

/// An owner records the position of an idle subscription every few seconds, too. Without a record for longer it is stuck.
const UNRECORDED_BOUND: Duration = Duration::from_secs(60);

/// A pause that a receiver asked for is worth a warning from here on.
const WAITING_BOUND: Duration = Duration::from_secs(30);

/// Older unfinished events mean that a handler falls behind.
const LAG_BOUND: Duration = Duration::from_secs(300);

/// The judgement and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatusVerdict {
    pub level: Level,
    /// The worst first, then by handler.
    pub reasons: Vec<Complaint>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Complaint {
    pub level: Level,
    /// `None`: it concerns all of them.
    pub handler: Option<String>,
    pub text: String,
    /// The command to run next.
    pub command: String,
}

/// A handler's state in one word; the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HandlerState {
    Paused,
    NoOwner,
    /// It cannot read or cannot record.
    Stuck,
    CircuitOpen,
    /// Its receiver asked for a pause.
    Waiting,
    Lagging,
    Ok,
}

impl StatusVerdict {
    /// The outbox could not be looked at.
    pub fn unreachable(why: String) -> Self {
        let complaint =
            Complaint { level: Level::Critical, handler: None, text: why, command: "outboxd check --connect".to_owned() };
        Self::of(vec![complaint])
    }

    /// With further complaints.
    #[must_use]
    pub fn and(self, more: impl IntoIterator<Item = Complaint>) -> Self {
        Self::of(self.reasons.into_iter().chain(more).collect())
    }

    fn of(mut reasons: Vec<Complaint>) -> Self {
        // Stable: within a level the order of the handlers stays.
        reasons.sort_by_key(|complaint| std::cmp::Reverse(complaint.level));
        let level = reasons.first().map_or(Level::Ok, |worst| worst.level);
        Self { level, reasons }
    }
}

/// What is wrong with an adopted table; `None`: it is adopted as configured.
pub fn judge_adoption(inspected: &InspectedAdoption) -> Option<Complaint> {
    let InspectedAdoption { table, state } = inspected;
    let adopt = format!("outboxd adopt {table}");
    let (level, text, command) = match state {
        AdoptionState::AsConfigured | AdoptionState::Unconfigured => return None,
        AdoptionState::Missing => (Level::Critical, "has no trigger: its rows are no events".to_owned(), adopt),
        AdoptionState::SwitchedOff { .. } => {
            (Level::Critical, "has a trigger that is switched off: its rows are no events".to_owned(), "outboxd doctor".to_owned())
        }
        AdoptionState::Failing { error, .. } => {
            (Level::Critical, format!("fails at every insert of the application: {error}"), "outboxd doctor".to_owned())
        }
        AdoptionState::Outdated => (Level::Warning, "has a trigger that does not do what the configuration says".to_owned(), adopt),
        AdoptionState::Refused(reasons) => {
            let text = format!("cannot be adopted as configured, and its rows are no events: {}", reasons.join("; "));
            (Level::Critical, text, "outboxd doctor".to_owned())
        }
    };
    Some(Complaint { level, handler: None, text: format!("the adopted table {table} {text}"), command })
}

/// Something that hides rows from a session, or silences a trigger.
pub fn judge_blind_spot(spot: &BlindSpot) -> Complaint {
    let (level, what) = match spot.is_severe() {
        true => (Level::Critical, "events may be passed over or lost"),
        false => (Level::Warning, "a defence is off"),
    };
    let text = format!("{what}: {}; {}", spot.what(), spot.why());
    Complaint { level, handler: None, text, command: "outboxd doctor".to_owned() }
}

/// Judges what was counted.
pub fn judge(stats: &Stats) -> StatusVerdict {
    let has_relay = stats.relays.iter().any(|relay| is_alive(relay.silent));
    let mut reasons = Vec::new();
    if !has_relay {
        reasons.push(Complaint {
            level: Level::Critical,
            handler: None,
            text: "no relay is running: nothing is delivered".to_owned(),
            command: "outboxd run".to_owned(),
        });
    }
    for relay in stats.relays.iter().filter(|relay| is_alive(relay.silent)) {
        judge_reload(relay, &mut reasons);
    }
    for name in &stats.vanished {
        reasons.push(Complaint {
            level: Level::Critical,
            handler: Some(name.clone()),
            text: "its subscription was deleted while a relay serves it: nothing is delivered, and where it was is not known"
                .to_owned(),
            command: "outboxd check --connect".to_owned(),
        });
    }
    for handler in &stats.handlers {
        judge_handler(handler, has_relay, &mut reasons);
    }
    if let Some((handler, why)) = stats.handlers.iter().find_map(|handler| Some((handler, handler.uncounted.as_ref()?))) {
        reasons.push(Complaint {
            level: Level::Critical,
            handler: None,
            text: format!("the unfinished events of {} and later handlers could not be counted: {why}", handler.handler),
            command: "outboxd doctor".to_owned(),
        });
    }
    StatusVerdict::of(reasons)
}

/// Whether a relay that was silent for so long is still thought to live.
pub fn is_alive(silent: Duration) -> bool {
    silent <= SILENCE_BOUND
}

/// The state of one handler.
pub fn handler_state(handler: &HandlerStats) -> HandlerState {
    if handler.paused.is_some() {
        HandlerState::Paused
    } else if handler.unowned.is_some() {
        HandlerState::NoOwner
    } else if handler.stuck().is_some() || is_unrecorded(handler).is_some() {
        HandlerState::Stuck
    } else if handler.circuit.is_some() {
        HandlerState::CircuitOpen
    } else if handler.waiting_until.is_some() {
        HandlerState::Waiting
    } else if is_lagging(handler) {
        HandlerState::Lagging
    } else {
        HandlerState::Ok
    }
}

fn judge_reload(relay: &RelayStats, reasons: &mut Vec<Complaint>) {
    let Some(report) = relay.reload.as_ref().filter(|report| report.outcome == ReloadOutcome::Refused) else { return };
    let more = report.reasons.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let why = report.reasons.first().map(String::as_str).unwrap_or_default();
    let at = relay.reloaded_at.map(|at| format!(" since {at}")).unwrap_or_default();
    reasons.push(Complaint {
        level: Level::Warning,
        handler: None,
        text: format!("relay {}/{} keeps its old configuration{at}: {why}{more}", relay.host, relay.pid),
        command: "outboxd check".to_owned(),
    });
}

fn judge_handler(handler: &HandlerStats, has_relay: bool, reasons: &mut Vec<Complaint>) {
    let name = &handler.handler;
    let mut complain = |level, text: String, command: String| {
        reasons.push(Complaint { level, handler: Some(name.clone()), text, command });
    };
    if let Some(unowned) = handler.unowned.filter(|unowned| *unowned > UNOWNED_BOUND && handler.paused.is_none()) {
        // With a relay running, it is the configuration of that one that does not have the handler.
        let command = if has_relay { "outboxd check" } else { "outboxd run" };
        let whole = if handler.partitions > 1 { "a partition" } else { "it" };
        complain(Level::Critical, format!("no relay has owned {whole} for {}", whole_seconds(unowned)), command.to_owned());
    }
    if let Some(failing) = handler.stuck() {
        // Most often it is an event at which it stands.
        let command = if handler.kind == projections::KIND { "outboxd projections list" } else { "outboxd doctor" };
        complain(Level::Critical, describe_failing(failing), command.to_owned());
    } else if let Some(unrecorded) = is_unrecorded(handler) {
        let text = format!("its owner has recorded nothing for {}, not even its position", whole_seconds(unrecorded));
        complain(Level::Critical, text, "outboxd doctor".to_owned());
    }
    if let Some(waiting) = handler.waiting_until.as_ref().filter(|waiting| waiting.left >= WAITING_BOUND) {
        let reason = waiting.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = format!("waits until {} because its receiver asked for it{reason}", waiting.until);
        complain(Level::Warning, text, format!("outboxd handlers test {name}"));
    }
    if let Some(paused) = &handler.paused {
        let by = paused.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let reason = paused.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        complain(Level::Warning, format!("paused{by} since {}{reason}", paused.since), format!("outboxd handlers resume {name}"));
    }
    if let Some(circuit) = &handler.circuit {
        let since = circuit.since.map(|since| format!(" since {since}")).unwrap_or_default();
        let reason = circuit.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let probe = circuit.probe_in.filter(|wait| !wait.is_zero()).map(|wait| format!("; next probe in {}", whole_seconds(wait)));
        let answer = handler.last_failure.as_ref().and_then(describe_answer).unwrap_or_default();
        let text = format!("its circuit is open{since}{reason}{}{answer}", probe.unwrap_or_default());
        match circuit.only_witness {
            // Nothing else can show whether the fault is this event's or the handler's.
            Some(event) => complain(
                Level::Warning,
                format!("{text}; event {event} is the only one to judge by: the next event of another key decides, or you do"),
                format!("outboxd events bury {event} --handler {name} --because ..."),
            ),
            None => complain(Level::Warning, text, circuit_command(name, circuit.reason.as_deref())),
        }
    }
    if handler.destinations > 0 {
        let (plural, more) = if handler.destinations == 1 { ("", "") } else { ("s", ", and others") };
        let first = handler.oldest_destination.as_deref().map(|first| format!(" ({first}{more})")).unwrap_or_default();
        complain(
            Level::Warning,
            format!("{} destination{plural} in trouble{first}: events for others go on", handler.destinations),
            format!("outboxd keys list --handler {name}"),
        );
    }
    if handler.dead > 0 {
        let plural = if handler.dead == 1 { "" } else { "s" };
        complain(
            Level::Warning,
            format!("{} dead letter{plural}", handler.dead),
            format!("outboxd dead-letters list --handler {name}"),
        );
    }
    if let Some(oldest) = handler.oldest_unfinished.filter(|_| is_lagging(handler)) {
        complain(
            Level::Warning,
            format!("its oldest unfinished event is {} old", whole_seconds(oldest)),
            "outboxd status --watch".to_owned(),
        );
    }
}

/// What the receiver said last, shortened.
fn describe_answer(failure: &LastFailure) -> Option<String> {
    const MOST_CHARS: usize = 160;
    let detail = failure.detail.as_deref().filter(|detail| !detail.is_empty())?;
    let short: String = detail.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MOST_CHARS).collect();
    let more = if detail.chars().count() > MOST_CHARS { "..." } else { "" };
    let status = failure.status.map(|status| format!("{status} ")).unwrap_or_default();
    Some(format!("; the last answer: {status}{short}{more}"))
}

fn is_unrecorded(handler: &HandlerStats) -> Option<Duration> {
    handler.unrecorded.filter(|unrecorded| *unrecorded > UNRECORDED_BOUND)
}

fn describe_failing(failing: &Failing) -> String {
    let Failing { since, lasted, operation, sqlstate, error, event, .. } = failing;
    let details = [sqlstate.as_ref().map(|code| format!("SQLSTATE {code}")), event.map(|event| format!("event {event}"))];
    let details: Vec<String> = details.into_iter().flatten().collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    format!("failing since {since}, for {}, at the {operation}: {error}{details}", whole_seconds(*lasted))
}

fn is_lagging(handler: &HandlerStats) -> bool {
    !handler.follows && handler.oldest_unfinished.is_some_and(|oldest| oldest > LAG_BOUND)
}

fn whole_seconds(duration: Duration) -> String {
    crate::settings::describe_duration(Duration::from_secs(duration.as_secs()))
}

impl fmt::Display for HandlerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "paused",
            Self::NoOwner => "no owner",
            Self::Stuck => "stuck",
            Self::CircuitOpen => "circuit open",
            Self::Waiting => "waiting",
            Self::Lagging => "lagging",
            Self::Ok => "ok",
        })
    }
}

#[cfg(test)]
mod tests;
