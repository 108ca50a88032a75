//! `outboxd bench`: the performance of this machine, each figure beside a limit that was measured in the same run.
//! Uses a private throw-away Postgres, with fsync on; never a database that holds anything.

mod brokers;
mod drain;
mod footprint;
mod growth;
mod handlers;
mod latency;
mod outbox;
mod producer;
mod report;
mod uow;
mod webhook;

use std::process::ExitCode;

use super::print::print;
use super::{CliError, EXIT_OK, Global};
use crate::launcher::{Options, Place, Postgres};
use outbox::Server;
use report::Report;

#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// The parts to measure [default: all]
    #[arg(value_enum)]
    pub only: Vec<Part>,
    /// Events per drain
    #[arg(long, default_value_t = 200_000)]
    pub events: u64,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Events behind which the resident memory is measured
    #[arg(long, default_value_t = 1_000_000)]
    pub backlog: u64,
    /// Events in the log, one measurement each, for the part growth
    #[arg(long, value_delimiter = ',', default_values_t = [100_000, 1_000_000])]
    pub sizes: Vec<u64>,
    /// Handlers of one relay, one measurement each, for the part handlers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    pub handlers: Vec<u32>,
    /// Keep the data on disk instead of in memory, to include the cost of fsync on this machine
    #[arg(long)]
    pub disk: bool,
    #[command(flatten)]
    pub brokers: brokers::BrokerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// A handler that does nothing, with and without a row per delivery
    Drain,
    /// Signed webhooks against a bare HTTP client
    Webhook,
    /// Commit to receive at 500 events a second
    Latency,
    /// The cost for the application
    Producer,
    /// The unit of work against the same statements written by hand
    Uow,
    /// Memory behind a backlog, processor time when idle
    Footprint,
    /// Drain, flush, status queries and retention on logs of several sizes
    Growth,
    /// The cost of many handlers: idle, with events for one of them, with events for all
    Handlers,
    /// Brokers whose addresses are given, against a bare client each
    Brokers,
}

pub async fn run(args: BenchArgs, global: &Global) -> Result<ExitCode, CliError> {
    let place = if args.disk { Place::Disk } else { Place::Memory };
    let options = Options { place, ..Options::default() }
        .setting("max_connections", "100")
        .setting("shared_buffers", "512MB")
        .setting("max_wal_size", "4GB")
        .setting("checkpoint_timeout", "30min")
        .setting("autovacuum", "on");
    let postgres =
        tokio::task::spawn_blocking(|| Postgres::start(options)).await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    let server = Server::new(&postgres);
    let mut report = Report::new(&postgres.version().to_string(), place == Place::Memory);
    let wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    if wanted(Part::Drain) {
        report.extend(drain::measure(&server, args.events, args.rounds).await?);
    }
    if wanted(Part::Webhook) {
        report.extend(webhook::measure(&server, args.events / 4, args.rounds).await?);
    }
    if wanted(Part::Latency) {
        report.extend(latency::measure(&server).await?);
    }
    if wanted(Part::Producer) {
        report.extend(producer::measure(&server, args.rounds).await?);
    }
    if wanted(Part::Uow) {
        report.extend(uow::measure(&server, args.events / 10, args.rounds).await?);
    }
    if wanted(Part::Footprint) {
        report.extend(footprint::measure(&server, args.backlog).await?);
    }
    if wanted(Part::Growth) {
        report.extend(growth::measure(&server, &args.sizes).await?);
    }
    if wanted(Part::Handlers) {
        report.extend(handlers::measure(&server, postgres.pid(), &args.handlers).await?);
    }
    if wanted(Part::Brokers) {
        report.extend(brokers::measure(&server, &args.brokers, args.events / 4, args.rounds).await?);
    }
    print(&if global.json { report.to_json() } else { report.to_string() })?;
    drop(postgres);
    Ok(ExitCode::from(EXIT_OK))
}

/// The middle of some measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
