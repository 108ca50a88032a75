//! The supervisor: shares the subscriptions between instances, starts their loops, restarts loops that fail, stops loops that
//! must stop. Only the supervisor starts loops. Everything it knows can be read again from the database.
//!
//! Leases. A subscription has one owner: a lease row with a rising `epoch`, timed by the clock of the database. In each round (a
//! third of `relay.lease`) the supervisor checks the server, renews its leases, counts the living instances, and acquires or
//! gives back subscriptions until it has its share. Every write of a loop says `where epoch = <mine>`. Zero rows mean that
//! another owner has taken over, and the loop drops everything in memory.
//!
//! Trust. The fence protects what is recorded, but not a receiver: a process that was frozen and wakes up would begin attempts
//! that belong to another owner, until its first flush fails. So the supervisor keeps, by its own monotonic clock, until when its
//! leases can be *trusted*, measured from before the renewal was sent. No attempt begins later than that (`Trust` in `relay`). If
//! renewals keep failing, the supervisor abandons its loops before the leases run out.
//!
//! A loop that ends with an error starts again from what is stored, after a growing pause; the other loops are not affected. A
//! loop whose lease was lost is not restarted; the next round finds out whether the lease is gone or an operator has moved the
//! position (`moves`).
//!
//! A long file: one round of leases stands together.

mod changes;
mod drain;
mod helpers;
mod places;
mod running;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::observer::{self, Served};
use super::reload::{self, Desk, RelayHandle};
use super::subscription::{self, Assignment, End};
use super::{
    AlertSetup, Figures, HandlerSetup, HandlerShared, Live, Order, RelayError, Shared, Trust, recorder, subscription_name, tail,
    wake_up,
};
use crate::config::{self};
use crate::failpoints::failpoint;
use crate::store::subscriptions::{self, Candidate};
use crate::store::{self, Instance, Selection, ServerWatch, SessionSettings, StoreError};
use crate::telemetry::{ContractUse, DatabaseOperation, Failure, HandlerMetrics, Health, RelayMetrics, chain};

pub use places::check_registration;

use helpers::Helpers;
use places::{Places, candidate, check_server, register, report_blind_spots};
use running::Running;

/// The parts of a relay beside its handlers.
pub struct RelayOptions {
    pub connections: store::Connections,
    /// The watch that `connections` were opened with.
    pub server: Arc<ServerWatch>,
    /// The settings of the sessions of `connections`.
    pub session: SessionSettings,
    pub relay: config::Relay,
    pub outbox: config::Outbox,
    /// Longest that the server works at one statement; zero: no bound.
    pub statement_timeout: Duration,
    /// Start on a timeline other than the stored one.
    pub follow_new_timeline: bool,
    pub health: Arc<Health>,
    pub alerts: AlertSetup,
    /// Counts what handlers are sent of contracts; [`write_contract_use`](super::write_contract_use) writes it.
    pub contract_use: ContractUse,
    /// Told of the last place that this relay has given to an event of the feed.
    pub published: watch::Sender<i64>,
    /// Cancelled when the handlers are registered and the loops may begin.
    pub started: CancellationToken,
}

/// A relay that is ready to run.
pub struct Relay {
    shared: Arc<Shared>,
    outbox: config::Outbox,
    handlers: Vec<Arc<HandlerShared>>,
    follow_new_timeline: bool,
    desk: Desk,
    alerts: AlertSetup,
    started: CancellationToken,
}

impl Relay {
    /// Puts the parts together; nothing is connected or started. The handle changes the relay while it runs.
    pub fn new(options: RelayOptions, handlers: Vec<HandlerSetup>) -> Result<(Self, RelayHandle), RelayError> {
        if handlers.is_empty() {
            return Err(RelayError::NoHandlers);
        }
        let handlers: Vec<_> = handlers.into_iter().map(|handler| Arc::new(share(handler, &options.contract_use))).collect();
        let shared = Arc::new(Shared {
            connections: options.connections,
            server: options.server,
            instance: this_instance(),
            session: Arc::new(options.session),
            answer_timeout: store::answer_timeout(options.statement_timeout),
            settings: Live::new(options.relay, count_loops(&handlers)),
            wake_up: wake_up::WakeUp::new(),
            tail: tail::Tail::new(),
            recorder: recorder::Recorder::new(),
            began: Instant::now(),
            beginners: Semaphore::new(BEGINNERS),
            served: watch::Sender::new(Vec::new()),
            observe: Arc::new(Notify::new()),
            health: options.health,
            metrics: RelayMetrics::new(),
            contract_use: options.contract_use,
            trust: Trust::new(Instant::now()),
            published: options.published,
        });
        let (desk, handle) = reload::desk(shared.instance.id.clone(), shared.metrics.clone());
        let RelayOptions { outbox, follow_new_timeline, alerts, started, .. } = options;
        Ok((Self { shared, outbox, handlers, follow_new_timeline, alerts, desk, started }, handle))
    }

