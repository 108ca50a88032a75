//! One look of the alerts: what the store counted and this process knows, as observations for the rules. Decides nothing, and
//! reads an example only where something is wrong.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use uuid::Uuid;

use super::CursorLag;
use crate::config::Alerts;
use crate::domain::alerts::{Alert, AlertKind, Measure, Observation, SAMPLE_ERROR_CHARS, Sample};
use crate::domain::{Reason, Timestamp};
use crate::store::alerts::{self, ChannelRow};
use crate::store::status::{Counting, HandlerStats, LastFailure, OpenCircuit, read_stats};
use crate::store::{self, StoreError};
use crate::telemetry::Health;

/// Bytes of a payload that may leave.
const MOST_PAYLOAD: usize = 2 * 1024;

/// Requests for details beyond the numbers.
pub(super) struct Wishes {
    pub include_payload: bool,
    /// A backlog of this age is worth an example.
    pub old: Duration,
    /// A condition that needs no time to be certain is reported as if it had lasted for so long.
    pub certain: Duration,
}

impl Wishes {
    pub fn of(config: &Alerts) -> Self {
        let policy = &config.policy;
        Self { include_payload: config.include_payload, old: policy.backlog_age / 2, certain: policy.not_polling_for }
    }
}

/// The result of one look.
pub(super) struct Seen {
    pub observations: Vec<Observation>,
    /// Handlers whose events and dead letters could not be counted: nothing is known of them, which does not end an alert.
    pub uncounted: Vec<String>,
}

/// What one look could not see: nothing is known of it, which ends no alert.
pub(super) struct Unknown<'a> {
    /// Handlers whose events and dead letters could not be counted.
    pub handlers: &'a [String],
    /// Where the clients of the feed stand.
    pub cursors: bool,
}

impl Unknown<'_> {
    /// Whether an alert is about something that could not be seen.
    pub fn covers(&self, alert: &Alert) -> bool {
        match alert.kind {
            AlertKind::DeadLetters | AlertKind::BacklogAge => self.handlers.contains(&alert.subject),
            AlertKind::CursorLag => self.cursors,
            _ => false,
        }
    }
}

/// Everything about the handlers. `now` is the time of the database.
pub(super) async fn look_at_handlers(pool: &PgPool, wishes: &Wishes, now: Timestamp) -> Result<Seen, StoreError> {
    let stats = read_stats(pool, Counting::Busy).await?;
    let vanished = |name: &String| {
        let detail = "its subscription was deleted while a relay serves it".to_owned();
        Observation::new(name, Measure::Stuck(Some(wishes.certain)), 0).detail(Some(detail))
    };
    let mut seen: Vec<Observation> = stats.vanished.iter().map(vanished).collect();
    for handler in &stats.handlers {
        let dead = match handler.dead {
            0 => None,
            _ => read_dead_letter(pool, &handler.handler, wishes).await?,
        };
        let is_old = handler.oldest_unfinished.is_some_and(|age| age >= wishes.old);
        let failed = match &handler.last_failure {
            Some(failure) if is_old || handler.circuit.is_some() => read_failure(pool, failure, wishes).await?,
            _ => None,
        };
        if handler.uncounted.is_none() {
            seen.push(Observation::new(&handler.handler, Measure::DeadLetters, handler.dead).sample(dead));
        }
        seen.extend(look_at(handler, failed, now));
    }
    let uncounted = stats.handlers.iter().filter(|handler| handler.uncounted.is_some());
    let uncounted = uncounted.map(|handler| handler.handler.clone()).collect();
    Ok(Seen { observations: seen, uncounted })
}

