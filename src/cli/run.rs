//! `outboxd run`: the daemon in the foreground, until a signal.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{CliError, EXIT_CONFIG, EXIT_DATABASE, EXIT_FAILED, EXIT_OK, Global, chain};
use crate::app::{self, Loaded, Reloads, ServeError, ServeOptions, ServiceManager, Wish};
use crate::relay::RelayError;
use crate::telemetry::{Telemetry, logging};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signals:
  SIGTERM, SIGINT  finish the deliveries in flight, then stop; a second signal stops at once
  SIGHUP           read the configuration again; see `outboxd reload --help`")]
pub struct RunArgs {
    /// Do not migrate the schema, even if outbox.migrate is set
    #[arg(long)]
    pub no_migrate: bool,
    /// Accept a server that was promoted or restored since the last run (needed once; the new timeline is stored)
    #[arg(long)]
    pub follow_new_timeline: bool,
}

pub async fn run(args: RunArgs, global: &Global) -> Result<ExitCode, CliError> {
    let loaded = global.load()?;
    logging::install(loaded.config.log.format, &loaded.config.log.filter).map_err(|error| CliError::new(EXIT_CONFIG, error))?;
    if loaded.handlers.is_empty() {
        return Err(CliError::new(EXIT_CONFIG, RelayError::NoHandlers));
    }
    let (path, overrides) = (global.config.clone(), global.overrides());
    let (wishes, reloads) = Reloads::new(Some(Arc::new(move || app::load_with(&path, &overrides))));
    let telemetry = Telemetry::install(&loaded.config.relay.name).map_err(CliError::failed)?;
    let configuration = app::configuration_reader(global.config.clone(), global.overrides());
    let options = ServeOptions {
        configuration: Some(configuration),
        without_migrations: args.no_migrate,
        follow_new_timeline: args.follow_new_timeline,
        telemetry: Some(telemetry),
        reloads: Some(reloads),
        service_manager: ServiceManager::from_environment(),
        ..ServeOptions::default()
    };
    serve(loaded, options, wishes).await
}

async fn serve(loaded: Loaded, options: ServeOptions, wishes: mpsc::Sender<Wish>) -> Result<ExitCode, CliError> {
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signals(stop.clone()));
    let hang_ups = tokio::spawn(reload_on_hang_up(wishes));
    let watchdog = tokio::spawn(options.service_manager.clone().keep_alive());
    let ended = app::serve(loaded, options, stop).await;
    signals.abort();
    hang_ups.abort();
    watchdog.abort();
    match ended {
        Ok(()) => Ok(ExitCode::from(EXIT_OK)),
        Err(failure) => {
            error!(error = %chain(&failure), "could not run");
            Ok(ExitCode::from(exit_code(&failure)))
        }
    }
}

fn exit_code(failure: &ServeError) -> u8 {
    match failure {
        ServeError::Store(_) | ServeError::Relay(RelayError::Store(_)) => EXIT_DATABASE,
        ServeError::Relay(RelayError::NoHandlers | RelayError::Partitions { .. } | RelayError::OrderingKey { .. }) => EXIT_CONFIG,
        ServeError::Relay(_) | ServeError::Bind(_) | ServeError::Feed(_) | ServeError::Console(_) => EXIT_FAILED,
    }
}

/// SIGHUP reads the configuration again. Signals that arrive during a reload cause one further reload. Caught from the call on.
fn reload_on_hang_up(wishes: mpsc::Sender<Wish>) -> impl Future<Output = ()> {
    let caught = signal(SignalKind::hangup());
    async move {
        let Ok(mut hang_up) = caught else {
            warn!("SIGHUP cannot be caught on this system; use `outboxd reload`");
            return;
        };
        while hang_up.recv().await.is_some() {
            info!("reading the configuration again");
            if wishes.send(Wish::Read).await.is_err() {
                return;
            }
        }
    }
}

/// The first signal requests a graceful stop, the second ends the process at once. Both are caught from the call on: if the spawned task caught
/// them, a signal that arrives before its first poll would kill the process.
pub fn stop_on_signals(stop: CancellationToken) -> impl Future<Output = ()> {
    let caught = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = caught else {
            warn!("signals cannot be caught on this system; a stop will not be graceful");
            return;
        };
        for count in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count > 1 {
                warn!("stopping at once");
                std::process::exit(i32::from(EXIT_FAILED));
            }
            info!("stopping after the deliveries in flight; a second signal stops at once");
            stop.cancel();
        }
    }
}