    /// Runs until `stop`, then drains. `Err` only for what waiting would not fix.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RelayError> {
        let Some(subscriptions) = stop.run_until_cancelled(self.begin()).await.transpose()? else { return Ok(()) };
        info!(
            instance = self.shared.instance.id,
            handlers = self.handlers.len(),
            subscriptions = subscriptions.len(),
            "relay started"
        );
        self.started.cancel();
        let outbox = watch::Sender::new(self.outbox);
        let helpers = Helpers::start(&self.shared, outbox.subscribe(), self.alerts);
        let mut supervisor = Supervisor {
            shared: Arc::clone(&self.shared),
            handlers: self.handlers,
            places: subscriptions,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            desk: self.desk,
            outbox,
        };
        let ended = supervisor.run(&stop).await;
        supervisor.drain().await;
        helpers.stop().await;
        let leaving = store::leave(&self.shared.connections.keeper, &self.shared.instance.id);
        tokio::time::timeout(SIGN_OFF, leaving).await.ok(); // the instance would be forgotten in a day anyway
        info!("relay stopped");
        ended
    }

    /// Looks at the server and registers the handlers, however often the database goes away meanwhile.
    async fn begin(&self) -> Result<Places, RelayError> {
        let begin = || {
            let beginning = async {
                check_server(&self.shared, self.follow_new_timeline).await?;
                report_blind_spots(&self.shared).await?;
                register(&self.shared.connections.keeper, &self.handlers).await
            };
            store::answered(self.shared.answer_timeout, beginning, RelayError::from)
        };
        let pauses =
            ExponentialBuilder::default().with_min_delay(RESTART_MIN).with_max_delay(RESTART_MAX).without_max_times().with_jitter();
        begin
            .retry(pauses)
            .when(|error| matches!(error, RelayError::Store(failure) if failure.is_transient()))
            .notify(|error, pause| {
                self.shared.metrics.database_error(DatabaseOperation::Connect);
                warn!(error = %chain(error), retry_in = ?pause, "could not begin, trying again");
            })
            .await
    }
}

