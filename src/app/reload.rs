//! A reload: reads the configuration again, compares it with the running one, applies the difference, and reports the result. On
//! an error the old configuration goes on. Never stops what has not changed.
//!
//! The difference goes to the supervisor (`relay::reload`, `relay::supervisor::changes`). The request of an operator is a number
//! in the row of each instance (`store::reloads`), so it reaches a relay that only polls. The answer is stored there, too, so
//! `outboxd status` shows it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::Loaded;
use super::adopted::AdoptedTables;
use super::kept_cursors::KeptCursors;
use super::service_manager::ServiceManager;
use crate::config::{Config, ConfigError, Console as ConsoleConfig, HandlerConfig, compare};
use crate::console::Console;
use crate::feed::{Certificates, Doors};
use crate::handlers::Built;
use crate::registration;
use crate::relay::{AlertSignals, Change, HandlerSetup, RelayHandle};
use crate::status::judge_adoption;
use crate::store::adoption::InspectedAdoption;
use crate::store::{self, ReloadOutcome, ReloadReport};
use crate::telemetry::chain;

/// Reads the configuration again.
pub type Load = Arc<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>;

/// A request for another configuration.
pub enum Wish {
    /// Read it again from where it came.
    Read,
    /// Take this one.
    Take(Box<Loaded>, oneshot::Sender<ReloadReport>),
}

/// Where requests come from, beside those in the database.
pub struct Reloads {
    /// `None`: there is no file; the program that embeds the relay decides.
    load: Option<Load>,
    wishes: mpsc::Receiver<Wish>,
}

impl Reloads {
    /// With the other end, by which requests are made.
    pub fn new(load: Option<Load>) -> (mpsc::Sender<Wish>, Self) {
        let (sender, wishes) = mpsc::channel(4);
        (sender, Self { load, wishes })
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("has_file", &self.load.is_some()).finish_non_exhaustive()
    }
}

/// A look reads the catalogue for each adopted table.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// Carries requests out, one after the other.
pub(super) struct Reloader {
    current: Loaded,
    reloads: Option<Reloads>,
    handle: RelayHandle,
    pool: PgPool,
    /// A refused configuration is for an operator to know of, and so is an adopted table that is none any more.
    signals: AlertSignals,
    manager: ServiceManager,
    tables: AdoptedTables,
    cursors: KeptCursors,
    listeners: Listeners,
}

/// The listeners beside the relay, and their settings that a reload can change.
#[derive(Default)]
pub(super) struct Listeners {
    /// The clients of the feed, if it is served.
    pub doors: Option<Arc<Doors>>,
    /// The certificate of the feed, if it is served.
    pub certificates: Option<Arc<Certificates>>,
    /// The access to the console, if it is served.
    pub console: Option<Arc<Console>>,
}

impl Reloader {
    pub fn new(
        current: Loaded,
        reloads: Option<Reloads>,
        handle: RelayHandle,
        pool: PgPool,
        (signals, manager): (AlertSignals, ServiceManager),
        listeners: Listeners,
    ) -> Self {
        Self {
            current,
            reloads,
            handle,
            pool,
            signals,
            manager,
            tables: AdoptedTables::default(),
            cursors: KeptCursors::default(),
            listeners,
        }
    }

