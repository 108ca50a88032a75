//! `outboxd feed`: the state of the feed, and its events as a client sees them. Reads the database directly; changes nothing.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use sqlx::PgPool;

use super::print::print;
use super::text::{plain_table, printable};
use super::{CliError, EXIT_CONFIG, EXIT_OK, Global, session};
use crate::app::Loaded;
use crate::config::ClientConfig;
use crate::feed::{Look, judge_stored};
use crate::settings::describe_duration;
use crate::store::feed::{FeedEpoch, FeedStatus, ListedCursor, list_client_cursors, list_epochs, read_status};

/// Show the state of the feed, and its events as a client sees them
#[derive(Debug, Args)]
pub struct FeedArgs {
    #[command(subcommand)]
    command: FeedCommand,
}

#[derive(Debug, Subcommand)]
enum FeedCommand {
    /// Show the last place, the events that retention has removed, the epochs of the feed, and the cursors that clients leave to the server
    #[command(after_help = "Examples:
  outboxd feed status
  outboxd feed status --json | jq .last_place

The state of a cursor is valid, expired (retention has removed events behind it), history-diverged or another-history (see docs/clients.md).
`outboxd status` shows the publisher like a handler, under the name feed.")]
    Status,
    /// Print events as a client would see them, one CloudEvent a line
    #[command(after_help = "Examples:
  outboxd feed tail --client acme
  outboxd feed tail --client acme --after earliest --limit 10
  outboxd feed tail --client acme --follow | jq .type")]
    Tail(TailArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    /// Name of the client in the configuration
    #[arg(long, value_name = "NAME")]
    client: String,
    /// Start after this: earliest, latest, a cursor, the id of an event, or a time
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    after: String,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// At the end, wait for more
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the configuration has no client \"{name}\"; it has {known}")]
struct UnknownClient {
    name: String,
    known: String,
}

/// The pause between two polls.
const LOOK: Duration = Duration::from_millis(250);

pub async fn run(args: FeedArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        FeedCommand::Status => status(global).await?,
        FeedCommand::Tail(args) => tail(&args, global).await?,
    }
    Ok(ExitCode::from(EXIT_OK))
}

async fn status(global: &Global) -> Result<(), CliError> {
    let session = session::open(global).await?;
    let (status, epochs) = (read_status(&session.pool).await?, list_epochs(&session.pool).await?);
    let cursors = judge_cursors(&session.pool).await?;
    print(&if global.json {
        format!("{:#}\n", document(&status, &epochs, &cursors))
    } else {
        describe(&status, &epochs) + &describe_cursors(&cursors)
    })?;
    Ok(())
}

/// The cursors that clients have left to the server, and what became of each.
async fn judge_cursors(pool: &PgPool) -> Result<Vec<(ListedCursor, &'static str)>, CliError> {
    let mut judged = Vec::new();
    for listed in list_client_cursors(pool).await? {
        let state = judge_stored(pool, &listed.cursor).await.map_err(CliError::failed)?;
        judged.push((listed, state));
    }
    Ok(judged)
}

fn describe_cursors(cursors: &[(ListedCursor, &str)]) -> String {
    if cursors.is_empty() {
        return String::new();
    }
    let mut table = plain_table(&["CLIENT", "CURSOR", "STATE", "PLACES BEHIND", "OLDEST UNREAD", "LAST MOVED"]);
    for (cursor, state) in cursors {
        let oldest = cursor.oldest.map_or_else(|| "-".to_owned(), |age| describe_duration(Duration::from_secs(age.as_secs())));
        let (behind, moved_at) = (cursor.behind.to_string(), cursor.moved_at.to_string());
        table.add_row([printable(&cursor.client), printable(&cursor.name), (*state).to_owned(), behind, oldest, moved_at]);
    }
    format!("\n{}\n", table.trim_fmt())
}

fn document(status: &FeedStatus, epochs: &[FeedEpoch], cursors: &[(ListedCursor, &str)]) -> serde_json::Value {
    let cursor = |(cursor, state): &(ListedCursor, &str)| {
        json!({
            "client": cursor.client,
            "name": cursor.name,
            "cursor": cursor.cursor,
            "state": state,
            "behind": cursor.behind,
            "oldest_seconds": cursor.oldest.map(|age| age.as_secs_f64()),
            "moved_at": cursor.moved_at,
        })
    };
    json!({
        "last_place": status.head,
        "newest_at": status.newest_at,
        "oldest_place": status.oldest_place,
        "removed_up_to": status.removed_place,
        "removed_events": status.removed_events,
        "removed_at": status.removed_at,
        "types": status.types,
        "epochs": epochs,
        "cursors": cursors.iter().map(cursor).collect::<Vec<_>>(),
    })
}

fn describe(status: &FeedStatus, epochs: &[FeedEpoch]) -> String {
    if epochs.is_empty() {
        return "no event has a place yet: [feed] is not configured, or no relay has run with it\n".to_owned();
    }
    let moment = |moment: Option<crate::domain::Timestamp>| moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string());
    let mut text = format!("last place     {}, of {}\n", status.head, moment(status.newest_at));
    text.push_str(&match status.removed_place {
        0 => "removed        nothing\n".to_owned(),
        place => format!(
            "removed        up to place {place}: {} events, the last of {}\n",
            status.removed_events,
            moment(status.removed_at)
        ),
    });
    text.push_str(&format!("event types    {}\n\n", status.types));
    let mut table = plain_table(&["EPOCH", "PLACES ABOVE", "SINCE", "BECAUSE"]);
    for epoch in epochs {
        let because = match epoch.why.as_str() {
            "first" => "the feed began",
            "timeline" => "another server took over",
            _ => "the outbox was restored or copied",
        };
        table.add_row([epoch.number.to_string(), epoch.began_after.to_string(), epoch.at.to_string(), because.to_owned()]);
    }
    text + &table.trim_fmt() + "\n"
}

async fn tail(args: &TailArgs, global: &Global) -> Result<(), CliError> {
    let loaded = global.load()?;
    let client = find(&loaded, &args.client)?;
    let session = session::open(global).await?;
    let mut look = Look::begin(session.pool.clone(), &loaded.config.feed, client, &args.after).await.map_err(CliError::failed)?;
    let mut left = args.limit as usize;
    loop {
        let (events, is_up_to_date) = look.next(left.min(100)).await.map_err(CliError::failed)?;
        left -= events.len();
        for event in events {
            print(&format!("{event}\n"))?;
        }
        if left == 0 || (is_up_to_date && !args.follow) {
            return Ok(());
        }
        if is_up_to_date {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn find<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a ClientConfig, CliError> {
    let clients = &loaded.config.clients;
    let known = clients.iter().map(|client| client.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown =
        || UnknownClient { name: name.to_owned(), known: if known.is_empty() { "none".to_owned() } else { known.clone() } };
    clients.iter().find(|client| client.name == name).ok_or_else(|| CliError::new(EXIT_CONFIG, unknown()))
}
