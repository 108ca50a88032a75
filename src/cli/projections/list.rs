//! `outboxd projections list`: every version with its progress and the estimated time left.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::super::session::{self, Session};
use super::super::text::{dash, describe_age, plain_table, shorten};
use super::super::{CliError, EXIT_OK, Global, print::print};
use crate::domain::{Timestamp, covers, reached_seq};
use crate::store::projections::{self, StoppedAt, Version};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd projections list
  outboxd projections list --json | jq '.projections[] | select(.stopped)'

A version that is not live reads no further than the live one. PROGRESS is the share of the sequence numbers up to the live version that it \
has passed. LEFT is the time that the rest takes at the average rate since the start. Both are estimates.")]
pub(super) struct ListArgs {
    /// Also list dropped versions
    #[arg(long)]
    all: bool,
}

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It has stopped at an event that fails.
    Stopped,
    Paused,
    /// No relay serves it.
    NoOwner,
    Live,
    /// It has caught up with the live version.
    Ready,
    /// It is catching up with the live version.
    Building,
    Dropped,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Listed {
    pub name: String,
    pub version: u32,
    handler: String,
    pub state: State,
    is_live: bool,
    live_since: Option<Timestamp>,
    target: Option<String>,
    view: Option<String>,
    /// The share of the log up to the live version that it has read, from 0 to 1; `None` for the live version.
    progress: Option<f64>,
    seconds_left: Option<f64>,
    rate: Option<u32>,
    handled: u64,
    skipped: u64,
    owner: Option<String>,
    began_at: Timestamp,
    pub stopped: Option<StoppedAt>,
    dropped_at: Option<Timestamp>,
}

pub(super) async fn run(args: &ListArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let mut versions = listed(&session).await?;
    versions.retain(|version| args.all || version.dropped_at.is_none());
    print(&match global.json {
        true => format!("{:#}\n", serde_json::json!({ "projections": versions })),
        false => describe(&versions),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

/// Every version as the command lists it.
pub(super) async fn listed(session: &Session) -> Result<Vec<Listed>, CliError> {
    let versions = projections::list(&session.pool).await?;
    let first = projections::read_first_seq(&session.pool).await?.unwrap_or_default();
    let live = |name: &str| versions.iter().find(|other| other.name == name && other.is_live);
    Ok(versions.iter().map(|version| one(version, live(&version.name), first)).collect())
}

fn one(version: &Version, live: Option<&Version>, first: i64) -> Listed {
    let progress = live.filter(|_| !version.is_live).and_then(|live| progress(version, live, first));
    Listed {
        name: version.name.clone(),
        version: version.version,
        handler: version.handler(),
        state: state(version, live),
        is_live: version.is_live,
        live_since: version.live_since,
        target: version.target.clone(),
        view: version.view.clone(),
        progress,
        seconds_left: progress.and_then(|progress| left(progress, version.age)).map(|left| left.as_secs_f64()),
        rate: version.rate,
        handled: version.handled,
        skipped: version.skipped,
        owner: version.owner.clone(),
        began_at: version.began_at,
        stopped: version.stopped.clone(),
        dropped_at: version.dropped_at,
    }
}

fn state(version: &Version, live: Option<&Version>) -> State {
    let is_ready = || {
        let live = live.and_then(|live| live.position.as_ref());
        version.position.as_ref().zip(live).is_some_and(|(own, live)| covers(own, live))
    };
    match version {
        Version { dropped_at: Some(_), .. } => State::Dropped,
        Version { stopped: Some(_), .. } => State::Stopped,
        Version { paused_at: Some(_), .. } => State::Paused,
        Version { owner: None, .. } => State::NoOwner,
        Version { is_live: true, .. } => State::Live,
        _ if is_ready() => State::Ready,
        _ => State::Building,
    }
}

/// The share of the sequence numbers that it has passed.
pub(super) fn progress(version: &Version, live: &Version, first: i64) -> Option<f64> {
    let (own, live) = (version.position.as_ref()?, live.position.as_ref()?);
    if covers(own, live) {
        return Some(1.0);
    }
    let before = first.saturating_sub(1);
    let (whole, done) = (reached_seq(live) - before, reached_seq(own) - before);
    // The share is known only to a whole sequence number.
    (whole > 0).then(|| (done.max(0) as f64 / whole as f64).min(0.999))
}

/// The time that the rest takes at the average rate so far.
pub(super) fn left(progress: f64, age: Duration) -> Option<Duration> {
    if progress >= 1.0 {
        return Some(Duration::ZERO);
    }
    // The first steps are too few for an estimate.
    (progress > 0.001).then(|| Duration::try_from_secs_f64(age.as_secs_f64() * (1.0 - progress) / progress).ok()).flatten()
}

fn describe(versions: &[Listed]) -> String {
    if versions.is_empty() {
        return "no projections: add [[projections]] to the configuration and run `outboxd reload`\n".to_owned();
    }
    let header = ["PROJECTION", "VERSION", "STATE", "PROGRESS", "LEFT", "HANDLED", "SKIPPED", "TARGET", "VIEW"];
    let mut table = plain_table(&header);
    for version in versions {
        table.add_row([
            version.name.clone(),
            version.version.to_string(),
            describe_state(version),
            version.progress.map_or_else(dash, |progress| format!("{:.1} %", progress * 100.0)),
            version.seconds_left.map_or_else(dash, |left| describe_age(Duration::from_secs_f64(left))),
            version.handled.to_string(),
            version.skipped.to_string(),
            version.target.clone().unwrap_or_else(dash),
            version.view.clone().unwrap_or_else(dash),
        ]);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for version in versions {
        let Some(stopped) = &version.stopped else { continue };
        let StoppedAt { event, event_type, attempts, reason, detail, .. } = stopped;
        let (name, number) = (&version.name, version.version);
        let why = if detail.is_empty() { reason.clone() } else { format!("{reason}: {}", shorten(detail)) };
        text.push_str(&format!(
            "\n{name}@{number} has stopped at event {event} ({event_type}) after {attempts} attempt(s): {why}\n  fix the cause and run `outboxd \
            projections retry {name} {number}`; or run `outboxd projections skip {name} {number} {event}`\n"
        ));
    }
    text
}

fn describe_state(version: &Listed) -> String {
    let state = match version.state {
        State::Stopped => "stopped",
        State::Paused => "paused",
        State::NoOwner => "no owner",
        State::Live => return "live".to_owned(),
        State::Ready => "ready",
        State::Building => "building",
        State::Dropped => "dropped",
    };
    if version.is_live { format!("live, {state}") } else { state.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done() {
        for (progress, want) in [(0.5, Some(60)), (0.25, Some(180)), (1.0, Some(0)), (0.0, None)] {
            assert_eq!(left(progress, Duration::from_secs(60)), want.map(Duration::from_secs), "{progress}");
        }
    }
}
