//! Waking up: while every loop of this relay is idle, producers ring a bell (`NOTIFY`). While one loop works, they do not.
//!
//! Why not on every insert: `NOTIFY` takes a lock across the whole server during the commit. Ringing on every insert would
//! serialise the commits of the application (measured with 32 writers: 6,073 transactions a second without it, 1,781 with it). So
//! the trigger on `events` rings only if a relay sleeps:
//!
//! - A writer tries the advisory lock K *shared*. It gets the lock while relays are awake, and then the trigger does not fire.
//! - A relay whose loops have had nothing to do for `linger` takes K *exclusively* on its listening session. The server grants it
//!   only when no writer that skipped the bell is in flight.
//! - After that every loop reads once more.
//!
//! No wake-up is lost: a writer that skipped the bell committed before K was granted, so that last read sees its events. A later
//! writer does not get K, so it rings. Of several instances one holds K, and its bell wakes all of them, because each instance
//! listens.
//!
//! Awake, loops poll every few milliseconds (`poll_interval`, up to 20 ms). Asleep, the listening session looks at the log once a
//! second for all loops together (`find_news.sql`), because the poll is the truth and the bell is only a hint: a lost ring costs
//! one second, never an event.
//!
//! If K cannot be taken (a forgotten prepared transaction holds it shared), the loops poll at `idle_poll_interval`, and the
//! session tries again. A session that does not really listen is found by a check every ten looks; a half-open connection is
//! found by the bound of five seconds on every answer. In both cases the loops poll until there is a new session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::domain::Snapshot;
use crate::store::{BellLock, BellSession, Ring, StoreError};
use crate::telemetry::{DatabaseOperation, Health, RelayMetrics, WakeUpSource, chain};

/// The bell as the loops see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bell {
    /// Rises with every ring, and whenever the loops should look.
    pub rung: u64,
    /// Producers ring, and the listening session looks at the log for all: a loop that finds nothing may sleep.
    pub is_armed: bool,
    /// Rises after a change that only a look at the database finds, although no event came.
    pub stirs: u64,
}

/// Shared between the loops and the bell.
pub struct WakeUp {
    bell: watch::Sender<Bell>,
    loops: AtomicUsize,
    idle: AtomicUsize,
    changed: Notify,
    /// An operator changed something.
    control: Notify,
}

impl WakeUp {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            bell: watch::Sender::new(Bell::default()),
            loops: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            changed: Notify::new(),
            control: Notify::new(),
        })
    }

    /// A place for one loop; it counts until it is dropped.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.loops.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        Seat { shared: Arc::clone(self), bell: self.bell.subscribe(), stirs: self.bell.borrow().stirs, is_idle: false }
    }

    /// Returns when an operator changed something.
    pub async fn control(&self) {
        self.control.notified().await;
    }

    fn everybody_is_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst) >= self.loops.load(Ordering::SeqCst)
    }

    fn ring(&self, is_armed: bool) {
        self.bell.send_modify(|bell| *bell = Bell { rung: bell.rung + 1, is_armed, ..*bell });
    }

    /// Every loop looks again, as after a ring.
    pub fn stir(&self) {
        self.bell.send_modify(|bell| (bell.rung, bell.stirs) = (bell.rung + 1, bell.stirs + 1));
    }

    fn answer(&self, ring: Ring) {
        if ring != Ring::Events {
            self.control.notify_one();
        }
    }
}

/// One loop's place at the bell.
pub struct Seat {
    shared: Arc<WakeUp>,
    bell: watch::Receiver<Bell>,
    /// As of the last change that this loop has seen.
    stirs: u64,
    is_idle: bool,
}

impl Seat {
    /// Says whether this loop has nothing to do.
    pub fn set_idle(&mut self, is_idle: bool) {
        if self.is_idle != is_idle {
            self.is_idle = is_idle;
            if is_idle {
                self.shared.idle.fetch_add(1, Ordering::SeqCst);
            } else {
                self.shared.idle.fetch_sub(1, Ordering::SeqCst);
            }
            self.shared.changed.notify_one();
        }
    }

    /// Whether producers ring, and the listening session looks at the log once a second for all loops in case that a ring is lost.
    pub fn is_armed(&self) -> bool {
        self.bell.borrow().is_armed
    }

    /// Returns when the bell rang or was armed since it was last looked at.
    pub async fn changed(&mut self) {
        if self.bell.changed().await.is_err() {
            std::future::pending::<()>().await; // the relay is stopping; another task reports it
        }
        self.stirs = self.bell.borrow().stirs;
    }

    /// Returns when all loops were stirred. For a loop that the tail reads for: a ring is not for it.
    pub async fn stirred(&mut self) {
        while self.bell.borrow_and_update().stirs == self.stirs {
            if self.bell.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        self.stirs = self.bell.borrow().stirs;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.set_idle(false);
        self.shared.loops.fetch_sub(1, Ordering::SeqCst);
        self.shared.changed.notify_one();
    }
}

/// Serves the bell until `stop`: sleeping and waking, over lost connections.
pub async fn serve(wake_up: Arc<WakeUp>, pool: sqlx::PgPool, stop: CancellationToken, metrics: RelayMetrics, health: Arc<Health>) {
    let mut pause = RECONNECT_MIN;
    while !stop.is_cancelled() {
        let session = tokio::select! {
            session = within(RECONNECT_MAX, BellSession::open(&pool)) => session,
            () = stop.cancelled() => return,
        };
        match session {
            Ok(mut session) => {
                debug!("listening for wake-ups");
                pause = RECONNECT_MIN;
                wake_up.ring(false);
                tokio::select! {
                    ended = attend(&wake_up, &mut session, (&metrics, &health)) => if let Err(error) = ended {
                        metrics.database_error(DatabaseOperation::Listen);
                        warn!(error = %chain(&error), "the listening session broke, polling meanwhile");
                    },
                    () = stop.cancelled() => {
                        heard(session.unlock()).await.ok(); // the session ends anyway; this only spares the producers some rings
                        return;
                    }
                }
            }
            Err(StoreError::Refused(why)) => {
                warn!(reason = why, "wake-ups do not work here, polling instead");
                pause = RECONNECT_MAX;
            }
            Err(error) => {
                metrics.database_error(DatabaseOperation::Listen);
                info!(error = %chain(&error), "could not listen for wake-ups, polling meanwhile");
            }
        }
        wake_up.ring(false);
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECONNECT_MAX),
            () = stop.cancelled() => return,
        }
    }
}

