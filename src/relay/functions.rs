//! A turn of the kind `sql`: calls the function for as many events as their time allows, in a transaction that stays open until
//! the outcomes are recorded in it.
//!
//! The effect of a function and the marker of its event commit together, so each event takes effect exactly once. A batch is
//! called in one statement inside a savepoint. If anything in it fails, the savepoint is rolled back and the batch is called in
//! halves, down to single events, so one bad event takes back its own effect only. After a failure, later events of its key in
//! the batch are not called. The books judge the verdicts, then the outcomes are recorded in the same transaction, and the fence
//! decides whether both commit. The row of the subscription is not locked while functions run: the lock would keep the lease from
//! being renewed.
//!
//! - Budget. A turn has a fifth of the lease and at most five seconds, because locks and vacuum wait for its transaction. One
//!   statement gets half of the budget, and the batch is as large as half of *that* affords at the pace of the last calls
//!   (`batch_size`). Event by event, the first call of a turn has the timeouts of the handler and the next ones have what is
//!   left. An event that runs out of it goes back unspent, and the next turn calls it alone.
//! - Order. Events that were never tried come first, then those that have failed before, so that the trouble of a few keys is not
//!   paid by the others.
//! - A session that ends takes back everything that was done in it. The relay checks on another connection since when the server
//!   runs. If it was restarted, or if the error says that another session crashed, no attempt is spent. Otherwise the events of
//!   the batch are called one to a transaction, and the event under which the session ends again gets the verdict `crashed`. No
//!   attempt is counted before, because the relay lives and can record it afterwards.
//! - A commit that fails although the server is there ends the loop (`RelayError::Unrecorded`). The next loop counts each call
//!   before it makes it, so even that event ends as a dead letter.
//!
//! Never records and never decides what follows a verdict. A long file: what a turn calls, and what the next turn learns from it,
//! stand together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{PgPool, Postgres, Transaction};

use super::batch_size::BatchSize;
use super::halves::Halves;
use crate::domain::{LaneKey, LaneRef, Queued, Reason, Verdict};
use crate::handlers::SqlFunction;
use crate::store::{self, Argument, CallEnd, FunctionCall, PayloadType, SessionSettings, StoreError};

/// The function of a handler, and what its loop has learned about calling it.
pub struct Functions {
    function: SqlFunction,
    payload: PayloadType,
    size: BatchSize,
    /// Events to be called one to a transaction: a session ended under them, or there was too little time left for them.
    alone: Vec<(i64, LaneKey)>,
    /// Since when the server runs.
    server_start: String,
}

impl Functions {
    pub fn new(function: SqlFunction, server_start: String) -> Self {
        Self { function, payload: PayloadType::default(), size: BatchSize::new(), alone: Vec::new(), server_start }
    }

    /// Events of the next turn, at most.
    pub fn limit(&self) -> usize {
        if self.alone.is_empty() { self.size.limit() } else { 1 }
    }

    /// The setup of the next turn.
    pub fn setup(
        &self,
        pools: (PgPool, PgPool),
        session: &Arc<SessionSettings>,
        patience: Option<Duration>,
        lease: Duration,
    ) -> Setup {
        Setup {
            calls: pools.0,
            other: pools.1,
            session: Arc::clone(session),
            function: self.function.clone(),
            patience,
            budget: budget(lease),
            payload: self.payload,
            size: self.size,
            server_start: self.server_start.clone(),
        }
    }

