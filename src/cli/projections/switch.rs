//! `outboxd projections switch`: makes another version live, in one transaction.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::super::session;
use super::super::text::{describe_age, plural};
use super::super::{CliError, Global, ask};
use super::list::{left, progress};
use super::{ChoiceArgs, WhichArgs, find, gone, tell};
use crate::settings::parse_duration;
use crate::store::projections::{self, Switch, Switched};

/// The live version waits while the other one catches up, and its owner must be able to renew its lease.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd projections switch sales 2 --because 'with discounts, OPS-311'
  outboxd projections switch sales 1 --yes             # and back, while version 1 is still served

The version must have caught up with the live one. The live version waits for a moment while the new one reads the last events; then one \
transaction replaces the view and records which version is live. A reader sees one table or the other, never both. The old version keeps \
following the live one until you remove it from the configuration and drop it.

The role of this command owns the view, and its rights on the target apply to readers of the view. If the columns differ, the view is \
dropped and created again with the rights that were granted on it.")]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// How long the live version may wait while the other one catches up; at most 4s
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_wait)]
    wait: Duration,
    /// Switch although the version has read fewer events than the live one, because the others are no longer in the log
    #[arg(long)]
    accept_missing: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, thiserror::Error)]
enum SwitchError {
    #[error(
        "{new} has stopped at event {event} ({event_type}): {reason}: {detail}; fix the cause or skip the event with `outboxd projections skip`, \
        then switch"
    )]
    Stopped { new: String, event: uuid::Uuid, event_type: String, reason: String, detail: String },
    #[error("{new} has not caught up with {live}: it has reached {own} of {whole}{estimate}{hint}")]
    Behind { new: String, live: String, own: i64, whole: i64, estimate: String, hint: &'static str },
    #[error(
        "{new} has read {own} event{}, and {live} has read {whole} up to the same position: {missing} {are} no longer in the log (retention \
        has removed them, or they were erased), so the view would lack their effect. --accept-missing switches nevertheless",
        plural(*own), are = if *missing == 1 { "is" } else { "are" }
    )]
    Missing { new: String, live: String, own: u64, whole: u64, missing: u64 },
    #[error("Postgres refused to let the view {view} show {target}: {why}; nothing was changed")]
    Refused { view: String, target: String, why: String },
}

pub(super) async fn run(args: SwitchArgs, global: &Global) -> Result<ExitCode, CliError> {
    let SwitchArgs { which, wait, accept_missing, choice } = args;
    let session = session::open(global).await?;
    let (version, others) = find(&session, &which).await?;
    let live = others.iter().find(|other| other.is_live);
    let shown = match (&version.view, &version.target) {
        (Some(view), Some(target)) => format!("{view} will show {target}"),
        _ => "it has no view: readers see no change; the version is only recorded as live".to_owned(),
    };
    let from = live.map(|live| format!(" instead of version {}", live.version)).unwrap_or_default();
    eprintln!("{} becomes live{from}; {shown}", version.handler());
    ask::confirm("Go ahead?", choice.yes)?;
    let caller = ask::caller();
    let wish = Switch {
        name: &which.name,
        version: which.version,
        patience: wait,
        accepts_missing: accept_missing,
        actor: caller.actor(),
        because: choice.because.as_deref(),
    };
    let (new, live_name) = (version.handler(), live.map(projections::Version::handler).unwrap_or_default());
    let refusal = match projections::switch(&session.pool, &wish).await? {
        Switched::Done { from, view } => {
            let view = view.map(|view| format!("; {view} shows it")).unwrap_or_default();
            let before = from.map(|from| format!(" instead of version {from}")).unwrap_or_default();
            return tell(&session, &which, &format!("{new} is live{before}{view}"), global).await;
        }
        Switched::Unknown => return Err(gone(&which)),
        Switched::Stopped(stopped) => SwitchError::Stopped {
            new,
            event: stopped.event,
            event_type: stopped.event_type,
            reason: stopped.reason,
            detail: stopped.detail,
        },
        Switched::Behind { own, live: whole, is_served } => {
            let first = projections::read_first_seq(&session.pool).await?.unwrap_or_default();
            let share = live.and_then(|live| progress(&version, live, first));
            let estimate = share.and_then(|share| Some((share, left(share, version.age)?)));
            let estimate = estimate
                .map(|(share, left)| format!(" ({:.1} %, about {} left)", share * 100.0, describe_age(left)))
                .unwrap_or_default();
            let hint = if is_served { "; try again later" } else { "; no relay serves it, or it is paused" };
            SwitchError::Behind { new, live: live_name, own, whole, estimate, hint }
        }
        Switched::Missing { own, live: whole } => {
            SwitchError::Missing { new, live: live_name, own, whole, missing: whole.saturating_sub(own) }
        }
        Switched::Refused(why) => SwitchError::Refused {
            view: version.view.clone().unwrap_or_default(),
            target: version.target.clone().unwrap_or_default(),
            why,
        },
    };
    Err(CliError::failed(refusal))
}

fn parse_wait(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).filter(|wait| *wait <= LONGEST_WAIT).ok_or("expected a duration of at most 4s, such as 2s or 500ms")
}