    /// Until the relay ends.
    pub async fn serve(mut self) -> Infallible {
        // Beside the relay, which never waits for the tables of applications.
        self.look_at_adopted(true).await;
        self.look_at_cursors().await;
        let mut again = tokio::time::interval(self.current.config.alerts.interval.max(SHORTEST_LOOK));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.tick().await; // the first is at once, and that look was just taken
        loop {
            let (wish, in_database) = tokio::select! {
                wish = next_wish(&mut self.reloads) => (wish, None),
                number = self.handle.asked() => (Wish::Read, Some(number)),
                _ = again.tick(), if self.has_to_look() => {
                    self.look_at_adopted(false).await;
                    self.look_at_cursors().await;
                    continue;
                }
            };
            self.manager.reloading();
            let (read, waits) = match wish {
                Wish::Read => (self.load(), None),
                Wish::Take(loaded, waits) => (Ok(*loaded), Some(waits)),
            };
            let report = match read {
                Ok(loaded) => self.take(loaded).await,
                Err(reasons) => ReloadReport::refused(reasons),
            };
            tell(&report);
            self.manager.drains_within(self.current.config.relay.drain_timeout);
            self.manager.ready(&status(&report, self.current.handlers.len()));
            self.handle.reloaded(report.outcome.as_str());
            match report.outcome {
                ReloadOutcome::Refused => self.signals.reload_failed(report.reasons.join("; ")),
                ReloadOutcome::Applied | ReloadOutcome::Unchanged => self.signals.reload_succeeded(),
            }
            if let Err(failure) = store::answer_reload(&self.pool, self.handle.instance(), in_database, &report).await {
                warn!(error = %chain(&failure), "could not note what came of the reload");
            }
            if let Some(waits) = waits {
                waits.send(report).ok(); // the requester may have gone
            }
        }
    }

    fn load(&self) -> Result<Loaded, Vec<String>> {
        let Some(load) = self.reloads.as_ref().and_then(|reloads| reloads.load.as_ref()) else {
            return Err(vec!["this relay has no configuration file; the program that it is part of decides".to_owned()]);
        };
        load().map_err(|error| match error {
            ConfigError::Mistakes { mistakes, .. } => mistakes.iter().map(ToString::to_string).collect(),
            other => vec![chain(&other)],
        })
    }

    /// Applies it, and looks at the adopted tables, of which a relay needs nothing but operators do.
    async fn take(&mut self, new: Loaded) -> ReloadReport {
        let adoptions = new.config.adopt.clone();
        let report = self.apply(new).await;
        if report.outcome != ReloadOutcome::Refused {
            // Nothing in the relay changes with them, so they are in effect even where nothing had to be applied.
            self.current.config.adopt = adoptions;
            self.look_at_adopted(true).await;
            self.look_at_cursors().await;
        }
        report
    }

    /// Whether something changes that no part of the relay would notice.
    fn has_to_look(&self) -> bool {
        !self.current.config.adopt.is_empty() || KeptCursors::concerns(&self.current.config.clients)
    }

    /// Tells metrics and alerts how far clients are behind that leave their cursors to the server.
    async fn look_at_cursors(&mut self) {
        let clients = if self.current.config.feed.is_on() { self.current.config.clients.as_slice() } else { &[] };
        let lags = self.cursors.look(&self.pool, clients).await;
        self.signals.cursors(lags);
    }

    /// Tells log, metrics and alerts what the adopted tables are like.
    async fn look_at_adopted(&mut self, tells_all: bool) {
        let config = &self.current.config;
        let Some(found) = self.tables.look(&self.pool, &config.outbox.schema, &config.adopt, tells_all).await else { return };
        let broken = |found: &InspectedAdoption| Some((found.table.to_string(), judge_adoption(found)?.text));
        self.handle.adopted(found.iter().map(|found| (found.table.to_string(), judge_adoption(found).is_some())));
        self.signals.adoptions(found.iter().filter_map(broken).collect());
    }

    async fn apply(&mut self, new: Loaded) -> ReloadReport {
        let plan = Plan::of(&self.current, &new);
        if plan.report.outcome == ReloadOutcome::Unchanged {
            return plan.report;
        }
        let notes = self.foresee(&plan).await;
        if let Err(failure) = self.handle.apply(plan.change).await {
            return ReloadReport { notes, ..ReloadReport::refused(vec![chain(&failure)]) };
        }
        self.current = plan.becomes;
        if let Some(doors) = &self.listeners.doors {
            doors.replace(&self.current.config.feed.events, &self.current.config.clients);
        }
        if let Some(certificates) = &self.listeners.certificates {
            certificates.replace(&self.current.config.feed);
        }
        if let Some(console) = &self.listeners.console {
            console.replace(&self.current.config);
        }
        ReloadReport { notes, ..plan.report }
    }