/// The observations of one handler, except for its dead letters.
fn look_at(handler: &HandlerStats, failed: Option<Sample>, now: Timestamp) -> Vec<Observation> {
    let name = handler.handler.as_str();
    let unfinished = handler.pending + handler.retrying + handler.waiting;
    let observe = |measure, detail: Option<String>| Observation::new(name, measure, unfinished).detail(detail);
    // Paused by an operator: a growing backlog and no reads are what the operator wanted.
    let is_held = handler.paused.is_some();
    // So is the age of the events that a version of a projection reads before it is live.
    let age = handler.oldest_unfinished.filter(|_| !is_held && !handler.follows);
    let unowned = handler.unowned.filter(|_| !is_held);
    let circuit = handler.circuit.as_ref();
    let open = circuit.map(|circuit| circuit.since.map_or(Duration::ZERO, |since| now.since(since)));
    let is_fault = circuit.and_then(|circuit| circuit.reason.as_deref()).is_some_and(is_fault);
    let paused = handler.paused.as_ref();
    let why = paused.map(|paused| {
        let by = paused.by.as_deref().map(|by| format!("by {by}"));
        [by, paused.reason.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let stuck = handler.stuck().map(|failing| (failing.lasted, format!("at the {}: {}", failing.operation, failing.error)));
    let (stuck, stuck_by) = stuck.unzip();
    let mut seen = vec![
        observe(Measure::CircuitOpen { open, is_fault }, circuit.and_then(|circuit| why_open(name, circuit)))
            .sample(failed.clone()),
        observe(Measure::Paused(paused.map(|paused| now.since(paused.since))), why.filter(|why| !why.is_empty())),
        observe(Measure::NotPolling(unowned), None),
        observe(Measure::Stuck(stuck), stuck_by),
    ];
    if handler.uncounted.is_none() {
        seen.push(observe(Measure::BacklogAge(age), None).sample(failed));
    }
    seen
}

/// Why a circuit is open, and the way out where there is only one event to judge by.
fn why_open(handler: &str, circuit: &OpenCircuit) -> Option<String> {
    let reason = circuit.reason.clone();
    let Some(event) = circuit.only_witness else { return reason };
    let bury = format!("event {event} is the only one to judge by; outboxd events bury {event} --handler {handler} --because ...");
    Some(reason.map_or_else(|| bury.clone(), |reason| format!("{reason}; {bury}")))
}

fn is_fault(reason: &str) -> bool {
    Reason::ALL.iter().any(|known| known.as_str() == reason && known.is_fault())
}

/// The channels, each as a subject of its own.
pub(super) fn look_at_channels(channels: &[ChannelRow]) -> impl Iterator<Item = Observation> {
    channels.iter().map(|channel| {
        let count = u64::from(channel.failures);
        Observation::new(&channel.name, Measure::ChannelFailed, count).detail(channel.last_error.clone().filter(|_| count > 0))
    })
}

/// The cursors that clients have left to the server; `None`: they could not be read.
pub(super) fn look_at_cursors(lags: Option<&[CursorLag]>) -> impl Iterator<Item = Observation> {
    let lag = |lag: &CursorLag| Observation::cursor_lag((&lag.client, &lag.name), lag.behind, lag.oldest);
    lags.unwrap_or_default().iter().map(lag)
}

/// The database, as this process has it. `failing`: for how long our own looks have failed, and why.
pub(super) fn look_at_database(health: &Health, failing: Option<(Duration, String)>) -> Observation {
    let trouble = [health.database_trouble(Instant::now()), failing].into_iter().flatten().max_by_key(|(lasted, _)| *lasted);
    let (lasted, why) = trouble.unzip();
    Observation::new("", Measure::Database(lasted), 0).detail(why)
}

async fn read_dead_letter(pool: &PgPool, handler: &str, wishes: &Wishes) -> Result<Option<Sample>, StoreError> {
    let Some(letter) = alerts::read_newest_dead_letter(pool, handler).await? else { return Ok(None) };
    let error = describe(letter.reason.as_deref(), letter.status, letter.detail.as_deref());
    let payload = if wishes.include_payload { read_payload(pool, letter.event).await?.map(|(_, payload)| payload) } else { None };
    Ok(Some(Sample { event: letter.event, event_type: letter.event_type, error, payload }))
}

async fn read_failure(pool: &PgPool, failure: &LastFailure, wishes: &Wishes) -> Result<Option<Sample>, StoreError> {
    let Some((event_type, payload)) = read_payload(pool, failure.event).await? else { return Ok(None) };
    let error = describe(Some(&failure.reason), failure.status, failure.detail.as_deref());
    Ok(Some(Sample { event: failure.event, event_type, error, payload: wishes.include_payload.then_some(payload) }))
}

/// Type and payload of an event.
async fn read_payload(pool: &PgPool, event: Uuid) -> Result<Option<(String, String)>, StoreError> {
    let event = store::events::read_event(pool, event).await?;
    Ok(event.map(|event| (event.event_type, cut(event.payload.get(), MOST_PAYLOAD))))
}

fn describe(reason: Option<&str>, status: Option<i32>, detail: Option<&str>) -> Option<String> {
    let status = status.map(|status| format!(" ({status})")).unwrap_or_default();
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    let text: String = format!("{}{status}{detail}", reason?).chars().take(SAMPLE_ERROR_CHARS).collect();
    Some(text)
}

fn cut(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