    /// Learns from a turn, and gives the lanes that are to come first in the next one.
    pub fn learn(&mut self, batch: &[Queued], called: &Called) -> Vec<LaneKey> {
        self.payload = called.payload;
        self.size = called.size;
        if let Some(start) = &called.server_start {
            self.server_start.clone_from(start);
        }
        for (queued, verdict) in batch.iter().zip(&called.verdicts) {
            let Some(verdict) = verdict else { continue };
            let lane = LaneRef::of(&queued.notification).owned();
            // After a failure the others of the key leave memory, and come back as any other event.
            self.alone.retain(|(seq, key)| *seq != queued.notification.seq && (verdict.is_delivered() || *key != lane));
        }
        let named = |queued: &Queued| (queued.notification.seq, LaneRef::of(&queued.notification).owned());
        match called.alone {
            Alone::Nobody => {}
            Alone::One(at) => self.alone.extend(batch.get(at).map(named)),
            Alone::All => self.alone = batch.iter().map(named).collect(),
        }
        self.alone.iter().map(|(_, key)| key.clone()).collect()
    }

    /// Since when the server runs, as far as it is known here.
    pub fn server_start(&self) -> &str {
        &self.server_start
    }

    /// Nothing is in memory any more, so there is nothing to call alone.
    pub fn forget(&mut self) {
        self.alone.clear();
    }
}

/// How long one transaction with calls may last, but for a single call that takes longer: locks are held so long, and vacuum waits.
fn budget(lease: Duration) -> Duration {
    (lease / 5).min(Duration::from_secs(5))
}

/// So many of those that have failed before are tried in one statement: after an outage there are thousands, else hardly any, and one of them
/// is likely to fail again.
const FAILED_AT_ONCE: usize = 8;

/// For each event whether it is not called in this turn: it has no valid form, or it is behind one of its key that has none.
fn held_back(arguments: &[Argument]) -> Vec<bool> {
    let mut keys: HashSet<&str> = HashSet::new();
    let mut held = Vec::with_capacity(arguments.len());
    for argument in arguments {
        if argument.refused.is_some() {
            keys.extend(argument.key.as_deref());
        }
        held.push(argument.refused.is_some() || argument.key.as_deref().is_some_and(|key| keys.contains(key)));
    }
    held
}

/// An event without a valid form waits for those of its key before it, as every other: it is not over before they are.
fn keep_order(arguments: &[Argument], verdicts: &mut [Option<Verdict>]) {
    for at in (0..arguments.len()).filter(|at| arguments[*at].refused.is_some()) {
        let is_before = |earlier: &usize| arguments[*earlier].key.is_some() && arguments[*earlier].key == arguments[at].key;
        let mut before = (0..at).filter(is_before);
        if before.any(|earlier| !verdicts[earlier].as_ref().is_some_and(Verdict::is_delivered)) {
            verdicts[at] = None;
        }
    }
}

/// The result of calling several in one statement.
enum Tried {
    Done,
    Failed,
    /// They need more time than there is.
    NoTime,
}

/// Whether an event of this key was called and failed.
fn has_failed(key: &str, group: &[Argument], made: &[Option<Verdict>]) -> bool {
    let failed = |verdict: &Option<Verdict>| verdict.as_ref().is_some_and(|verdict| !verdict.is_delivered());
    group.iter().zip(made).any(|(argument, verdict)| argument.key.as_deref() == Some(key) && failed(verdict))
}

/// One turn.
#[derive(Debug)]
pub struct Setup {
    /// Where functions are called.
    calls: PgPool,
    /// Where the server is asked when a session has ended.
    other: PgPool,
    session: Arc<SessionSettings>,
    function: SqlFunction,
    /// How long an answer is waited for beyond what the server grants a call; `None`: for ever.
    patience: Option<Duration>,
    budget: Duration,
    payload: PayloadType,
    size: BatchSize,
    server_start: String,
}

/// The result of a turn.
#[derive(Debug)]
pub struct Called {
    /// For each event; `None`: it was not called, or what it did is taken back.
    pub verdicts: Vec<Option<Verdict>>,
    /// Waits for the outcomes to be recorded in it. `None`: the session is gone, and nothing has happened.
    pub transaction: Option<Transaction<'static, Postgres>>,
    alone: Alone,
    payload: PayloadType,
    size: BatchSize,
    server_start: Option<String>,
}

