//! `outboxd demo`: an application, the relay and a receiver that sometimes fails, to watch.
//! Runs on a temporary Postgres, or in two schemas of its own on a given server, and removes them at the end.

mod application;
mod ledger;
mod outage;
mod page;
mod play;
mod receiver;
mod relay_config;
mod relay_log;
mod stage;
mod story;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::run::stop_on_signals;
use super::{CliError, EXIT_FAILED, EXIT_OK, Global};
use stage::Stage;
use story::{Manner, Story};
use tally::Tally;

/// With `--database-url` the demo runs on that server, in schemas `outbox_demo` and `shop_demo` that it drops at the end.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Stop after this many seconds; without this option the demo runs until Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// How fast the application takes orders
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub orders_per_second: u32,
    /// How often the receiver fails
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_percent: u8,
    /// Also print the configuration of the relay
    #[arg(long)]
    pub show_config: bool,
    /// No colours, not even on a terminal
    #[arg(long)]
    pub no_color: bool,
}

impl DemoArgs {
    fn length(&self) -> Option<Duration> {
        self.seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

pub async fn run(args: DemoArgs, global: &Global) -> Result<ExitCode, CliError> {
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signals(stop.clone()));
    let manner = Manner::new(args.no_color, global.json, args.orders_per_second.into());
    let (story, teller) = Story::begin(manner, stop.clone());
    let ended = perform(&args, global, &story, manner, stop).await;
    teller.finish().await;
    signals.abort();
    let tally = ended?;
    if global.json {
        let text = serde_json::to_string_pretty(&tally).map_err(CliError::failed)?;
        super::print::print(&format!("{text}\n"))?;
    }
    Ok(ExitCode::from(if tally.promise_held { EXIT_OK } else { EXIT_FAILED }))
}

/// Sets the stage, plays, clears the stage: the last one whatever happened before.
async fn perform(
    args: &DemoArgs,
    global: &Global,
    story: &Story,
    manner: Manner,
    stop: CancellationToken,
) -> Result<Tally, CliError> {
    let progress = |what: &str, text: &str| story.say(format!("  {what:<10} {text}"));
    story.say("outboxd demo: an application that takes orders, the relay, and a webhook receiver that sometimes fails\n");
    let stage = match &global.database_url {
        Some(url) => Stage::shared(url.expose().to_owned(), &progress).await?,
        None => Stage::private(&progress).await?,
    };
    let played = play::play(&stage, args, story, manner, stop).await;
    if !matches!(&played, Ok(tally) if tally.promise_held) {
        keep_log(&stage, story);
    }
    match stage.clear().await {
        Ok(what) => story.say(format!("\nCleaned up: {what}.")),
        Err(error) if played.is_ok() => return Err(error),
        Err(error) => story.say(format!("\nCould not clean up: {}", super::chain(&*error.error))),
    }
    played
}

/// What went wrong is in the log of the relay, which goes with the stage.
fn keep_log(stage: &Stage, story: &Story) {
    let kept = std::env::temp_dir().join(format!("outboxd-demo-{}.log", std::process::id()));
    if std::fs::copy(stage.directory.join(play::LOG_FILE), &kept).is_ok() {
        story.say(format!("\nThe relay's log was kept: {}", kept.display()));
    }
}