fn this_instance() -> Instance {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    Instance {
        id: uuid::Uuid::now_v7().to_string(),
        host: host.map_or_else(|| "unknown".to_owned(), |host| host.trim().to_owned()),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// Loops that serve these handlers if no other instance helps.
fn count_loops(handlers: &[Arc<HandlerShared>]) -> usize {
    handlers.iter().map(|handler| usize::from(handler.config.partitions)).sum()
}

fn share(handler: HandlerSetup, counts: &ContractUse) -> HandlerShared {
    let HandlerSetup { config, built } = handler;
    let selection = |partition| Arc::new(Selection::new(&config.filter, &config.ordering, config.partitions, partition));
    HandlerShared {
        metrics: HandlerMetrics::new(&config.name, &config.kind),
        contract_use: counts.of_handler(&config.name, config.contracts.iter().flat_map(|pins| pins.versions())),
        selections: (0..config.partitions).map(selection).collect(),
        figures: Figures::new(config.partitions),
        unreadable_in_a_row: AtomicUsize::new(0),
        built,
        config,
    }
}

/// Which subscription's loop ended, and how.
type LoopEnd = (i32, Result<End, RelayError>);

struct Supervisor {
    shared: Arc<Shared>,
    handlers: Vec<Arc<HandlerShared>>,
    places: Places,
    running: HashMap<i32, Running>,
    tasks: JoinSet<LoopEnd>,
    desk: Desk,
    outbox: watch::Sender<config::Outbox>,
}

impl Supervisor {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), RelayError> {
        let wake_up = Arc::clone(&self.shared.wake_up);
        let mut asked_by_person = false;
        loop {
            if !stop.is_cancelled() {
                self.lease_round(asked_by_person).await?;
                asked_by_person = false;
                self.release_overdue();
                self.start_waiting();
                // For a program that embeds the relay and serves no `/readyz`.
                self.shared.metrics.ready(self.shared.health.report(Instant::now()).ready);
            }
            let next_round = Instant::now() + self.shared.options().lease / 3;
            let timer = self.running.values().flat_map(|running| [running.restart_at, running.release_at]).flatten().min();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(Some(next_round)) => {}
                () = wake_up.control() => asked_by_person = true,
                Some(ended) = self.tasks.join_next_with_id() => self.enter_end(ended),
                Some(request) = self.desk.requests.recv() => self.enter_request(request).await,
                () = sleep_until(timer) => {}
            }
        }
    }

    /// Renews, takes and gives back leases. A database in trouble costs nothing but time, until the leases run out.
    async fn lease_round(&mut self, asked_by_person: bool) -> Result<(), RelayError> {
        let began = Instant::now();
        let lease = self.shared.options().lease;
        let round = tokio::time::timeout(lease / 2, self.try_lease_round(asked_by_person)).await;
        match round.unwrap_or_else(|_| Err(StoreError::query("renew leases in time")(sqlx::Error::PoolTimedOut).into())) {
            Ok(left) => {
                self.shared.trust.extend(began + left);
                self.shared.health.accepted();
                self.shared.health.owns(self.running.keys().filter_map(|id| self.name_of(*id)).collect::<Vec<_>>());
                self.publish_served();
                Ok(())
            }
            Err(RelayError::Store(failure)) => {
                self.shared.metrics.database_error(DatabaseOperation::Lease);
                self.shared.heard(&failure);
                self.shared.health.database_failed(chain(&failure));
                warn!(error = %chain(&failure), "could not renew the leases");
                if !self.shared.trust.holds_for(lease / 10) {
                    self.abandon_all();
                }
                Ok(())
            }
            // A standby or another cluster answers: wait for the right one, and dispatch nothing meanwhile.
            Err(refusal) => {
                self.shared.health.refused(refusal.to_string());
                error!(error = %refusal, "this server is refused");
                self.abandon_all();
                Ok(())
            }
        }
    }

    /// Tells the observer what this relay serves and owns.
    fn publish_served(&self) {
        let one = |(id, (handler, partition)): (&i32, &(Arc<HandlerShared>, u16))| Served {
            subscription: *id,
            name: subscription_name(&handler.config, *partition),
            handler: Arc::clone(handler),
            partition: *partition,
            is_owned: self.running.contains_key(id),
        };
        let mut served: Vec<Served> = self.places.iter().map(one).collect();
        served.sort_by_key(|one| one.subscription);
        self.shared.served.send_if_modified(|known| {
            let differs = !observer::is_same(known, &served);
            *known = served;
            differs
        });
    }

    fn name_of(&self, id: i32) -> Option<String> {
        let (handler, partition) = self.places.get(&id)?;
        Some(subscription_name(&handler.config, *partition))
    }

    /// How long all leases hold, from the beginning of the round.
    async fn try_lease_round(&mut self, asked_by_person: bool) -> Result<Duration, RelayError> {
        // A relay that was running before a failover follows it; one that starts after it refuses.
        check_server(&self.shared, true).await?;
        report_blind_spots(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        let (pool, instance, lease) = (&shared.connections.keeper, &shared.instance, shared.options().lease);
        let beat = store::beat(pool, instance, lease).await?;
        self.desk.tell_wish(beat.reload_asked);
        let served: Vec<i32> = self.places.keys().chain(self.running.keys()).copied().collect();
        let renewed = subscriptions::renew(pool, &instance.id, lease, &served).await?;
        failpoint!("lease-renewed", !renewed.is_empty());
        let is_renewed = |id: &i32| renewed.iter().any(|renewed| renewed.subscription == *id);
        // A draining loop gives its lease back, perhaps a moment ago: the end of the loop shows whether it has.
        let lost = self.running.iter().filter(|(id, running)| !is_renewed(id) && !running.is_giving_back());
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.lose(id);
        }
        for renewed in &renewed {
            let is_served = self.places.contains_key(&renewed.subscription);
            match self.running.get_mut(&renewed.subscription) {
                Some(running) if running.is_doubtful && !is_served => drop(self.running.remove(&renewed.subscription)),
                Some(running) => running.learn(renewed.wishes, asked_by_person),
                None => {}
            }
        }
        let fair_share = self.places.len().div_ceil(beat.alive);
        let working = self.running.values().filter(|running| running.works()).count();
        if working > fair_share {
            self.give_back(working - fair_share);
        } else if self.running.len() < fair_share {
            let free = self.places.iter().filter(|(id, _)| !self.running.contains_key(id));
            let candidates: Vec<Candidate> = free.map(|(id, (handler, _))| candidate(*id, &handler.config)).collect();
            let wanted = fair_share - self.running.len();
            for acquired in subscriptions::acquire(pool, &instance.id, lease, &candidates, wanted).await? {
                failpoint!("lease-acquired");
                self.running.insert(acquired.subscription, Running::new(acquired.was_abandoned, acquired.wishes));
            }
        }
        let left = renewed.iter().map(|renewed| renewed.left).min().unwrap_or(lease).min(lease);
        // Leases of a loop that ended without us noticing would be renewed for ever.
        for renewed in renewed {
            if self.places.contains_key(&renewed.subscription) {
                // Taken by a round that did not hear the answer: who knows what the last owner was.
                self.running.entry(renewed.subscription).or_insert_with(|| Running::new(true, renewed.wishes));
            }
        }
        self.shared.metrics.leases_held(self.running.len());
        Ok(left)
    }

    fn start_waiting(&mut self) {
        let now = Instant::now();
        for (id, running) in &mut self.running {
            if running.task.is_some() || running.is_doubtful || running.restart_at.is_some_and(|at| at > now) {
                continue;
            }
            let Some((handler, partition)) = self.places.get(id) else { continue };
            let assignment = Assignment {
                shared: Arc::clone(&self.shared),
                handler: Arc::clone(handler),
                subscription: *id,
                partition: *partition,
                was_abandoned: running.was_abandoned,
                was_unrecorded: running.was_unrecorded,
                control: running.control.subscribe(),
            };
            let id = *id;
            let task = self.tasks.spawn(async move { (id, subscription::run(assignment).await) });
            running.task = Some(task.id());
            running.started_at = now;
            running.restart_at = None;
            running.serves = Some(Arc::clone(handler));
        }
    }

    fn enter_end(&mut self, ended: Result<(tokio::task::Id, LoopEnd), JoinError>) {
        match ended {
            Ok((task, (id, result))) => {
                if self.running.get(&id).is_some_and(|running| running.task == Some(task)) {
                    self.enter_result(id, result);
                }
            }
            Err(died) => {
                let id = self.running.iter().find(|(_, running)| running.task == Some(died.id())).map(|(id, _)| *id);
                if let Some(id) = id {
                    error!(subscription = id, error = %died, "a loop panicked; this is a bug, please report it");
                    let text = format!("its loop panicked, please report it: {died}");
                    let failure = Failure { operation: DatabaseOperation::Flush, sqlstate: None, event: None, text };
                    self.name_of(id).iter().for_each(|name| self.shared.health.failed(name, failure.clone()));
                    self.shared.observe.notify_one();
                    self.restart_later(id);
                }
            }
        }
    }

    fn enter_result(&mut self, id: i32, result: Result<End, RelayError>) {
        match result {
            Ok(End::Released) => self.enter_released(id),
            // The next round shows whether the lease is gone, or an operator has moved the position under it.
            Ok(End::LeaseLost) => {
                if let Some(running) = self.running.get_mut(&id) {
                    (running.task, running.is_doubtful) = (None, true);
                }
            }
            Err(failure) => {
                let handler = self.handler_of(id);
                warn!(handler, error = %chain(&failure), "could not go on, starting over from what is stored");
                self.shared.observe.notify_one();
                self.restart_later(id);
                if let Some(running) = self.running.get_mut(&id) {
                    running.was_unrecorded = matches!(failure, RelayError::Unrecorded(_));
                }
            }
        }
    }

    fn restart_later(&mut self, id: i32) {
        if !self.places.contains_key(&id) {
            self.enter_released(id); // no loop serves it; its lease is not renewed and expires
            return;
        }
        if let Some(running) = self.running.get_mut(&id) {
            running.task = None;
            // Its own life, not the death of another: nothing is counted.
            running.was_abandoned = false;
            let pause = running.pauses.next(running.started_at.elapsed());
            running.restart_at = Some(Instant::now() + pause);
        }
    }

    fn lose(&mut self, id: i32) {
        let handler = self.handler_of(id);
        if let Some(running) = self.running.remove(&id) {
            self.shared.metrics.lease_lost();
            self.shared.metrics.leases_held(self.running.len());
            running.order(Order::Abandon);
            warn!(handler, subscription = id, "lease lost");
        }
    }

    /// The name for the log; that of a handler which is not configured any more, too.
    fn handler_of(&self, id: i32) -> String {
        let serves = self.running.get(&id).and_then(|running| running.serves.as_ref());
        let handler = serves.or_else(|| self.places.get(&id).map(|(handler, _)| handler));
        handler.map_or_else(|| format!("subscription {id}"), |handler| handler.config.name.clone())
    }

    fn abandon_all(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.lose(id);
        }
        self.publish_served();
    }

    fn give_back(&mut self, surplus: usize) {
        for running in self.running.values().filter(|running| running.works()).take(surplus) {
            running.order(Order::Drain);
        }
    }
}

/// Loops that may begin at once.
const BEGINNERS: usize = 8;

pub(super) const RESTART_MIN: Duration = Duration::from_millis(200);
pub(super) const RESTART_MAX: Duration = Duration::from_secs(30);
/// For the last statement of an instance that stops; its deadline is part of what a service manager is told (`app::STOP_MARGIN`).
const SIGN_OFF: Duration = Duration::from_secs(2);

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