impl Called {
    /// Events that the function was not called for, or that it did not see to the end of a statement. One that ran out of its time is
    /// none of them; when the session has ended, it is not known which are.
    pub fn uncalled(&self) -> usize {
        let unanswered = self.verdicts.iter().filter(|verdict| verdict.is_none()).count();
        match self.transaction {
            Some(_) => unanswered.saturating_sub(usize::from(matches!(self.alone, Alone::One(_)))),
            None => 0,
        }
    }
}

/// Which events the next turns call one to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    Nobody,
    /// The one at this place.
    One(usize),
    All,
}

/// Calls the function for a batch in order of `seq`, in one transaction that stays open for the marking. After a failure, later events
/// of the same key are not called. The lease is not looked at here: the marking is fenced, and takes back what the functions did if the
/// lease was lost meanwhile. Locking the row instead would keep us from renewing the lease. `Err`: the database is away, nothing has
/// happened, and no event is to blame.
pub async fn call(setup: Setup, arguments: Vec<Argument>) -> Result<Called, StoreError> {
    let mut transaction = store::answered(setup.patience, store::begin(&setup.calls), |silent| silent).await?;
    let mut calls = Calls {
        setup: &setup,
        connection: &mut transaction,
        began: Instant::now(),
        made: 0,
        payload: setup.payload,
        size: setup.size,
        alone: Alone::Nobody,
    };
    let made = calls.make(&arguments).await;
    let (payload, size, alone) = (calls.payload, calls.size, calls.alone);
    match made {
        Ok(verdicts) => Ok(Called { verdicts, transaction: Some(transaction), alone, payload, size, server_start: None }),
        Err(lost) => {
            drop(transaction);
            let (blamed, start) = who_ended_it(&setup, lost).await?;
            let verdicts = match blamed.clone().filter(|_| arguments.len() == 1) {
                verdict @ Some(_) => vec![verdict],
                None => arguments.iter().map(|_| None).collect(),
            };
            let alone = if blamed.is_some() && arguments.len() > 1 { Alone::All } else { Alone::Nobody };
            Ok(Called { verdicts, transaction: None, alone, payload, size, server_start: start })
        }
    }
}

/// The calls of one turn.
struct Calls<'a> {
    setup: &'a Setup,
    connection: &'a mut sqlx::PgConnection,
    began: Instant,
    /// Calls that have ended.
    made: usize,
    payload: PayloadType,
    size: BatchSize,
    alone: Alone,
}

