//! The loop of the alerts: acquires the lease, evaluates, sends, records. Every failed step is retried; no event waits for any of
//! it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use sqlx::PgConnection;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::looking::{Seen, Unknown, Wishes, look_at_channels, look_at_cursors, look_at_database, look_at_handlers};
use super::telling::{Line, Sent, Situation, log_line};
use super::{AlertContext, AlertSetup};
use crate::channels::SendFailure;
use crate::domain::Timestamp;
use crate::domain::alerts::{Alert, AlertKind, AlertStatus, Observation, REMEMBERED, step};
use crate::failpoints::failpoint;
use crate::store::{StoreError, alerts, begin, commit};
use crate::telemetry::{AlertMetrics, ChannelMetrics, DatabaseOperation, chain};

/// How often the channels are looked at: what is due goes out so much later at most.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// For tries that are under way when the relay stops.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// That we look after the alerts.
struct Ownership {
    epoch: i64,
    /// Until then no other instance can have taken over, by our own clock.
    trusted_until: Instant,
    /// Channels that have gone are forgotten once.
    has_tidied: bool,
}

enum Ended {
    Told(Sent),
    Beat(Result<(), SendFailure>),
}

pub(super) struct Watch {
    context: AlertContext,
    setup: AlertSetup,
    lines: Vec<Line>,
    alerts: Vec<Alert>,
    own: Option<Ownership>,
    /// The time of the database, and when we learned it.
    clock: (Timestamp, Instant),
    /// Since when our own looks fail, and why the last one did.
    failing: Option<(Instant, String)>,
    tries: FuturesUnordered<BoxFuture<'static, Ended>>,
    metrics: AlertMetrics,
    heartbeat_metrics: Option<ChannelMetrics>,
    is_beating: bool,
}

