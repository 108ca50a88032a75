//! The demo itself: starts the receiver, the relay and the application, prints the totals every few seconds, and stops all
//! of them in an order that loses no event.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::application::Application;
use super::ledger::Ledger;
use super::page::Page;
use super::receiver::{self, Mischief, Receiver};
use super::relay_config::Looks;
use super::stage::{Schemas, Stage};
use super::story::{Fact, Manner, Story};
use super::tally::{self, Tally};
use super::{relay_config, relay_log};
use crate::app::{self, ServeError, ServeOptions};
use crate::cli::{CliError, EXIT_CONFIG, chain, console};
use crate::config::{Overrides, masked_url};
use crate::store::StoreError;
use crate::telemetry::Telemetry;

pub const LOG_FILE: &str = "relay.log";
const CONFIG_FILE: &str = "outboxd.toml";

const SUMMARY_EVERY: Duration = Duration::from_secs(3);
/// How long the end waits for deliveries that may still succeed.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// Everything that runs.
struct Cast {
    receiver: Receiver,
    page: Page,
    relay: JoinHandle<Result<(), ServeError>>,
    relay_stop: CancellationToken,
    application: JoinHandle<Result<(), sqlx::Error>>,
    application_stop: CancellationToken,
}

/// Plays until `stop`, or for as long as the arguments say.
pub async fn play(
    stage: &Stage,
    args: &DemoArgs,
    story: &Story,
    manner: Manner,
    stop: CancellationToken,
) -> Result<Tally, CliError> {
    let ledger = Arc::new(Ledger::default());
    let cast = start(stage, args, story, manner, &ledger).await?;
    let Cast { receiver, page, mut relay, relay_stop, mut application, application_stop } = cast;
    let end = args.length().map(|length| tokio::time::Instant::now() + length);
    let ended_early = tokio::select! {
        () = stop.cancelled() => None,
        () = sleep_until(end) => None,
        failure = summaries(&stage.pool, stage.schemas, &ledger, story) => Some(failure.into()),
        ended = &mut relay => Some(relay_failure(ended)),
        ended = &mut application => Some(application_failure(ended)),
    };
    if let Some(failure) = ended_early {
        application_stop.cancel();
        relay_stop.cancel();
        wait_for_ends(&application, &relay).await;
        return Err(failure);
    }
    story.say("\nStopping: first the application; then the relay delivers what it can.");
    application_stop.cancel();
    application.await.map_err(CliError::failed)?.map_err(StoreError::query("take an order"))?;
    settle(&stage.pool, &ledger).await?;
    relay_stop.cancel();
    relay.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    drop(page);
    receiver.stop().await;
    let tally = tally::take(&tally::read(&stage.pool, stage.schemas).await?, &ledger);
    tell_end(&tally, story);
    Ok(tally)
}

async fn start(stage: &Stage, args: &DemoArgs, story: &Story, manner: Manner, ledger: &Arc<Ledger>) -> Result<Cast, CliError> {
    relay_log::install(&stage.directory.join(LOG_FILE), Arc::clone(ledger), story.clone()).map_err(CliError::failed)?;
    let secret = relay_config::new_secret();
    let mischief = Mischief { fail_percent: args.fail_percent, outages: receiver::outages(args.length()) };
    let receiver = Receiver::start(&secret, mischief, Arc::clone(ledger), story.clone()).await.map_err(CliError::failed)?;
    let address = || relay_config::free_address().map_err(CliError::failed);
    let (token, digest) = console::make().map_err(CliError::failed)?;
    let (feed_token, _) = console::make().map_err(CliError::failed)?;
    let looks = Looks { metrics: address()?, console: address()?, token, digest, feed: address()?, page: address()?, feed_token };
    let page = Page::start(looks.page, looks.feed, looks.feed_token.clone()).await.map_err(CliError::failed)?;
    let text = relay_config::text(stage, &looks, &receiver.url(), &secret);
    let path = stage.directory.join(CONFIG_FILE);
    std::fs::write(&path, &text).map_err(CliError::failed)?;
    introduce(&receiver, &looks, &path, args, story, manner);
    if args.show_config {
        // The file has the password, the screen need not.
        story.say(format!("\n{}", text.replace(&stage.url, &masked_url(&stage.url))));
    }

    let loaded = app::load(&path).map_err(|error| CliError::new(EXIT_CONFIG, error))?;
    let options = ServeOptions {
        telemetry: Some(Telemetry::install("demo").map_err(CliError::failed)?),
        configuration: Some(app::configuration_reader(path, Overrides::default())),
        ..ServeOptions::default()
    };
    let relay_stop = CancellationToken::new();
    let relay = tokio::spawn(app::serve(loaded, options, relay_stop.clone()));
    let application =
        Application { pool: stage.pool.clone(), schemas: stage.schemas, ledger: Arc::clone(ledger), story: story.clone() };
    let application_stop = CancellationToken::new();
    let application = tokio::spawn(application.run(args.orders_per_second.into(), application_stop.clone()));
    Ok(Cast { receiver, page, relay, relay_stop, application, application_stop })
}