impl Calls<'_> {
    /// First what was never tried, then what has failed before: the trouble of a few keys must not be paid by the others.
    async fn make(&mut self, arguments: &[Argument]) -> Result<Vec<Option<Verdict>>, StoreError> {
        let mut verdicts: Vec<Option<Verdict>> = arguments.iter().map(|argument| argument.refused.clone()).collect();
        let held = held_back(arguments);
        for (has_failed, worth_a_try) in [(false, 2), (true, FAILED_AT_ONCE)] {
            let places: Vec<usize> =
                (0..arguments.len()).filter(|at| arguments[*at].has_failed == has_failed && !held[*at]).collect();
            let group: Vec<Argument> = places.iter().map(|at| arguments[*at].clone()).collect();
            let made = if group.len() >= worth_a_try { self.in_parts(&group).await? } else { self.one_by_one(&group).await? };
            if let Alone::One(at) = self.alone {
                self.alone = Alone::One(places[at]);
            }
            places.iter().zip(made).for_each(|(at, verdict)| verdicts[*at] = verdict);
            if self.alone != Alone::Nobody {
                break;
            }
        }
        keep_order(arguments, &mut verdicts);
        Ok(verdicts)
    }

    /// The time that is left of the turn. `None`: nothing was called yet, and the first call has the time that the handler's settings grant it.
    fn left(&self) -> Option<Duration> {
        (self.made > 0).then(|| self.setup.budget.saturating_sub(self.began.elapsed()))
    }

    /// All in one statement; where something in it fails, in two halves, and so on: one bad event among hundreds costs a dozen statements.
    async fn in_parts(&mut self, arguments: &[Argument]) -> Result<Vec<Option<Verdict>>, StoreError> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; arguments.len()];
        let mut failed_keys: HashSet<&str> = HashSet::new();
        let mut halves = Halves::of(arguments.len());
        while let Some(part) = halves.take_next() {
            let may_go = |at: &usize| arguments[*at].key.as_deref().is_none_or(|key| !failed_keys.contains(key));
            let places: Vec<usize> = (part.0..part.1).filter(may_go).collect();
            let group: Vec<Argument> = places.iter().map(|at| arguments[*at].clone()).collect();
            let tried = if group.len() > 1 { self.at_once(&group).await? } else { Tried::NoTime }; // a single one gets a more exact verdict
            match tried {
                Tried::Done => places.iter().for_each(|at| verdicts[*at] = Some(Verdict::delivered())),
                Tried::Failed => halves.split(part),
                Tried::NoTime => {
                    let made = self.one_by_one(&group).await?;
                    let is_over = made.iter().zip(&group).any(|(verdict, argument)| {
                        verdict.is_none() && argument.key.as_deref().is_none_or(|key| !has_failed(key, &group, &made))
                    });
                    for (at, verdict) in places.iter().zip(made) {
                        if verdict.as_ref().is_some_and(|verdict| !verdict.is_delivered()) {
                            failed_keys.extend(arguments[*at].key.as_deref());
                        }
                        verdicts[*at] = verdict;
                    }
                    if let Alone::One(at) = self.alone {
                        self.alone = Alone::One(places[at]);
                    }
                    // The turn has no time left for what comes after.
                    if is_over || self.alone != Alone::Nobody {
                        break;
                    }
                }
            }
        }
        Ok(verdicts)
    }

    /// All in one statement. Unless it is done, nothing is.
    async fn at_once(&mut self, arguments: &[Argument]) -> Result<Tried, StoreError> {
        let allowance = self.allowance().min(self.left().unwrap_or(Duration::MAX));
        if allowance.is_zero() {
            return Ok(Tried::NoTime);
        }
        let began = Instant::now();
        match self.call(Some(allowance), arguments).await? {
            CallEnd::Done => self.size.measured(arguments.len(), began.elapsed(), self.allowance()),
            CallEnd::TimedOut(_) => {
                self.size.ran_out_of_time();
                return Ok(Tried::NoTime);
            }
            CallEnd::Failed(_) | CallEnd::Missing(_) => return Ok(Tried::Failed),
        }
        self.made += arguments.len();
        Ok(Tried::Done)
    }

    /// The first has the time that the handler's settings grant it; the others have what is left of the turn. One that needs more goes
    /// back unspent, and is the first of the next turn.
    async fn one_by_one(&mut self, arguments: &[Argument]) -> Result<Vec<Option<Verdict>>, StoreError> {
        let began = Instant::now();
        let mut failed_keys: Vec<&str> = Vec::new();
        let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(arguments.len());
        let made_before = self.made;
        for (at, argument) in arguments.iter().enumerate() {
            if argument.key.as_deref().is_some_and(|key| failed_keys.contains(&key)) {
                verdicts.push(None);
                continue;
            }
            let left = self.left();
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let call_began = Instant::now();
            let end = self.call(left, std::slice::from_ref(argument)).await?;
            if matches!(end, CallEnd::TimedOut(_)) && left.is_some_and(|left| call_began.elapsed() >= left) {
                self.alone = Alone::One(at);
                break;
            }
            self.made += 1;
            let verdict = end.verdict();
            if !verdict.is_delivered() {
                failed_keys.extend(argument.key.as_deref());
            }
            verdicts.push(Some(verdict));
        }
        self.size.measured(self.made - made_before, began.elapsed(), self.allowance());
        verdicts.resize(arguments.len(), None);
        Ok(verdicts)
    }

    /// Calls in one statement, no longer than `left`. A function that is there with other parameters than before is called with those.
    async fn call(&mut self, left: Option<Duration>, arguments: &[Argument]) -> Result<CallEnd, StoreError> {
        let end = self.call_as(self.payload, left, arguments).await?;
        if !matches!(end, CallEnd::Missing(_)) {
            return Ok(end);
        }
        let finding = store::find_payload_type(&mut *self.connection, &self.setup.function.function);
        let payload = store::answered(self.setup.patience, finding, |silent| silent).await?;
        if payload == self.payload {
            return Ok(end);
        }
        self.payload = payload;
        self.call_as(payload, left, arguments).await
    }

    async fn call_as(
        &mut self,
        payload: PayloadType,
        left: Option<Duration>,
        arguments: &[Argument],
    ) -> Result<CallEnd, StoreError> {
        let function = &self.setup.function;
        let call = FunctionCall {
            session: &self.setup.session,
            function: &function.function,
            statement_timeout: shorter(function.statement_timeout, left),
            lock_timeout: shorter(function.lock_timeout, left),
            role: function.role.as_deref(),
            payload,
        };
        // A call without a bound is waited for without one.
        let patience = self.setup.patience.filter(|_| !call.statement_timeout.is_zero());
        let patience = patience.map(|patience| patience + call.statement_timeout);
        store::answered(patience, store::call(&mut *self.connection, &call, arguments), |silent| silent).await
    }

    /// For what is called in one statement: half of the turn, so that the other half is left for calling one by one, and not longer than
    /// a single call may take.
    fn allowance(&self) -> Duration {
        shorter(self.setup.function.statement_timeout, Some(self.setup.budget / 2))
    }
}