impl Watch {
    pub fn new(context: AlertContext, setup: AlertSetup) -> Self {
        let mut lines: Vec<Line> = setup.channels.iter().map(|(config, channel)| Line::new(config, Arc::clone(channel))).collect();
        if !setup.channels.iter().any(|(config, _)| config.kind == "log") {
            lines.push(log_line(&lines));
        }
        Self {
            lines,
            alerts: Vec::new(),
            own: None,
            clock: (Timestamp::from_micros(0), Instant::now()),
            failing: None,
            tries: FuturesUnordered::new(),
            metrics: AlertMetrics::new(),
            heartbeat_metrics: setup.heartbeat.as_ref().map(|_| ChannelMetrics::new("heartbeat")),
            is_beating: false,
            context,
            setup,
        }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut lease = ticks(self.context.lease / 3);
        let mut look = ticks(self.setup.config.interval);
        let mut tell = ticks(TELL_INTERVAL);
        let mut beat = ticks(self.setup.config.heartbeat_interval);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = lease.tick() => if self.keep_lease().await {
                    // Just taken: there is no reason to wait for the next look.
                    look.reset_immediately();
                },
                _ = look.tick() => self.look().await,
                _ = tell.tick() => self.tell(),
                _ = beat.tick() => self.beat(),
                Some(ended) = self.tries.next(), if !self.tries.is_empty() => self.enter(ended).await,
            }
        }
        self.finish().await;
    }

    /// Renews the lease, or takes it. `true`: it was just taken.
    async fn keep_lease(&mut self) -> bool {
        if self.context.health.is_refused() {
            return false;
        }
        let began = Instant::now();
        let (pool, lease) = (self.context.pool.clone(), self.context.lease);
        let Some(own) = &mut self.own else { return self.take_lease().await };
        match within(lease / 3, alerts::hold(&pool, own.epoch, lease)).await {
            Ok(Some(now)) => {
                own.trusted_until = began + lease;
                self.clock = (now, began);
            }
            Ok(None) => self.lose(),
            // Whether it is still ours is found out when the database answers again.
            Err(error) => self.fail(&error),
        }
        false
    }

    async fn take_lease(&mut self) -> bool {
        let began = Instant::now();
        let (context, lease) = (&self.context, self.context.lease);
        match within(lease / 3, alerts::acquire(&context.pool, &context.instance, lease)).await {
            Ok(Some(epoch)) => {
                self.own = Some(Ownership { epoch, trusted_until: began + lease, has_tidied: false });
                if let Err(error) = self.take_up().await {
                    self.fail(&error);
                    // Without the notices of the last owner, everything would be sent again.
                    self.own = None;
                    return false;
                }
                debug!(epoch, "looking after the alerts");
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Reads what the last owner left.
    async fn take_up(&mut self) -> Result<(), StoreError> {
        let (pool, lease) = (&self.context.pool, self.context.lease);
        let Some(own) = &self.own else { return Ok(()) };
        let began = Instant::now();
        let Some(now) = alerts::hold(pool, own.epoch, lease).await? else {
            return Err(StoreError::Refused("the alerts were taken over at once".to_owned()));
        };
        self.clock = (now, began);
        self.alerts = alerts::read(pool).await?;
        let (notices, mut rows) = (alerts::read_notices(pool).await?, alerts::read_channels(pool).await?);
        for line in &mut self.lines {
            let row = rows.iter().position(|row| row.name == line.name()).map(|place| rows.swap_remove(place));
            line.take_up(row, &notices, now);
        }
        Ok(())
    }

    /// One look at everything, its consequences stored.
    async fn look(&mut self) {
        if self.own.is_none() {
            return;
        }
        // The alerts of another cluster, or of a clone, are not ours to read or to write.
        if self.context.health.is_refused() {
            self.look_without_database();
        } else {
            match within(self.context.lease, self.try_look()).await {
                Ok(()) => self.failing = None,
                Err(error) => {
                    self.fail(&error);
                    self.look_without_database();
                }
            }
        }
        let active = |severity| self.alerts.iter().filter(|a| a.status.is_active() && a.severity == severity).count();
        self.metrics.firing(active);
    }

    async fn try_look(&mut self) -> Result<(), StoreError> {
        let (pool, lease) = (self.context.pool.clone(), self.context.lease);
        let wishes = Wishes::of(&self.setup.config);
        let Seen { observations: mut seen, uncounted } = look_at_handlers(&pool, &wishes, self.now()).await?;
        seen.extend(look_at_channels(&self.lines.iter().map(|line| line.row.clone()).collect::<Vec<_>>()));
        seen.push(look_at_database(&self.context.health, None));
        seen.extend(self.setup.signals.refused_reload().map(|why| Observation::config_reload(Some(why))));
        let broken = self.setup.signals.broken_adoptions();
        seen.extend(broken.into_iter().map(|(table, why)| Observation::broken_adoption(table, why)));
        let lags = self.setup.signals.lags();
        seen.extend(look_at_cursors(lags.as_deref()));
        let unknown = Unknown { handlers: &uncounted, cursors: lags.is_none() };
        let Some(own) = &self.own else { return Ok(()) };
        let (epoch, has_tidied, began) = (own.epoch, own.has_tidied, Instant::now());
        let mut transaction = begin(&pool).await?;
        let Some(now) = alerts::hold(&mut *transaction, epoch, lease).await? else {
            self.lose();
            return Ok(());
        };
        alerts::lock(&mut transaction).await?;
        let stored = alerts::read(&mut *transaction).await?;
        let after = self.step_all(stored.clone(), &seen, &unknown, now);
        save(&mut transaction, &stored, &after).await?;
        if !has_tidied {
            let names: Vec<String> = self.lines.iter().map(|line| line.name().to_owned()).collect();
            alerts::keep_channels(&mut transaction, &names).await?;
        }
        save_lines(&mut transaction, &self.lines).await?;
        failpoint!("alerts-stepped", stored != after);
        commit(transaction).await?;
        self.lines.iter_mut().for_each(Line::saved);
        self.alerts = after;
        self.clock = (now, began);
        if let Some(own) = &mut self.own {
            own.has_tidied = true;
            own.trusted_until = began + lease;
        }
        Ok(())
    }

    /// Every alert after this look; what is long over is left out.
    fn step_all(&self, stored: Vec<Alert>, seen: &[Observation], unknown: &Unknown<'_>, now: Timestamp) -> Vec<Alert> {
        let policy = &self.setup.config.policy;
        let mut before = stored;
        // Notices that were sent while the database was away are known here only.
        for alert in self.alerts.iter().filter(|alert| alert.kind == AlertKind::Database) {
            match before.iter_mut().find(|known| known.key() == alert.key()) {
                Some(known) if known.revision < alert.revision => *known = alert.clone(),
                Some(_) => {}
                None => before.push(alert.clone()),
            }
        }
        let mut after = Vec::new();
        for observation in seen {
            let place = before.iter().position(|alert| alert.key() == observation.key());
            after.extend(step(place.map(|place| before.swap_remove(place)), observation, policy, now));
        }
        after.extend(before.into_iter().filter_map(|alert| {
            if unknown.covers(&alert) {
                return Some(alert);
            }
            let gone = Observation::gone(&alert);
            step(Some(alert), &gone, policy, now)
        }));
        after.retain(|alert| alert.status != AlertStatus::Resolved || now.since(alert.changed_at) < REMEMBERED);
        after
    }

    /// The database is away: the one thing that can be known, for memory only. Stored when it is back.
    fn look_without_database(&mut self) {
        let failing = self.failing.as_ref().map(|(since, why)| (since.elapsed(), why.clone()));
        let observation = look_at_database(&self.context.health, failing);
        let now = self.now();
        let place = self.alerts.iter().position(|alert| alert.key() == observation.key());
        let known = place.map(|place| self.alerts.swap_remove(place));
        self.alerts.extend(step(known, &observation, &self.setup.config.policy, now));
    }

    /// Begins what is due.
    fn tell(&mut self) {
        let Some(own) = &self.own else { return };
        let situation = Situation {
            alerts: &self.alerts,
            config: &self.setup.config,
            relay: &self.context.relay,
            now: self.now(),
            is_owner: Instant::now() < own.trusted_until,
        };
        for (place, line) in self.lines.iter_mut().enumerate() {
            if let Some(attempt) = line.begin(place, &situation) {
                self.tries.push(Box::pin(async move { Ended::Told(attempt.await) }));
            }
        }
    }

    /// Calls the heartbeat URL, if all is well here and this instance owns the alerts.
    fn beat(&mut self) {
        let is_owner = self.own.as_ref().is_some_and(|own| Instant::now() < own.trusted_until);
        let Some(heartbeat) = self.setup.heartbeat.clone().filter(|_| is_owner && !self.is_beating) else { return };
        if !self.context.health.report(Instant::now()).ready || self.failing.is_some() {
            return;
        }
        self.is_beating = true;
        self.tries.push(Box::pin(async move {
            let beat = tokio::time::timeout(Duration::from_secs(10), heartbeat.beat()).await;
            Ended::Beat(beat.unwrap_or_else(|_| Err(SendFailure::transient("no answer within 10s"))))
        }));
    }

    async fn enter(&mut self, ended: Ended) {
        match ended {
            Ended::Beat(result) => {
                self.is_beating = false;
                self.heartbeat_metrics.iter().for_each(|metrics| metrics.tried(result.is_ok()));
                if let Err(error) = result {
                    warn!(%error, "could not call the heartbeat URL");
                }
            }
            Ended::Told(sent) => {
                failpoint!("alert-sent");
                let (now, line) = (self.now(), sent.line);
                self.lines[line].enter(sent, now, fastrand::f64());
                // Recorded at once: until then a successor would send it again.
                if let Err(error) = within(self.context.lease / 3, self.note()).await {
                    self.fail(&error);
                }
            }
        }
    }

    /// Stores the notices of channels, behind the fence.
    async fn note(&mut self) -> Result<(), StoreError> {
        let Some(own) = self.own.as_ref().filter(|_| !self.context.health.is_refused()) else { return Ok(()) };
        let mut transaction = begin(&self.context.pool).await?;
        if alerts::hold(&mut *transaction, own.epoch, self.context.lease).await?.is_none() {
            self.lose();
            return Ok(());
        }
        save_lines(&mut transaction, &self.lines).await?;
        commit(transaction).await?;
        failpoint!("alert-noted");
        self.lines.iter_mut().for_each(Line::saved);
        Ok(())
    }

    async fn finish(mut self) {
        let last = async {
            while let Some(ended) = self.tries.next().await {
                self.enter(ended).await;
            }
        };
        tokio::time::timeout(LAST_TRIES, last).await.ok(); // what was sent and not noted is sent again under the same id
        if let Some(own) = &self.own {
            let released = within(Duration::from_secs(1), alerts::release(&self.context.pool, own.epoch)).await;
            released.ok(); // otherwise it expires
        }
    }

    /// Forgets the state of the last ownership.
    fn lose(&mut self) {
        info!("another instance looks after the alerts now");
        self.own = None;
        self.alerts.clear();
        self.metrics.firing(|_| 0);
    }

    fn fail(&mut self, error: &StoreError) {
        self.context.metrics.database_error(DatabaseOperation::Alerts);
        let text = chain(error);
        if self.failing.is_none() {
            warn!(error = text, "could not look after the alerts, trying again");
        }
        let since = self.failing.take().map_or_else(Instant::now, |(since, _)| since);
        self.failing = Some((since, text));
    }

    /// The time of the database, as far as we know it.
    fn now(&self) -> Timestamp {
        self.clock.0.after(self.clock.1.elapsed())
    }
}

async fn save(connection: &mut PgConnection, stored: &[Alert], after: &[Alert]) -> Result<(), StoreError> {
    for alert in after.iter().filter(|alert| !stored.contains(alert)) {
        alerts::save(connection, alert).await?;
    }
    for gone in stored.iter().filter(|known| !after.iter().any(|alert| alert.key() == known.key())) {
        alerts::remove(connection, &gone.key()).await?;
    }
    Ok(())
}

async fn save_lines(connection: &mut PgConnection, lines: &[Line]) -> Result<(), StoreError> {
    for line in lines {
        let (row, notices) = line.unsaved();
        if let Some(row) = row {
            alerts::save_channel(connection, row).await?;
        }
        for notice in &notices {
            alerts::save_notice(connection, notice).await?;
        }
    }
    Ok(())
}

/// A statement that hangs must not keep the alerts from everything else.
async fn within<T>(time: Duration, action: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError::query("look after the alerts in time")(sqlx::Error::PoolTimedOut));
    tokio::time::timeout(time, action).await.unwrap_or_else(late)
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
