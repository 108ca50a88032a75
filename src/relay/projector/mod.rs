//! The loop of one version of a projection: it reads the log in order, calls the projection, and moves the position in the same transaction.
//! It owns the subscription by a lease as every loop does. A version that is not live reads no further than the live one has come. An event
//! that fails stops this loop, and no other, until it succeeds or a person skips it.

mod calling;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::RelayError;
use super::batch_size::BatchSize;
use super::post::{self, Look, Ordered, Post, Waiting};
use super::subscription::{Assignment, End, describe_failure};
use crate::domain::{Narrowing, Outcome, Pace, Position, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::{Built, ProjectionSpec};
use crate::store::projections::{self, Recorded, Standing, Stop};
use crate::store::{self, Done, Entries, Fenced, Reached, Selection};
use crate::telemetry::{DatabaseOperation, Failure};

use calling::Called;
use reading::{Ahead, Item};

/// Between tries at the event at which the projection stands; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Runs the subscription until it is told to stop, loses its lease, or fails.
pub(super) async fn run(assignment: Assignment) -> Result<End, RelayError> {
    let Some(mut projector) = post::begin(assignment, Projector::begin).await? else { return Ok(End::LeaseLost) };
    projector.run().await.inspect_err(|failure| {
        let post = &projector.post;
        post.shared.health.failed(&post.name, describe_failure(failure, DatabaseOperation::Flush, None));
    })
}

struct Projector {
    post: Post,
    spec: ProjectionSpec,
    selection: Arc<Selection>,
    /// Since when the server runs.
    server_start: String,
    /// Behind everything that was projected. Ahead of the stored one by windows without events at most.
    position: Position,
    standing: Standing,
    /// The events that were read and not projected yet.
    ahead: Option<Ahead>,
    /// Bounds how fast history is read, at the rate beside it.
    pace: Option<(u32, Pace)>,
    began: Instant,
    size: BatchSize,
    narrowing: Narrowing,
    /// Tries at the event at which it stands.
    attempts: u32,
    /// The last window was large: the next one is opened and read by pages at once.
    expects_large: bool,
}

impl Projector {
    async fn begin(assignment: Assignment) -> Result<Option<Self>, RelayError> {
        let Some((post, position)) = Post::take(assignment).await? else { return Ok(None) };
        let Built::Projection(spec) = &post.handler.built else { unreachable!("the loop of a projection serves one") };
        let (shared, pool) = (&post.shared, &post.shared.connections.ledger);
        let reading = shared.answered(projections::read_standing(pool, post.fence.subscription)).await;
        let Some(standing) = shared.metrics.counted(DatabaseOperation::Read, reading)? else { return Ok(None) };
        let asking = shared.answered(store::read_server_start(pool)).await;
        let server_start = shared.metrics.counted(DatabaseOperation::Read, asking)?;
        Ok(Some(Self {
            spec: spec.as_ref().clone(),
            selection: Arc::clone(&post.handler.selections[usize::from(post.partition)]),
            position,
            standing,
            server_start,
            post,
            ahead: None,
            pace: None,
            began: Instant::now(),
            size: BatchSize::new(),
            narrowing: Narrowing::default(),
            attempts: 0,
            expects_large: false,
        }))
    }

    async fn run(&mut self) -> Result<End, RelayError> {
        loop {
            match self.post.ordered() {
                Ordered::Abandon => return Ok(End::LeaseLost),
                Ordered::Release => return self.release().await,
                Ordered::Hold => self.post.hold(),
                Ordered::Look => match self.look().await? {
                    Look::LeaseLost => return Ok(End::LeaseLost),
                    look => self.post.plan_next(look, self.waiting()),
                },
            }
            // Of a projection that stands, or waits for its rate, new events change nothing.
            if !self.post.wait(self.ahead.is_none()).await {
                return Ok(End::LeaseLost);
            }
        }
    }

    fn waiting(&self) -> Waiting {
        let is_rung = self.standing.is_live;
        Waiting { has_window: self.position.window.is_some(), is_rung, may_rest: !self.position.is_in_history() }
    }

    /// Stores the position and gives the lease back.
    async fn release(&mut self) -> Result<End, RelayError> {
        match self.store_position().await? {
            Fenced::LeaseLost => Ok(End::LeaseLost),
            Fenced::Written => self.post.release().await,
        }
    }

    /// Projects what was read, or reads the next stretch of the log.
    async fn look(&mut self) -> Result<Look, RelayError> {
        self.post.check_server()?;
        if self.ahead.is_none() {
            let pool = &self.post.shared.connections.ledger;
            let reading = self.post.shared.answered(projections::read_standing(pool, self.post.fence.subscription)).await;
            match self.post.shared.metrics.counted(DatabaseOperation::Read, reading)? {
                Some(standing) => self.standing = standing,
                None => return Ok(Look::LeaseLost), // it was dropped
            }
            let rows = match self.allowed_rows() {
                Ok(rows) => rows,
                Err(wait) => return Ok(Look::Later(wait)),
            };
            let reading = self.post.shared.answered(self.read_ahead(rows)).await;
            let Some(ahead) = self.post.shared.metrics.counted(DatabaseOperation::Read, reading)? else { return self.idle().await };
            self.enter_ahead(ahead);
            if self.keep_history().await? == Fenced::LeaseLost {
                return Ok(Look::LeaseLost);
            }
        }
        match self.ahead.take() {
            Some(ahead) if ahead.items.is_empty() => self.pass_over(&ahead).await,
            Some(ahead) => self.project(ahead).await,
            None => Ok(Look::Nothing),
        }
    }

    fn enter_ahead(&mut self, ahead: Ahead) {
        self.post.has_read();
        self.post.has_fetched(ahead.items.len() as u64);
        if let Some((_, pace)) = &mut self.pace {
            pace.spend(ahead.items.len());
        }
        self.expects_large = ahead.has_more;
        self.ahead = Some(ahead);
    }

    /// Stores where history ends before any of it is projected: after a death it must not reach further than before.
    async fn keep_history(&mut self) -> Result<Fenced, RelayError> {
        let is_new = self.position.is_in_history() && self.position.window.is_none();
        match self.ahead.as_ref().filter(|ahead| is_new && !ahead.items.is_empty()) {
            Some(ahead) => self.position = ahead.position_before_first(),
            None => return Ok(Fenced::Written),
        }
        self.store_position().await
    }

    /// Moves over a stretch without events that it wants.
    async fn pass_over(&mut self, ahead: &Ahead) -> Result<Look, RelayError> {
        let was_history = self.position.is_in_history();
        self.position = ahead.end.clone();
        // Other versions follow or compare with the stored position; and after a restart the history must not be longer than before.
        let is_watched = was_history || !self.standing.is_live || ahead.has_more;
        if (is_watched || self.post.is_flush_due()) && self.store_position().await? == Fenced::LeaseLost {
            return Ok(Look::LeaseLost);
        }
        Ok(if ahead.has_more || !self.standing.is_live { Look::Partly } else { Look::Nothing })
    }

    /// There is nothing that it may read.
    async fn idle(&mut self) -> Result<Look, RelayError> {
        self.post.has_read();
        // Rows that are not durable yet end no window. The commit makes them durable, and then the history has an end.
        let is_due = self.post.is_flush_due() || self.position.is_in_history();
        if is_due && self.store_position().await? == Fenced::LeaseLost {
            return Ok(Look::LeaseLost);
        }
        Ok(Look::Nothing)
    }

    async fn store_position(&mut self) -> Result<Fenced, RelayError> {
        let began = Instant::now();
        let reached = Reached { position: self.position.clone(), done: Done::AsStored };
        let (pool, entries) = (&self.post.shared.connections.ledger, Entries::default());
        let recording = self
            .post
            .shared
            .answered(store::record(pool, self.post.fence, &self.post.shared.instance.id, &reached, &entries))
            .await;
        let recorded = self.post.shared.metrics.counted(DatabaseOperation::Flush, recording)?;
        self.post.has_flushed(began);
        Ok(recorded.fenced)
    }

    /// Projects the first events of what was read: as many as succeed together.
    async fn project(&mut self, mut ahead: Ahead) -> Result<Look, RelayError> {
        let wanted = self.narrowing.take(ahead.items.iter().map(Item::seq), self.size.limit()).min(ahead.items.len());
        let is_replaying = self.is_replaying();
        let began = Instant::now();
        let (count, called) = self.call(&ahead.items[..wanted], is_replaying).await?;
        let verdict = match called {
            Called::Done(mut transaction) => {
                let reached = ahead.position_behind(count);
                let recording = projections::record(&mut transaction, self.post.fence, &reached, count);
                let recorded = self.post.shared.answered(recording).await;
                match self.post.shared.metrics.counted(DatabaseOperation::Flush, recorded)? {
                    Recorded::LeaseLost => return Ok(Look::LeaseLost),
                    // A switch came in between, and what the functions were told is not true any more. All of it is rolled back.
                    Recorded::Written { is_live } if is_live != self.standing.is_live => return Ok(Look::Partly),
                    Recorded::Written { .. } => {}
                }
                let committing = self.post.shared.answered(store::commit(transaction)).await;
                self.post.shared.metrics.counted(DatabaseOperation::Flush, committing)?;
                failpoint!("projection-committed");
                self.enter_projected(&ahead.items[..count], began);
                self.position = reached;
                ahead.items.drain(..count);
                let is_over = ahead.items.is_empty();
                let look = if !is_over || ahead.has_more || !self.standing.is_live { Look::Partly } else { Look::Done };
                self.ahead = (!is_over).then_some(ahead);
                return Ok(look);
            }
            Called::Failed(verdict) => verdict,
        };
        self.post.handler.metrics.delivered(verdict.outcome, began.elapsed());
        self.post.handler.metrics.failed(verdict.reason);
        if count > 1 {
            self.narrowing.failed(ahead.items[count - 1].seq());
            self.size.ran_out_of_time();
            self.ahead = Some(ahead);
            return Ok(Look::Partly);
        }
        self.stand(ahead, &verdict).await
    }

    fn enter_projected(&mut self, items: &[Item], began: Instant) {
        let took = began.elapsed();
        self.size.measured(items.len(), took, self.budget() / 2);
        self.post.has_flushed(began);
        if self.attempts > 0 {
            info!(handler = self.post.name, "the projection goes on");
            self.attempts = 0;
        }
        let each = took / u32::try_from(items.len()).unwrap_or(u32::MAX).max(1);
        for item in items {
            self.post.handler.metrics.delivered(Outcome::Delivered, each);
            self.post.handler.contract_use.sent(&item.notification().event_type);
        }
    }

    /// The first event of what was read fails: the projection stands, and says so, until it succeeds or is skipped.
    async fn stand(&mut self, ahead: Ahead, verdict: &Verdict) -> Result<Look, RelayError> {
        let before = ahead.position_before_first();
        let notification = ahead.items[0].notification();
        let stop = Stop {
            seq: notification.seq,
            event: notification.id,
            event_type: notification.event_type.clone(),
            reason: verdict.reason.as_str(),
            detail: verdict.detail.clone(),
        };
        let noting = projections::record_stop(&self.post.shared.connections.ledger, self.post.fence, &before, &stop);
        let noted = self.post.shared.answered(noting).await;
        if self.post.shared.metrics.counted(DatabaseOperation::Flush, noted)? == Fenced::LeaseLost {
            return Ok(Look::LeaseLost);
        }
        failpoint!("projection-stopped");
        self.position = before;
        let pause = FIRST_RETRY.saturating_mul(1 << self.attempts.min(10)).min(LONGEST_RETRY);
        self.attempts += 1;
        if self.attempts == 1 {
            error!(
                handler = self.post.name,
                event_id = %stop.event,
                event_type = stop.event_type,
                reason = stop.reason,
                detail = stop.detail,
                "the projection stands at this event; mend the function, or skip the event with \"outboxd projections skip\""
            );
        }
        let text = format!("stands at event {} ({}): {}: {}", stop.event, stop.event_type, stop.reason, stop.detail);
        let failure = Failure { operation: DatabaseOperation::Flush, sqlstate: None, event: Some(stop.event), text };
        self.post.shared.health.failed(&self.post.name, failure);
        self.post.shared.observe.notify_one();
        self.narrowing.failed(stop.seq);
        self.ahead = Some(ahead);
        Ok(Look::Later(pause))
    }

    /// History, or the live version has its effects already: nothing may happen but in the read table.
    fn is_replaying(&self) -> bool {
        !self.standing.is_live || self.position.is_in_history()
    }

    /// How long one transaction with several events may last: locks are held so long, and vacuum waits.
    fn budget(&self) -> Duration {
        (self.post.shared.options().lease / 5).min(Duration::from_secs(5))
    }

    /// How many events the rate lets be read now, or how long until it lets some be read.
    fn allowed_rows(&mut self) -> Result<i64, Duration> {
        let Some(rate) = self.standing.rate.or(self.post.handler.config.backfill).filter(|_| self.is_replaying()) else {
            self.pace = None;
            return Ok(reading::MOST_ROWS);
        };
        let (_, mut pace) = self.pace.take().filter(|(known, _)| *known == rate).unwrap_or_else(|| (rate, Pace::new(rate)));
        let (room, wait) = (pace.room(self.began.elapsed()), pace.wait());
        self.pace = Some((rate, pace));
        if room == 0 { Err(wait.max(Duration::from_millis(1))) } else { Ok(i64::from(room).min(reading::MOST_ROWS)) }
    }
}