/// The shorter of two times, of which the first may be zero: no bound.
fn shorter(own: Duration, left: Option<Duration>) -> Duration {
    match left.map(|left| left.max(Duration::from_millis(1))) {
        Some(left) if own.is_zero() => left,
        Some(left) => own.min(left),
        None => own,
    }
}

/// A session has ended, or fallen silent, while functions ran in it. The verdict about the event if it was called alone; `None`: the
/// server was restarted, or another session has crashed. Tells since when the server runs if that is news. `Err`: it is away.
async fn who_ended_it(setup: &Setup, lost: StoreError) -> Result<(Option<Verdict>, Option<String>), StoreError> {
    let Some(start) = find_server(&setup.other).await else { return Err(lost) };
    if start != setup.server_start {
        return Ok((None, Some(start)));
    }
    if lost.is_end_of_server() {
        return Ok((None, None));
    }
    let (reason, what) = if lost.is_silence() {
        (Reason::Timeout, "the session fell silent while the function ran")
    } else {
        (Reason::Crashed, "the session died while the function ran")
    };
    Ok((Some(Verdict::retry(reason, format!("{what}: {}", lost.root()))), None))
}

/// Asks the server since when it runs, until it answers: the crash of one session ends all of them, and it recovers first.
/// `None`: it does not come back soon.
pub async fn find_server(pool: &PgPool) -> Option<String> {
    let asking = async {
        loop {
            match store::answered(Some(LONGEST_ANSWER), store::read_server_start(pool), |silent| silent).await {
                Ok(start) => return start,
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    };
    tokio::time::timeout(LONGEST_RECOVERY, asking).await.ok()
}

const ASK_EVERY: Duration = Duration::from_millis(100);
const LONGEST_ANSWER: Duration = Duration::from_secs(2);
const LONGEST_RECOVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_much_shorter_than_a_lease() {
        for (lease, want) in [(3, 600), (15, 3_000), (3_600, 5_000)] {
            assert_eq!(budget(Duration::from_secs(lease)), Duration::from_millis(want));
        }
    }
}
