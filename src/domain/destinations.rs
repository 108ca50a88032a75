//! Destinations: the addresses of a handler whose address depends on the event (a routing key, a subject, a topic, a stream).
//!
//! A fault or back-pressure that concerns one destination (`Reach::Destination`) holds the events of that destination only. Its
//! events wait in rows that name the destination, unspent. One of them at a time is the probe. All other destinations go on. The
//! troubles are stored in the table `destinations`, so that a new owner of the subscription knows them.
//!
//! - The handler is at fault when `concurrency` + 16 destinations have come into trouble and none has taken an event in between,
//!   or when one has and no other event could show anything within a second. Then the circuit opens.
//! - A destination is given up, and its events become dead letters, only if another destination took an event meanwhile.
//!   Otherwise the receiver as a whole may be down. `on_bad_destination` decides which troubles are never given up.
//! - A full destination is probed after one second at first, because it may have room again soon.
//! - More than 1,000 troubled destinations are not tracked; one more is judged like a fault without a destination.
//!
//! Time and draws are arguments.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::{Outcome, Reason, RetryPolicy, Verdict};

/// Destinations in trouble that are known at once. Beyond that a fault is that of its event.
const MOST: usize = 1_000;
/// Different destinations beyond those in flight that fail before one succeeds, after which it is the handler's trouble.
const ENOUGH: usize = 16;
/// How long events for other destinations may take to come, before the trouble is taken for the handler's.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of a name that are kept; the rest of a longer one becomes a number.
const LONGEST_NAME: usize = 255;
/// First wait for a destination that is full: it may have room again soon.
const FIRST_WAIT_WHEN_FULL: Duration = Duration::from_secs(1);

/// The policy for events of a destination that stays in trouble.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBadDestination {
    /// Those of one that is unknown or forbidden become dead letters, those of a full one are held.
    #[default]
    ByReason,
    Hold,
    DeadLetter,
}

impl OnBadDestination {
    fn holds(self, outcome: Outcome) -> bool {
        match self {
            Self::ByReason => outcome == Outcome::BackPressure,
            Self::Hold => true,
            Self::DeadLetter => false,
        }
    }
}

/// When a destination is probed, and when it is given up.
#[derive(Debug, Clone)]
pub struct DestinationPolicy {
    pub retry: RetryPolicy,
    pub on_bad: OnBadDestination,
    /// Longest wait for a probe of a destination that is held.
    pub max_probe: Duration,
}

/// A destination in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    pub status: Option<u16>,
    pub detail: String,
    /// Probes that have failed.
    pub probes: u32,
    since: Duration,
    pub probe_at: Duration,
    /// The event that is asking now.
    probe: Option<i64>,
    /// How often others had succeeded when it began.
    successes: u64,
}

/// Whether an event for a destination may be attempted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Go,
    /// Wait for so long, unspent.
    Wait(Duration),
}

/// The consequence for an event that its destination did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    /// It waits for so long, unspent. `is_news`: the trouble begins with it.
    Wait { wait: Duration, is_news: bool },
    /// The destination is given up: a dead letter.
    Bury,
    /// Too many are in trouble to know one more: the fault is the event's.
    NoRoom,
}

/// The destinations of one handler.
#[derive(Debug)]
pub struct Destinations {
    policy: DestinationPolicy,
    troubled: BTreeMap<String, Trouble>,
    /// Those that came into trouble since one has succeeded.
    failing: HashSet<String>,
    failing_since: Duration,
    /// How often a destination without trouble took an event while others were in trouble.
    successes: u64,
}

impl Destinations {
    pub fn new(policy: DestinationPolicy) -> Self {
        Self { policy, troubled: BTreeMap::new(), failing: HashSet::new(), failing_since: Duration::ZERO, successes: 0 }
    }