    /// The consequences of the change for pending events. If they cannot be read, the change is applied all the same.
    async fn foresee(&self, plan: &Plan) -> Vec<String> {
        let ReloadReport { added, changed, removed, .. } = &plan.report;
        if added.is_empty() && changed.is_empty() && removed.is_empty() {
            return Vec::new();
        }
        let configs: Vec<&HandlerConfig> = plan.becomes.handlers.iter().map(|(config, _)| config).collect();
        let is_changed = |name: &String| added.contains(name) || changed.contains(name) || removed.contains(name);
        match registration::foresee(&self.pool, &configs).await {
            Ok(found) => found
                .into_iter()
                .filter(|found| is_changed(&found.handler) && !found.is_refused)
                .map(|found| format!("{} {}", found.handler, found.text))
                .collect(),
            Err(failure) => vec![format!("the pending events could not be counted: {}", chain(&failure))],
        }
    }
}

/// A comparison, and what follows from it.
struct Plan {
    change: Change,
    report: ReloadReport,
    /// The configuration in effect afterwards: the new one, except for settings that need a restart.
    becomes: Loaded,
}

impl Plan {
    fn of(old: &Loaded, new: &Loaded) -> Self {
        let find = |name: &str, all: &Loaded| all.handlers.iter().find(|(config, _)| config.name == name).cloned();
        let (mut added, mut changed, mut put, mut handlers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (config, built) in &new.handlers {
            let known = find(&config.name, old);
            if let Some(known) = known.as_ref().filter(|known| is_same(known, (config, built))) {
                handlers.push(known.clone());
                continue;
            }
            if known.is_some() { &mut changed } else { &mut added }.push(config.name.clone());
            put.push(HandlerSetup { config: config.clone(), built: built.clone() });
            handlers.push((config.clone(), built.clone()));
        }
        let gone = old.handlers.iter().filter(|(config, _)| find(&config.name, new).is_none());
        let removed: Vec<String> = gone.map(|(config, _)| config.name.clone()).collect();
        let (live, later): (Vec<_>, Vec<_>) = compare(&old.config, &new.config).into_iter().partition(|differs| differs.is_live);
        let names = |differences: Vec<crate::config::Difference>| {
            differences.iter().map(|differs| differs.path.to_owned()).collect::<Vec<String>>()
        };
        let mut live = names(live);
        live.extend((old.config.clients != new.config.clients).then(|| "clients".to_owned()));
        let is_same = put.is_empty() && removed.is_empty() && live.is_empty();
        let report = ReloadReport {
            outcome: if is_same { ReloadOutcome::Unchanged } else { ReloadOutcome::Applied },
            added,
            changed,
            removed: removed.clone(),
            settings: live,
            needs_restart: names(later),
            reasons: Vec::new(),
            notes: Vec::new(),
        };
        let config = in_effect(&old.config, &new.config);
        let change = Change { put, removed, relay: config.relay.clone(), outbox: config.outbox.clone() };
        Self { change, report, becomes: Loaded { config, handlers, channels: old.channels.clone() } }
    }
}

/// Whether a handler does the same. Of one that is code, the code must be the very same; any other follows from its settings.
fn is_same(old: &(HandlerConfig, Built), new: (&HandlerConfig, &Built)) -> bool {
    let same_code = match (&old.1, new.1) {
        (Built::Handler(old), Built::Handler(new)) => Arc::ptr_eq(old, new),
        (Built::Publisher, Built::Publisher) => return old.0 == *new.0,
        (Built::Projection(one), Built::Projection(other)) => return old.0 == *new.0 && one.calls_as(other),
        _ => true,
    };
    old.0 == *new.0 && (same_code || crate::handlers::kind(&new.0.kind).is_some())
}

/// The new settings, with those of the old that only a restart changes.
fn in_effect(old: &Config, new: &Config) -> Config {
    let lists = (new.handlers.clone(), new.adopt.clone(), new.clients.clone());
    let mut config = Config { handlers: lists.0, adopt: lists.1, clients: lists.2, ..old.clone() };
    let (name, wake_up) = (config.relay.name, config.relay.wake_up);
    config.relay = crate::config::Relay { name, wake_up, ..new.relay.clone() };
    config.outbox.retention = new.outbox.retention;
    config.outbox.retention_interval = new.outbox.retention_interval;
    config.outbox.retention_chunk = new.outbox.retention_chunk;
    config.outbox.inbox_retention = new.outbox.inbox_retention;
    config.contracts = new.contracts.clone();
    (config.feed.events, config.feed.start) = (new.feed.events.clone(), new.feed.start);
    config.feed.certificate = new.feed.certificate.clone();
    config.feed.certificate_key = new.feed.certificate_key.clone();
    config.console = ConsoleConfig { listen: old.console.listen.clone(), path: old.console.path.clone(), ..new.console.clone() };
    config
}

async fn next_wish(reloads: &mut Option<Reloads>) -> Wish {
    match reloads {
        Some(reloads) => match reloads.wishes.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await, // no sender is left
        },
        None => std::future::pending().await,
    }
}