fn introduce(receiver: &Receiver, looks: &Looks, config: &Path, args: &DemoArgs, story: &Story, manner: Manner) {
    let (config, log) = (config.display(), config.with_file_name(LOG_FILE));
    story.say(format!("  Receiver   {}, checks signatures, fails {} % of the time", receiver.url(), args.fail_percent));
    story.say(format!("  Relay      in this process, configured by {config}"));
    story.say(format!("             its log: {}", log.display()));
    story.say("\nCommands for another terminal while the demo runs:");
    story.say(format!("  curl http://{}/metrics", looks.metrics));
    for command in ["status", "dead-letters list", "dead-letters replay --all"] {
        story.say(format!("  outboxd --config {config} {command}"));
    }
    story.say(format!("\nIn a browser: http://{}/  Log in with the token {}", looks.console, looks.token));
    story.say(format!("              http://{}/  shows the feed live, as a client gets it", looks.page));
    story.say("The feed by hand:".to_owned());
    let (feed, bearer) = (looks.feed, format!("-H 'Authorization: Bearer {}'", looks.feed_token));
    story.say(format!("  curl {bearer} 'http://{feed}/v1/feed?limit=3'"));
    story.say(format!("  curl -N {bearer} -H 'Accept: text/event-stream' 'http://{feed}/v1/feed?after=latest'"));
    let every = match manner.stride() {
        1 => "every order".to_owned(),
        stride => format!("one order in {stride}"),
    };
    let end = if args.seconds.is_some() { "" } else { " Ctrl-C ends it." };
    story.say(format!("\nFrom here on: the events of {every}, and of the relay as a whole.{end}\n"));
}

/// Prints the totals every few seconds. Returns only if they cannot be read.
async fn summaries(pool: &PgPool, schemas: Schemas, ledger: &Ledger, story: &Story) -> StoreError {
    let mut ticks = tokio::time::interval(SUMMARY_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match summary(pool, schemas, ledger).await {
            Ok(text) => story.tell(Fact::Summary(text)),
            Err(failure) => return failure,
        }
    }
}

async fn summary(pool: &PgPool, schemas: Schemas, ledger: &Ledger) -> Result<String, StoreError> {
    let states = tally::read_states(pool, relay_config::WEBHOOK).await?;
    let (projected, _) = tally::read_projection(pool, schemas).await?;
    let counts = ledger.counts();
    Ok(format!(
        "recorded {}, delivered {}, retried {}, waiting {}, dead {}, duplicates {}, order violations {}, projected rows {projected}",
        counts.recorded,
        counts.delivered,
        counts.retried,
        tally::unfinished(&states),
        tally::count(&states, "dead"),
        counts.duplicates,
        counts.order_violations,
    ))
}

/// Waits until the relay has nothing left to do, at most for the time above.
async fn settle(pool: &PgPool, ledger: &Ledger) -> Result<(), StoreError> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while Instant::now() < deadline {
        let webhook = tally::read_states(pool, relay_config::WEBHOOK).await?;
        let totals = tally::read_states(pool, relay_config::TOTALS).await?;
        // Before the relay has registered its handlers their events are not in sight.
        let are_all_seen = [&webhook, &totals].iter().all(|states| states.values().sum::<u64>() >= ledger.counts().recorded);
        if are_all_seen && tally::unfinished(&webhook) + tally::unfinished(&totals) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn tell_end(tally: &Tally, story: &Story) {
    story.say(format!(
        "\nIn the end: {} events recorded, {} delivered, {} retrying or waiting, {} dead letters, {} attempts repeated, {} duplicates",
        tally.recorded,
        tally.delivered,
        tally.retrying + tally.waiting + tally.unread,
        tally.dead,
        tally.attempts_retried,
        tally.duplicates,
    ));
    for claim in &tally.claims {
        story.say(format!("  {:<7} {}: {}", if claim.holds { "held" } else { "BROKEN" }, claim.claim, claim.figures));
    }
    story.say(if tally.promise_held {
        "The promise held."
    } else {
        "THE PROMISE DID NOT HOLD; please report it with the log of the relay."
    });
}

/// After a failure: all users of the database should be gone before the demo cleans up.
async fn wait_for_ends<A, B>(application: &JoinHandle<A>, relay: &JoinHandle<B>) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while Instant::now() < deadline && !(application.is_finished() && relay.is_finished()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn sleep_until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn relay_failure(ended: Result<Result<(), ServeError>, tokio::task::JoinError>) -> CliError {
    CliError::failed(format!("the relay ended: {}", why(ended)))
}

fn application_failure(ended: Result<Result<(), sqlx::Error>, tokio::task::JoinError>) -> CliError {
    CliError::failed(format!("the application ended: {}", why(ended)))
}

fn why<E: std::error::Error + 'static>(ended: Result<Result<(), E>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "without a request to stop".to_owned(),
        Ok(Err(failure)) => chain(&failure).to_string(),
        Err(panic) => panic.to_string(),
    }
}