    /// A name that can be stored and shown, whatever strangers wrote.
    pub fn name(text: &str) -> String {
        let text = text.replace('\0', "\u{fffd}");
        if text.len() <= LONGEST_NAME {
            return text;
        }
        let hash =
            text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let mut end = 200;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}... ({hash:016x})", &text[..end])
    }

    /// Takes up what was stored; its next probe is due after `wait`.
    pub fn restore(&mut self, name: String, trouble: Trouble) {
        self.troubled.insert(name, trouble);
    }

    pub fn is_quiet(&self) -> bool {
        self.troubled.is_empty() && self.failing.is_empty()
    }

    pub fn len(&self) -> usize {
        self.troubled.len()
    }

    pub fn is_empty(&self) -> bool {
        self.troubled.is_empty()
    }

    /// One of those in trouble.
    pub fn any(&self) -> Option<&Trouble> {
        self.troubled.values().next()
    }

    pub fn trouble(&self, name: &str) -> Option<&Trouble> {
        self.troubled.get(name)
    }

    /// Whether an event may be attempted now. At a destination in trouble only its probe may, and this event is it then.
    pub fn access(&mut self, name: &str, seq: i64, now: Duration) -> Access {
        let Some(trouble) = self.troubled.get_mut(name) else { return Access::Go };
        let is_given_up = self.successes > trouble.successes && is_given_up(&self.policy, trouble, now);
        match trouble.probe {
            Some(probe) if probe == seq => Access::Go,
            // Soon again: at one that is given up each event has its own try.
            Some(_) if is_given_up => Access::Wait(FIRST_WAIT_WHEN_FULL),
            Some(_) => Access::Wait(wait(&self.policy, trouble, 0.5)),
            None if now >= trouble.probe_at => {
                trouble.probe = Some(seq);
                Access::Go
            }
            None => Access::Wait(trouble.probe_at - now),
        }
    }

    /// A destination did not take an event, for a reason that may be its own.
    pub fn failed(&mut self, name: &str, seq: i64, verdict: &Verdict, now: Duration, draw: f64) -> Sentence {
        if !self.troubled.contains_key(name) && self.troubled.len() >= MOST {
            return Sentence::NoRoom;
        }
        let is_news = !self.troubled.contains_key(name);
        // One whose trouble is known says nothing new about others.
        if is_news {
            if self.failing.is_empty() {
                self.failing_since = now;
            }
            self.failing.insert(name.to_owned());
        }
        let successes = self.successes;
        let trouble = self.troubled.entry(name.to_owned()).or_insert_with(|| Trouble { successes, ..Trouble::new(verdict, now) });
        // Others were in flight when it began.
        if !is_news && trouble.probe != Some(seq) {
            return Sentence::Wait { wait: trouble.probe_at.saturating_sub(now), is_news };
        }
        trouble.probes += 1;
        trouble.probe = None;
        (trouble.reason, trouble.status) = (verdict.reason, verdict.status);
        trouble.detail.clone_from(&verdict.detail);
        // Unless another one took something meanwhile, it may be the receiver that takes nothing.
        let is_contradicted = successes > trouble.successes;
        if is_contradicted && is_given_up(&self.policy, trouble, now) && !self.policy.on_bad.holds(verdict.outcome) {
            trouble.probe_at = now;
            return Sentence::Bury;
        }
        let wait = wait(&self.policy, trouble, draw);
        trouble.probe_at = now + wait;
        Sentence::Wait { wait, is_news }
    }

    /// An event of this destination was taken. Whether its trouble is over: only the probe decides, its own or that of the circuit.
    pub fn succeeded(&mut self, name: &str, seq: i64, is_probe_of_circuit: bool) -> bool {
        self.failing.clear();
        let Some(trouble) = self.troubled.get(name) else {
            self.successes += 1;
            return false;
        };
        let is_over = is_probe_of_circuit || trouble.probe == Some(seq);
        if is_over {
            self.troubled.remove(name);
            self.successes += 1;
        }
        is_over
    }

    /// The attempt of this event says nothing about its destination.
    pub fn released(&mut self, name: &str, seq: i64) {
        if let Some(trouble) = self.troubled.get_mut(name).filter(|trouble| trouble.probe == Some(seq)) {
            trouble.probe = None;
        }
    }

    /// Others have failed, too, and none has succeeded: it is the handler's trouble. Each keeps its own probes beside that.
    pub fn is_everywhere(&mut self, concurrency: usize, may_learn: bool, now: Duration) -> bool {
        let is_time = !may_learn && now >= self.failing_since + GRACE;
        let enough = if is_time { 1 } else { concurrency + ENOUGH };
        if self.failing.len() < enough {
            return false;
        }
        self.failing.clear();
        true
    }
}

impl Trouble {
    pub fn new(verdict: &Verdict, now: Duration) -> Self {
        Self {
            reason: verdict.reason,
            status: verdict.status,
            detail: verdict.detail.clone(),
            probes: 0,
            since: now,
            probe_at: now,
            probe: None,
            successes: 0,
        }
    }

    /// As it was stored: in trouble for so long, the next probe after so long.
    pub fn stored(verdict: &Verdict, probes: u32, lasted: Duration, wait: Duration, now: Duration) -> Self {
        // A clock that began with this owner: what came before counts as its beginning.
        Self { probes, probe_at: now + wait, since: now.saturating_sub(lasted), ..Self::new(verdict, now) }
    }
}

fn is_given_up(policy: &DestinationPolicy, trouble: &Trouble, now: Duration) -> bool {
    let age = now.saturating_sub(trouble.since);
    trouble.probes >= policy.retry.max_attempts || policy.retry.max_age.is_some_and(|max_age| age > max_age)
}

fn wait(policy: &DestinationPolicy, trouble: &Trouble, draw: f64) -> Duration {
    if trouble.reason.is_fullness() {
        let doubled = FIRST_WAIT_WHEN_FULL.saturating_mul(2_u32.saturating_pow(trouble.probes.saturating_sub(1)));
        return doubled.min(policy.max_probe);
    }
    let delay = policy.retry.backoff.delay(trouble.probes.max(1), draw);
    if policy.on_bad == OnBadDestination::Hold { delay.min(policy.max_probe) } else { delay }
}

#[cfg(test)]
mod tests;
