//! A loop as the supervisor sees it: its orders, whether its task lives, and when to start it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tracing::info;

use super::{RESTART_MAX, RESTART_MIN};
use crate::relay::{Control, HandlerShared, Order};
use crate::store::subscriptions::Wishes;

/// A loop that has worked for so long begins anew with its pauses when it fails: what failed before is over.
const WORKED: Duration = Duration::from_secs(5);

/// Growing pauses between a failure and the next start.
pub(super) struct Pauses(backon::ExponentialBackoff);

impl Pauses {
    fn new() -> Self {
        let growing = ExponentialBuilder::default().with_min_delay(RESTART_MIN).with_max_delay(RESTART_MAX);
        Self(growing.without_max_times().with_jitter().build())
    }

    /// The pause before the next start of a loop that has failed after so long.
    pub fn next(&mut self, worked: Duration) -> Duration {
        if worked >= WORKED {
            *self = Self::new();
        }
        self.0.next().unwrap_or(RESTART_MAX)
    }
}

/// A loop that runs, or waits to be started again.
pub(super) struct Running {
    pub control: watch::Sender<Control>,
    pub task: Option<tokio::task::Id>,
    pub started_at: Instant,
    pub restart_at: Option<Instant>,
    pub pauses: Pauses,
    pub was_abandoned: bool,
    /// The outcomes of functions could not be recorded.
    pub was_unrecorded: bool,
    /// Its loop was fenced off, and the next round has not yet shown whether the lease is gone.
    pub is_doubtful: bool,
    /// The requests of operators when it was last looked at.
    wishes: Wishes,
    /// The handler as it was when the loop began; another one by this name takes its place when the loop has ended.
    pub serves: Option<Arc<HandlerShared>>,
    /// When what is in flight is released uncounted: the loop drains because its handler changes or goes.
    pub release_at: Option<Instant>,
}

impl Running {
    pub fn new(was_abandoned: bool, wishes: Wishes) -> Self {
        let Wishes { is_paused, circuit_closings, .. } = wishes;
        Self {
            control: watch::Sender::new(Control { is_paused, order: Order::Work, looks: 0, circuit_closings }),
            task: None,
            started_at: Instant::now(),
            restart_at: None,
            pauses: Pauses::new(),
            was_abandoned,
            was_unrecorded: false,
            is_doubtful: false,
            wishes,
            serves: None,
            release_at: None,
        }
    }

    /// Takes in the requests of operators. The lease is still ours.
    pub fn learn(&mut self, wishes: Wishes, look_now: bool) {
        let is_moved = wishes.moves != self.wishes.moves;
        if self.is_doubtful {
            // Fenced off although the lease is ours: an operator moved the position, or there is something that we do not know.
            if is_moved {
                let handler = self.serves.as_ref().map_or("", |handler| handler.config.name.as_str());
                info!(handler, "a person moved the position, starting over from it");
            }
            *self = Self::new(!is_moved, wishes);
            return;
        }
        if is_moved {
            // Its memory is of another position. It ends, and the next round finds it fenced off; `wishes` stays until then.
            return self.order(Order::Abandon);
        }
        self.wishes = wishes;
        self.control.send_if_modified(|control| {
            let before = *control;
            (control.is_paused, control.circuit_closings) = (wishes.is_paused, wishes.circuit_closings);
            control.looks += u64::from(look_now);
            *control != before
        });
    }

    /// Its loop was ordered to finish, and has not ended as far as the supervisor knows: the lease may be given back already.
    pub fn is_giving_back(&self) -> bool {
        self.task.is_some() && !self.works()
    }

    /// Not draining already.
    pub fn works(&self) -> bool {
        self.control.borrow().order == Order::Work
    }

    pub fn order(&self, order: Order) {
        self.control.send_modify(|control| control.order = order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Seen under faults: every failure since the lease was taken, weeks ago perhaps, made the next pause longer, up to half a minute.
    #[test]
    fn pauses_grow_while_a_loop_keeps_failing_and_begin_anew_when_it_has_worked() {
        let mut pauses = Pauses::new();
        let failing: Vec<Duration> = (0..12).map(|_| pauses.next(Duration::ZERO)).collect();
        assert!(failing[0] < RESTART_MIN * 3 && failing[11] >= RESTART_MAX, "{failing:?}");
        assert!(pauses.next(WORKED) < RESTART_MIN * 3);
        assert!(pauses.next(Duration::ZERO) < RESTART_MIN * 6);
    }
}