const RECONNECT_MIN: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// Between looks at the log for all who rest: what a lost ring costs.
const LOOK: Duration = Duration::from_secs(1);
/// After how many looks the session is asked whether it still listens.
const LOOKS_BEFORE_CHECK: u32 = 10;
/// Longest wait for an answer of the listening session.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between tries to take the bell while a writer that skipped it is in flight.
const LOCK_RETRY_MIN: Duration = Duration::from_millis(5);
const LOCK_RETRY_MAX: Duration = Duration::from_secs(1);

/// One listening session, until it breaks.
async fn attend(
    wake_up: &WakeUp,
    session: &mut BellSession,
    (metrics, health): (&RelayMetrics, &Health),
) -> Result<(), StoreError> {
    loop {
        stay_awake(wake_up, session).await?;
        let Some(lock) = try_to_sleep(wake_up, session).await? else { continue };
        // Before the loops look: what becomes visible after their looks has become visible after this.
        let since = heard(session.moment()).await?;
        // From here on producers ring. Every loop looks once more: what was committed before the lock was taken is visible now.
        let armed = Armed::ring(wake_up);
        let ring = sleep(wake_up, session, since, (metrics, health)).await?;
        if ring.is_some_and(|ring| ring != Ring::Reconnected) {
            metrics.woken(WakeUpSource::Bell);
        }
        // Before anything is waited for: the session no longer looks for the loops that sleep.
        drop(armed);
        if lock == BellLock::Ours {
            heard(session.unlock()).await?;
        }
    }
}

/// The session looks for the loops that sleep. However that ends, by an error, a stop or a bug, they are woken.
struct Armed<'w>(&'w WakeUp);

impl<'w> Armed<'w> {
    fn ring(wake_up: &'w WakeUp) -> Self {
        wake_up.ring(true);
        Self(wake_up)
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.ring(false);
    }
}

/// While a loop works: only an operator's commands are listened to.
async fn stay_awake(wake_up: &WakeUp, session: &mut BellSession) -> Result<(), StoreError> {
    while !wake_up.everybody_is_idle() {
        tokio::select! {
            ring = session.next() => {
                let ring = ring?;
                wake_up.answer(ring);
                if ring != Ring::Events {
                    wake_up.ring(false);
                }
            }
            () = wake_up.changed.notified() => {}
        }
    }
    Ok(())
}

/// Takes the bell, which works only when no writer that skipped it is in flight. `None`: there is work again.
async fn try_to_sleep(wake_up: &WakeUp, session: &mut BellSession) -> Result<Option<BellLock>, StoreError> {
    let mut pause = LOCK_RETRY_MIN;
    while wake_up.everybody_is_idle() {
        match heard(session.lock()).await? {
            BellLock::NotNow => {}
            lock => return Ok(Some(lock)),
        }
        // A forgotten prepared transaction can keep the bell for days: ever more slowly, up to a bound.
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOCK_RETRY_MAX),
            () = wake_up.changed.notified() => {}
            ring = session.next() => wake_up.answer(ring?),
        }
    }
    Ok(None)
}

/// Sleeps until a ring (`Some`) or until a loop has work of its own (`None`). Looks at the log meanwhile, once for all loops.
async fn sleep(
    wake_up: &WakeUp,
    session: &mut BellSession,
    mut since: Snapshot,
    (metrics, health): (&RelayMetrics, &Health),
) -> Result<Option<Ring>, StoreError> {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    loop {
        let ring = tokio::select! {
            ring = session.next() => Some(ring?),
            () = wake_up.changed.notified() => None,
            _ = tick.tick() => {
                looks += 1;
                let looking = async {
                    if looks % LOOKS_BEFORE_CHECK == 0 {
                        session.check().await?;
                    }
                    session.find_news(&since).await
                };
                let (has_news, moment) = heard(looking).await?;
                metrics.woken(WakeUpSource::Poll);
                if has_news {
                    return Ok(Some(Ring::Reconnected)); // a ring was lost: anything may have happened
                }
                since = moment;
                if health.watched(Instant::now()) {
                    metrics.read_at(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
                }
                continue;
            }
        };
        if let Some(ring) = ring {
            wake_up.answer(ring);
            return Ok(Some(ring));
        }
        if !wake_up.everybody_is_idle() {
            return Ok(None);
        }
    }
}

/// An answer of the listening session that is waited for while loops sleep.
async fn heard<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(HEARTBEAT_TIMEOUT, answer).await
}

/// An answer within a bound: a half-open socket would be silent for ever.
async fn within<T>(bound: Duration, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let silent = || StoreError::query("hear from the listening session")(sqlx::Error::PoolTimedOut);
    tokio::time::timeout(bound, answer).await.unwrap_or_else(|_| Err(silent()))
}
