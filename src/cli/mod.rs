//! The command line: one file per command; this one parses and dispatches.
//! Every command talks to Postgres directly, so it works while the daemon is down.

mod adopt;
mod alerts;
mod ask;
mod bench;
mod check;
mod clients;
mod completions;
mod config;
mod console;
mod contracts;
mod dead_letters;
mod demo;
mod doctor;
mod events;
mod exit;
mod feed;
mod filter;
mod forget;
mod handlers;
mod handover;
mod health;
mod keys;
mod link;
mod man;
mod migrate;
mod print;
mod projections;
mod rebase;
mod reload;
mod replay;
mod run;
mod secret;
mod session;
mod status;
mod streams;
mod subjects;
mod text;
mod usage;
mod verify;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{self, Loaded};
use crate::config::{Draft, Overrides};
use crate::settings::Secret;

pub use exit::{CliError, EXIT_CONFIG, EXIT_CRITICAL, EXIT_DATABASE, EXIT_FAILED, EXIT_OK, EXIT_WARNING, chain};
pub use usage::parse;

/// A transactional outbox relay for Postgres.
#[derive(Debug, Parser)]
#[command(name = "outboxd", version, long_version = version::long(), about, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Configuration file
    #[arg(long, short, global = true, env = "OUTBOXD_CONFIG", value_name = "FILE", default_value = "outboxd.toml")]
    pub config: PathBuf,
    /// Address of the database; no configuration file is then needed
    #[arg(long, global = true, env = "OUTBOXD_DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = session::parse_url)]
    pub database_url: Option<Secret>,
    /// Schema of the outbox [default: as configured, else outbox]
    #[arg(long, global = true, value_name = "NAME", value_parser = session::parse_schema)]
    pub schema: Option<String>,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// The configuration; database and schema of the command line replace those of the file.
    fn load(&self) -> Result<Loaded, CliError> {
        app::load_with(&self.config, &self.overrides()).map_err(|error| CliError::new(EXIT_CONFIG, error))
    }

    /// [`Global::load`], but with the mistakes beside the sections that could be read.
    fn read(&self) -> Result<Draft, CliError> {
        app::read(&self.config, &self.overrides()).map_err(|error| CliError::new(EXIT_CONFIG, error))
    }

    fn overrides(&self) -> Overrides {
        Overrides { database_url: self.address().cloned(), schema: self.schema.clone() }
    }

    /// The given address. Compose files express "not set" as an empty variable.
    fn address(&self) -> Option<&Secret> {
        self.database_url.as_ref().filter(|url| !url.expose().is_empty())
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record the rows that an application inserts into its own table as events
    Adopt(adopt::AdoptArgs),
    /// List, acknowledge and snooze alerts, and test a channel
    Alerts(alerts::AlertsArgs),
    /// Measure the performance on this machine
    Bench(bench::BenchArgs),
    /// Check the configuration and report every mistake at once
    Check(check::CheckArgs),
    /// List the clients of the feed, and make tokens for them
    Clients(clients::ClientsArgs),
    /// Print the shell completion script
    Completions(completions::CompletionsArgs),
    /// Print the configuration, its reference or its schema
    Config(config::ConfigArgs),
    /// Serve the console without a relay, and make tokens for it
    Console(console::ConsoleArgs),
    /// Show, check, compare and export the versions of public events
    Contracts(contracts::ContractsArgs),
    /// List, group, show, export, replay and discard dead letters
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Show outboxd at work: an application, a relay and a receiver that sometimes fails, on a temporary Postgres
    Demo(demo::DemoArgs),
    /// Find faults of the server, the outbox and the configuration, and print how to fix them
    Doctor(doctor::DoctorArgs),
    /// Show an event and its deliveries, list the newest events, or erase events
    Events(events::EventsArgs),
    /// Show the state of the feed, and its events as a client sees them
    Feed(feed::FeedArgs),
    /// Forget a person: destroy the key of their encrypted values, and remove what else is known
    Forget(forget::ForgetArgs),
    /// List, pause, resume, move, test and forget handlers
    Handlers(handlers::HandlersArgs),
    /// Print what is wrong now, who did what in the last hours, and what is left open
    Handover(handover::HandoverArgs),
    /// Ask a running relay whether it is ready
    Health(health::Args),
    /// List the keys that wait behind a failed event, and skip such an event
    Keys(keys::KeysArgs),
    /// Write the manual pages
    Man(man::ManArgs),
    /// Create the outbox in the database, or bring it up to date
    Migrate(migrate::MigrateArgs),
    /// List, build, switch and drop the versions of projections
    Projections(projections::ProjectionsArgs),
    /// After a restore, a copy or an upgrade: count the pending events, and move the positions to this server
    Rebase(rebase::RebaseArgs),
    /// Make the running relays read their configuration again
    Reload(reload::ReloadArgs),
    /// Deliver dead letters or delivered events again, in order and at a bounded rate
    Replay(replay::ReplayArgs),
    /// List, show, cancel and resume replays
    Replays(replay::ReplaysArgs),
    /// Run the relay in the foreground
    Run(run::RunArgs),
    /// Make a secret for signing webhooks
    Secret(secret::SecretArgs),
    /// Show the state of every handler; the exit code says whether all is well
    Status(status::StatusArgs),
    /// Show a stream, and verify all streams
    Streams(streams::StreamsArgs),
    /// Make master keys for the keys of persons, and wrap those keys by a new one
    Subjects(subjects::SubjectsArgs),
    /// Count the pending events in two independent ways, and compare
    Verify(verify::VerifyArgs),
}

/// Runs the command; the value is the exit code of the process.
pub async fn execute(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let result = match command {
        Command::Adopt(args) => adopt::run(args, &global).await,
        Command::Alerts(args) => alerts::run(args, &global).await,
        Command::Bench(args) => bench::run(args, &global).await,
        Command::Check(args) => check::run(args, &global).await,
        Command::Clients(args) => clients::run(&args, &global),
        Command::Completions(args) => completions::run(args, &global).await,
        Command::Config(args) => config::run(args, &global).await,
        Command::Console(args) => console::run(args, &global).await,
        Command::Contracts(args) => contracts::run(args, &global).await,
        Command::DeadLetters(args) => dead_letters::run(args, &global).await,
        Command::Demo(args) => demo::run(args, &global).await,
        Command::Doctor(args) => doctor::run(args, &global).await,
        Command::Events(args) => events::run(args, &global).await,
        Command::Feed(args) => feed::run(args, &global).await,
        Command::Forget(args) => forget::run(args, &global).await,
        Command::Handlers(args) => handlers::run(args, &global).await,
        Command::Handover(args) => handover::run(args, &global).await,
        Command::Health(args) => health::run(args, &global).await,
        Command::Keys(args) => keys::run(args, &global).await,
        Command::Man(args) => man::run(&args, &global),
        Command::Migrate(args) => migrate::run(args, &global).await,
        Command::Projections(args) => projections::run(args, &global).await,
        Command::Rebase(args) => rebase::run(args, &global).await,
        Command::Reload(args) => reload::run(args, &global).await,
        Command::Replay(args) => replay::run(args, &global).await,
        Command::Replays(args) => replay::run_replays(args, &global).await,
        Command::Run(args) => run::run(args, &global).await,
        Command::Secret(args) => secret::run(&args, &global),
        Command::Status(args) => status::run(args, &global).await,
        Command::Streams(args) => streams::run(args, &global).await,
        Command::Subjects(args) => subjects::run(args, &global).await,
        Command::Verify(args) => verify::run(args, &global).await,
    };
    result.unwrap_or_else(CliError::report)
}