/// The status for the service manager after a reload.
fn status(report: &ReloadReport, handlers: usize) -> String {
    match report.outcome {
        ReloadOutcome::Refused => format!("relaying, {handlers} handlers; the last reload was refused, see the log"),
        ReloadOutcome::Unchanged | ReloadOutcome::Applied => format!("relaying, {handlers} handlers"),
    }
}

fn tell(report: &ReloadReport) {
    let ReloadReport { added, changed, removed, settings, needs_restart, reasons, notes, .. } = report;
    for note in notes {
        warn!(note, "the new configuration changes what is delivered");
    }
    match report.outcome {
        ReloadOutcome::Refused => error!(?reasons, "could not reload the configuration, the old one goes on"),
        ReloadOutcome::Unchanged => info!(?needs_restart, "configuration read again, nothing to apply"),
        ReloadOutcome::Applied => info!(?added, ?changed, ?removed, ?settings, ?needs_restart, "configuration reloaded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::parse;
    use crate::config::FakeEnvironment;

    fn loaded(text: &str) -> Loaded {
        parse(text, &FakeEnvironment::with_database()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    }

    const OLD: &str =
        "[[handlers]]\nname = \"a\"\nkind = \"discard\"\n[[handlers]]\nname = \"b\"\nkind = \"sql\"\nfunction = \"app.f\"\n";

    #[test]
    fn only_what_differs_is_applied() {
        let new = "[relay]\nname = \"x\"\nlinger = \"1s\"\n[[handlers]]\nname = \"b\"\nkind = \"sql\"\nfunction = \"app.g\"\n\
                   [[handlers]]\nname = \"c\"\nkind = \"discard\"\n";
        let plan = Plan::of(&loaded(OLD), &loaded(new));
        let report = &plan.report;
        assert_eq!(
            (report.added.as_slice(), report.changed.as_slice(), report.removed.as_slice()),
            (&["c".to_owned()][..], &["b".to_owned()][..], &["a".to_owned()][..])
        );
        assert_eq!(
            (report.settings.as_slice(), report.needs_restart.as_slice()),
            (&["relay.linger".to_owned()][..], &["relay.name".to_owned()][..])
        );
        assert_eq!(plan.change.put.len(), 2);
        assert_eq!((plan.becomes.config.relay.name.as_str(), plan.becomes.config.relay.linger.as_secs()), ("outboxd", 1));
        let again = Plan::of(&plan.becomes, &loaded(new));
        assert_eq!(
            (again.report.outcome, again.report.needs_restart.len()),
            (ReloadOutcome::Unchanged, 1),
            "it still waits for the restart"
        );
    }

    #[test]
    fn the_same_file_changes_nothing() {
        let plan = Plan::of(&loaded(OLD), &loaded(OLD));
        assert_eq!((plan.report.outcome, plan.change.put.len()), (ReloadOutcome::Unchanged, 0));
    }
}
