//! `outboxd alerts`: lists, acknowledges and snoozes alerts. Works while the relay is down; `test` sends from this process.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::print::print;
use super::text::{as_json, plain_table};
use super::{CliError, EXIT_CONFIG, EXIT_FAILED, EXIT_OK, Global, ask, session};
use crate::channels::SendFailure;
use crate::domain::Timestamp;
use crate::domain::alerts::{Alert, AlertStatus, Change, Notice, Notices};
use crate::operations::alerts::{self, AlertChange, AlertView};
use crate::settings::{describe_duration, parse_duration};
use crate::store::alerts::ChannelRow;
use crate::telemetry::logging;

/// List, acknowledge and snooze alerts, and test a channel
#[derive(Debug, Args)]
pub struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// List the alerts that fire, and the state of each channel
    #[command(after_help = "Examples:\n  outboxd alerts list\n  outboxd alerts list --all\n  \
                            outboxd alerts list --json | jq '.alerts[] | select(.severity == \"critical\")'")]
    List(ListArgs),
    /// Acknowledge an alert: it is not repeated until it gets worse or is over
    #[command(after_help = "Example:\n  outboxd alerts ack dead_letters/billing --because 'billing is rolling back, ann'")]
    Ack(AckArgs),
    /// Silence an alert for a while
    #[command(after_help = "Examples:\n  outboxd alerts snooze backlog_age/billing --for 2h\n  \
                            outboxd alerts snooze backlog_age/billing --for 0s      # send it again\n\n\
                            When the time is over, outboxd sends the state at that time: still firing, or over.")]
    Snooze(SnoozeArgs),
    /// Send a test alert through a channel of the configuration, from this machine
    #[command(
        after_help = "Examples:\n  outboxd alerts test slack\n  outboxd alerts test alertmanager --for 90s\n\nThe alert says that it is a test. \
                            Alertmanager waits (group_wait, 30s by default) before it notifies: there the test alert fires for a minute or until \
                            Ctrl-C. Other channels receive its end at once. Nothing is stored. Exit code 1: the alert was not sent; the reason is \
                            printed."
    )]
    Test(TestArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Also list alerts that are over, for 30 days
    #[arg(long, short)]
    all: bool,
}

#[derive(Debug, Args)]
struct AckArgs {
    /// Name of the alert, as `alerts list` shows it
    alert: String,
    /// What you know or do about it; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
}

#[derive(Debug, Args)]
struct SnoozeArgs {
    /// Name of the alert, as `alerts list` shows it
    alert: String,
    /// Duration such as 30m or 2h; 0s ends a snooze
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    time: Duration,
    /// Reason; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Name of the channel in the configuration
    channel: String,
    /// How long the alert fires before it is over [default: 1m for Alertmanager, else 0s]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
enum AlertsError {
    #[error("there is no channel \"{name}\" in the configuration{hint}")]
    UnknownChannel { name: String, hint: String },
    #[error("could not send through channel {name}")]
    Send {
        name: String,
        #[source]
        cause: SendFailure,
    },
}

pub async fn run(args: AlertsArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        AlertsCommand::List(args) => list(&args, global).await,
        AlertsCommand::Ack(args) => acknowledge(&args, global).await,
        AlertsCommand::Snooze(args) => snooze(&args, global).await,
        AlertsCommand::Test(args) => test(&args, global).await,
    }
}

async fn list(args: &ListArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let list = alerts::list(&session.pool, args.all).await?;
    print(&if global.json { as_json(&list) } else { describe(&list.alerts, &list.channels) })?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn acknowledge(args: &AckArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let change = alerts::acknowledge(&session.pool, &ask::caller(), &args.alert, args.because.as_deref()).await?;
    let text = match (&change.alert.alert, change.changed) {
        (_, true) => format!("{} is acknowledged: it is not repeated until it gets worse or is over", args.alert),
        (Alert { status: AlertStatus::Acknowledged, acknowledged_by, .. }, false) => {
            let by = acknowledged_by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            format!("{} was acknowledged already{by}", args.alert)
        }
        (alert, false) => format!("{} does not fire; it is {}", args.alert, alert.status),
    };
    tell(global, &change, &text)
}

async fn snooze(args: &SnoozeArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let change = alerts::snooze(&session.pool, &ask::caller(), &args.alert, args.time, args.because.as_deref()).await?;
    let text = match (change.changed, change.alert.alert.snoozed_until) {
        (true, Some(until)) => format!("{} is silent until {}", args.alert, describe_moment(until)),
        (true, None) => format!("{} is sent again", args.alert),
        (false, _) => format!("{} is over; there is nothing to snooze", args.alert),
    };
    tell(global, &change, &text)
}

fn tell(global: &Global, change: &AlertChange, text: &str) -> Result<ExitCode, CliError> {
    eprintln!("{text}");
    if global.json {
        print(&as_json(change))?;
    }
    Ok(ExitCode::from(if change.is_as_wanted() { EXIT_OK } else { EXIT_FAILED }))
}

/// Longer than Alertmanager's default `group_wait` and its evaluation interval together.
const FIRING: Duration = Duration::from_secs(60);

/// Sends an example alert and its end: the end follows at once, or after the time that a receiver with its own grouping needs to notify.
async fn test(args: &TestArgs, global: &Global) -> Result<ExitCode, CliError> {
    let loaded = global.load()?;
    // The channel `log` writes to the log, so a log must exist.
    logging::install(loaded.config.log.format, &loaded.config.log.filter).map_err(|error| CliError::new(EXIT_CONFIG, error))?;
    let Some((config, channel)) = loaded.channels.iter().find(|(config, _)| config.name == args.channel) else {
        let names: Vec<&str> = loaded.channels.iter().map(|(config, _)| config.name.as_str()).collect();
        let hint = if names.is_empty() { "; it has none".to_owned() } else { format!("; it has {}", names.join(", ")) };
        return Err(CliError::new(EXIT_CONFIG, AlertsError::UnknownChannel { name: args.channel.clone(), hint }));
    };
    let failed = |cause| CliError::failed(AlertsError::Send { name: config.name.clone(), cause });
    let fired = example(&loaded.config, Change::Fired, None);
    in_time(config.timeout, channel.send(&fired)).await.map_err(failed)?;
    let report = in_time(config.timeout, channel.report(&fired)).await.map_err(failed)?;
    let time = args.time.unwrap_or(if channel.refresh().is_some() { FIRING } else { Duration::ZERO });
    if let Some(report) = &report {
        eprintln!("{report}");
    }
    if !time.is_zero() {
        eprintln!(
            "the test alert fires for {}, so that its receiver is notified (with Alertmanager: after group_wait); Ctrl-C ends it",
            describe_duration(time)
        );
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    let resolved = example(&loaded.config, Change::Resolved, Some(fired.id));
    in_time(config.timeout, channel.send(&resolved)).await.map_err(failed)?;
    let person = if channel.refresh().is_some() { "; check that the operators were notified" } else { "" };
    eprintln!("sent a test alert and its end through {}{person}", config.name);
    if global.json {
        let document = json!({
            "channel": config.name, "kind": config.kind, "sent": true, "fired_seconds": time.as_secs_f64(), "receiver_says": report,
        });
        print(&format!("{document:#}\n"))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

async fn in_time<T>(bound: Duration, trial: impl Future<Output = Result<T, SendFailure>>) -> Result<T, SendFailure> {
    let late = |_| Err(SendFailure::transient(format!("no answer within {}", describe_duration(bound))));
    tokio::time::timeout(bound, trial).await.unwrap_or_else(late)
}

fn example(config: &crate::config::Config, change: Change, thread: Option<String>) -> Notices {
    let now = now();
    let alert = Alert { subject: "this-is-a-test".to_owned(), sample: None, ..Alert::example(now) };
    let status = if change == Change::Resolved { AlertStatus::Resolved } else { AlertStatus::Firing };
    Notices {
        id: uuid::Uuid::new_v4().simple().to_string(),
        relay: config.relay.name.clone(),
        external_url: config.alerts.external_url.clone(),
        at: now,
        notices: vec![Notice { change, alert: Alert { status, ..alert }, thread }],
    }
}

fn describe(found: &[AlertView], channels: &[ChannelRow]) -> String {
    let mut text = match found {
        [] => "nothing fires\n".to_owned(),
        found => describe_alerts(found),
    };
    if !channels.is_empty() {
        text.push('\n');
        text.push_str(&describe_channels(channels));
    }
    text
}

/// One line for each alert, and below it the command to run.
fn describe_alerts(found: &[AlertView]) -> String {
    let mut table = plain_table(&["ALERT", "SEVERITY", "STATE", "SINCE", "WHAT"]);
    for AlertView { alert, key, summary, .. } in found {
        table.add_row([
            key.clone(),
            alert.severity.to_string(),
            describe_status(alert),
            describe_moment(alert.started_at),
            summary.clone(),
        ]);
    }
    let active = found.iter().filter(|view| view.alert.status.is_active());
    let mut commands: Vec<String> = active.map(|view| format!("  -> {}\n", view.command)).collect();
    commands.dedup();
    format!("{}\n{}", table.trim_fmt(), commands.concat())
}

fn describe_status(alert: &Alert) -> String {
    let mut text = alert.status.to_string();
    if let Some(who) = &alert.acknowledged_by {
        text.push_str(&format!(" by {who}"));
    }
    // By the clock of this process: a few seconds more or less of a snooze do not matter.
    let now = now();
    if let Some(until) = alert.snoozed_until.filter(|_| alert.status != AlertStatus::Resolved && alert.is_snoozed(now)) {
        text.push_str(&format!(", silent until {}", describe_moment(until)));
    }
    text
}

fn describe_channels(channels: &[ChannelRow]) -> String {
    let mut table = plain_table(&["CHANNEL", "KIND", "LAST SENT", "FAILURES", "LAST ERROR"]);
    let moment = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), describe_moment);
    for channel in channels {
        let error = channel.last_error.clone().filter(|_| channel.failures > 0);
        table.add_row([
            channel.name.clone(),
            channel.kind.clone(),
            moment(channel.last_sent_at),
            channel.failures.to_string(),
            error.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

fn describe_moment(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 30m or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fires_is_shown_with_what_to_run() {
        let alert = Alert {
            acknowledged_by: Some("ann".to_owned()),
            status: AlertStatus::Acknowledged,
            ..Alert::example(Timestamp::from_micros(1_700_000_000_000_000))
        };
        let shown = describe(&[AlertView::from(alert)], &[]);
        assert!(
            shown.contains("dead_letters/billing  critical  acknowledged by ann  2023-11-14T22:13:20Z  3 dead letters"),
            "{shown}"
        );
        assert!(shown.ends_with("  -> outboxd dead-letters list --handler billing\n"), "{shown}");
        assert_eq!(describe(&[], &[]), "nothing fires\n");
    }
}
