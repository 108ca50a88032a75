//! Lanes, progress, circuit, suspects and policy together, in any order of reads, attempts, ends, retries and time, against a reference that is
//! too simple to be wrong: a list of events per key, a set of what is in memory, a list of segments.
//! A long file: the small world and its reference are read side by side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use outboxd::domain::{
    Admission, Backoff, Circuit, CircuitPolicy, Judgement, LaneRef, Lanes, Next, Notification, Origin, Position, Progress, Queued,
    Reason, Record, RetryPolicy, SegmentId, Span, Suspects, Verdict, at_fault, decide,
};
use proptest::prelude::*;

use crate::outage::{Reference, Told};

const ROOM: usize = 8;
const REFILL: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// A segment with events of these keys; key 0 is none.
    Read(Vec<u8>),
    Begin,
    End(usize, End),
    Turn,
    Wait(u64),
    /// What is in doubt is judged.
    Judge,
    /// A person closes the circuit.
    Close,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Delivered,
    Failed,
    Unreached,
    Permanent,
    Throttled,
    /// Met by everybody, for certain.
    Fault,
    /// Met by everybody, or by this event only.
    Doubtful,
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        6 => Just(End::Delivered),
        3 => Just(End::Failed),
        2 => Just(End::Unreached),
        1 => Just(End::Permanent),
        1 => Just(End::Throttled),
        1 => Just(End::Fault),
        2 => Just(End::Doubtful),
    ];
    prop_oneof![
        3 => prop::collection::vec(0u8..4, 0..4).prop_map(Step::Read),
        6 => Just(Step::Begin),
        6 => (any::<usize>(), end).prop_map(|(which, end)| Step::End(which, end)),
        3 => Just(Step::Turn),
        2 => (0u64..40).prop_map(Step::Wait),
        3 => Just(Step::Judge),
        1 => Just(Step::Close),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// In the log only, or in memory only.
    Pending,
    Retrying,
    Waiting,
    Done,
    Dead,
}

/// What is known of one event, apart from everything that is tested.
struct Known {
    key: Option<String>,
    segment: usize,
    attempts: u32,
    fate: Fate,
    /// Settled, and no row tells so.
    has_no_row: bool,
}

struct World {
    record: Record,
    lanes: Lanes,
    progress: Progress,
    circuit: Circuit,
    suspects: Suspects<(Queued, Verdict)>,
    /// How many attempts have succeeded.
    successes: u32,
    now: Duration,
    flying: Vec<(Queued, Admission)>,
    outage: Reference,
    known: BTreeMap<i64, Known>,
    in_memory: BTreeSet<i64>,
    /// End and unsettled events of each segment that was not passed, and how many were.
    segments: VecDeque<(i64, usize)>,
    passed: usize,
    reached: Option<i64>,
}

fn policy() -> RetryPolicy {
    let second = Duration::from_secs(1);
    RetryPolicy { backoff: Backoff::exponential(second, 2.0, second * 4, 0.3).expect("valid"), max_attempts: 3, max_age: None }
}

fn verdict(end: End) -> Verdict {
    match end {
        End::Delivered => Verdict::delivered(),
        End::Failed => Verdict::retry(Reason::ServerError, ""),
        End::Unreached => Verdict::retry(Reason::ConnectionRefused, ""),
        End::Permanent => Verdict::permanent(Reason::TooLarge, ""),
        End::Throttled => Verdict::back_pressure(Reason::Throttled, None, ""),
        End::Fault => Verdict::handler_fault(Reason::Unauthorized, "").of_everyone(),
        End::Doubtful => Verdict::handler_fault(Reason::NotFound, ""),
    }
}

impl World {
    fn new(record: Record) -> Self {
        let circuit = CircuitPolicy { minimum: 6, first_probe: Duration::from_secs(10), ..CircuitPolicy::default() };
        Self {
            record,
            lanes: Lanes::new(ROOM),
            progress: Progress::new(record),
            outage: Reference::new(circuit.clone()),
            suspects: Suspects::new(circuit.first_probe),
            circuit: Circuit::new(circuit),
            successes: 0,
            now: Duration::ZERO,
            flying: Vec::new(),
            known: BTreeMap::new(),
            in_memory: BTreeSet::new(),
            segments: VecDeque::new(),
            passed: 0,
            reached: None,
        }
    }

    fn queued(&self, seq: i64, origin: Origin) -> Queued {
        let known = &self.known[&seq];
        let notification = Notification { seq, key: known.key.clone(), ..Notification::sample("a", "{}") };
        Queued { notification: Box::new(notification), origin, attempts: known.attempts, age_micros: 0 }
    }

    fn read(&mut self, keys: &[u8]) {
        let end = self.known.len() as i64 + keys.len() as i64;
        let id = self.progress.push(Position { high_seq: end, ..Position::beginning() }, keys.len());
        // Nothing was found: the end of what was read before moves.
        match self.segments.back_mut() {
            Some(last) if keys.is_empty() => last.0 = end,
            _ => self.segments.push_back((end, keys.len())),
        }
        let segment = self.passed + self.segments.len() - 1;
        for key in keys {
            let seq = self.known.len() as i64 + 1;
            let key = (*key > 0).then(|| format!("k{key}"));
            self.known.insert(seq, Known { key, segment, attempts: 0, fate: Fate::Pending, has_no_row: false });
            self.in_memory.insert(seq);
            if let Some(parked) = self.lanes.offer(self.queued(seq, Origin::Log(id))) {
                self.park(&parked);
            }
        }
        self.advance();
    }

    fn park(&mut self, queued: &Queued) {
        let seq = queued.notification.seq;
        self.in_memory.remove(&seq);
        self.known.get_mut(&seq).expect("known").fate = Fate::Waiting;
        self.settle(queued.origin.segment(), seq, true);
    }

    fn settle(&mut self, segment: Option<SegmentId>, seq: i64, has_row: bool) {
        if let Some(id) = segment {
            self.progress.settle(id, seq, has_row);
            self.known.get_mut(&seq).expect("known").has_no_row = !has_row;
            self.segments[self.known[&seq].segment - self.passed].1 -= 1;
        }
    }

    fn advance(&mut self) {
        let mut want = None;
        while self.segments.front().is_some_and(|(_, unsettled)| *unsettled == 0) {
            want = self.segments.pop_front().map(|(end, _)| end);
            self.passed += 1;
        }
        let got = self.progress.advance().map(|position| position.high_seq);
        assert_eq!(got, want, "the position moves over the settled front");
        self.reached = want.or(self.reached);
    }

    fn begin(&mut self) {
        while self.lanes.has_ready() {
            if self.suspects.may_ask_at_once() && self.lanes.has_ready_where(|event| self.suspects.is_fresh(event)) {
                self.circuit.hurry(self.now);
                self.outage.hurried(self.now);
                self.suspects.asked_at_once();
            }
            let Some(admission) = self.circuit.admit(self.now) else { return };
            let best = self.lanes.take_best(|event| self.suspects.rank(event));
            let Some(queued) = best else { return self.circuit.released(admission) };
            self.outage.began(queued.notification.seq, self.now);
            let Notification { seq, key, .. } = &*queued.notification;
            let is_over = |known: &Known| matches!(known.fate, Fate::Done | Fate::Dead);
            let earlier = self.known.range(..seq).filter(|(_, known)| key.is_some() && known.key == *key);
            assert!(earlier.into_iter().all(|(_, known)| is_over(known)), "{seq} begins before what is older of its key is over");
            assert!(!is_over(&self.known[seq]), "{seq} begins although it is over");
            assert!(self.flying.iter().all(|(flying, _)| flying.notification.seq != *seq), "{seq} is in flight twice");
            assert!(self.suspects.iter().all(|(held, _)| held.notification.seq != *seq), "{seq} begins while it is in doubt");
            self.flying.push((queued, admission));
        }
    }

    /// As `relay::books::settle` enters the end of an attempt.
    fn end(&mut self, which: usize, end: End) {
        if self.flying.is_empty() {
            return;
        }
        let (queued, admission) = self.flying.swap_remove(which % self.flying.len());
        let (verdict, was_closed, seq) = (verdict(end), self.circuit.is_closed(), queued.notification.seq);
        if was_closed && verdict.may_be_of_the_event() {
            return self.doubt(queued, admission, verdict);
        }
        let is_probe = !was_closed && !self.circuit.is_late(admission);
        match end {
            End::Delivered if is_probe => self.suspects.acquitted_handler(),
            End::Fault | End::Doubtful if is_probe => self.suspects.convict(&queued.notification),
            _ if is_probe => self.suspects.start_over(),
            _ => {}
        }
        let told = self.tell_circuit(end, admission, verdict.reason);
        self.outage.ended(seq, told, &self.circuit, self.now);
        if verdict.speaks_for_handler() && self.circuit.is_closed() {
            self.successes += 1;
            let span = Span { began: admission.began(), ended: self.circuit.tick(), segment: queued.origin.segment() };
            let contradicted = self.suspects.succeeded(span);
            self.suspects.taken(&queued.notification);
            contradicted.into_iter().for_each(|(queued, verdict)| self.blame(&queued, &verdict));
        }
        let attempt = queued.attempts + 1;
        let spent = self.known[&seq].attempts;
        match decide(&policy(), &verdict, attempt, Duration::ZERO, 0.5) {
            Next::SlowDown(_) | Next::OpenCircuit => self.lanes.returned(queued),
            Next::RetryIn(_) | Next::Bury(Reason::Exhausted | Reason::Expired) if !was_closed => self.lanes.returned(queued),
            Next::RetryIn(_) => self.retry(&queued, attempt),
            next => {
                self.over(&queued, if next == Next::Done { Fate::Done } else { Fate::Dead }, attempt);
                self.lanes.finished(&queued.notification);
            }
        }
        let is_answer = matches!(end, End::Delivered | End::Permanent);
        let now_spent = self.known[&seq].attempts;
        assert!(now_spent == spent || was_closed || is_answer, "a circuit that is not closed spends no attempts");
        assert!(now_spent <= policy().max_attempts);
        self.advance();
    }

    fn retry(&mut self, queued: &Queued, attempt: u32) {
        self.over(queued, Fate::Retrying, attempt);
        for follower in self.lanes.blocked(&queued.notification) {
            self.park(&follower);
        }
        self.forget_parked(queued);
    }

    /// As `relay::books::judge` holds a suspect.
    fn doubt(&mut self, queued: Queued, admission: Admission, verdict: Verdict) {
        let seq = queued.notification.seq;
        self.outage.doubted(seq);
        if self.circuit.is_late(admission) {
            self.lanes.returned(queued);
        } else if self.suspects.is_proven(&queued.notification) {
            self.blame(&queued, &verdict);
            self.advance();
        } else {
            let notification = queued.notification.clone();
            let span = Span { began: admission.began(), ended: self.circuit.tick(), segment: queued.origin.segment() };
            self.suspects.accuse((queued, verdict), &notification, span, self.now);
        }
    }

    fn judge(&mut self) {
        if !self.circuit.is_closed() {
            return self.suspects.take_back().into_iter().for_each(|(queued, _)| self.lanes.returned(queued));
        }
        match self.suspects.judge(ROOM, !self.flying.is_empty() || self.lanes.has_ready(), self.now) {
            Judgement::Undecided => {}
            Judgement::EventsAtFault(cases) => {
                cases.into_iter().for_each(|(queued, verdict)| self.blame(&queued, &verdict));
                self.advance();
            }
            Judgement::HandlerAtFault(cases) => {
                self.circuit.convict(Reason::NotFound, self.now);
                self.outage.convicted(self.now);
                for (queued, _) in cases {
                    self.suspects.convict(&queued.notification);
                    self.lanes.returned(queued);
                }
            }
        }
    }

    /// The fault is the event's own: an attempt is spent.
    fn blame(&mut self, queued: &Queued, verdict: &Verdict) {
        let attempt = queued.attempts + 1;
        assert!(self.circuit.is_closed() && self.successes > 0, "nobody is at fault unless somebody else has succeeded");
        assert!(attempt <= policy().max_attempts);
        if at_fault(&policy(), verdict, attempt, Duration::ZERO, 0.5).is_ok() {
            self.suspects.prove(&queued.notification);
            self.retry(queued, attempt);
        } else {
            self.over(queued, Fate::Dead, attempt);
            self.lanes.finished(&queued.notification);
        }
    }

    fn tell_circuit(&mut self, end: End, admission: Admission, reason: Reason) -> Told {
        match end {
            End::Delivered | End::Permanent | End::Throttled => {
                self.circuit.answered(admission, self.now);
                Told::Works
            }
            End::Failed | End::Unreached => {
                self.circuit.failed(admission, reason, self.now);
                Told::Failed
            }
            End::Fault | End::Doubtful => {
                self.circuit.fault(admission, reason, self.now);
                Told::Fault
            }
        }
    }

    fn over(&mut self, queued: &Queued, fate: Fate, attempts: u32) {
        let seq = queued.notification.seq;
        self.in_memory.remove(&seq);
        let known = self.known.get_mut(&seq).expect("known");
        (known.fate, known.attempts) = (fate, attempts);
        self.settle(queued.origin.segment(), seq, fate != Fate::Done || self.record == Record::All);
    }

    /// Followers that had rows already leave memory as well.
    fn forget_parked(&mut self, head: &Queued) {
        if let Some(key) = &head.notification.key {
            let is_of_key = |seq: &i64| self.known[seq].key.as_ref() == Some(key);
            let gone: Vec<i64> = self.in_memory.iter().copied().filter(is_of_key).collect();
            gone.iter().for_each(|seq| assert!(self.in_memory.remove(seq)));
        }
    }

    /// A turn: what is due is read, and what waits behind a key that can go on.
    fn turn(&mut self) {
        for key in self.lanes.take_refills(2) {
            let of_key = self.known.iter().filter(|(_, known)| known.key.as_ref() == Some(&key));
            let retry = of_key.clone().find(|(_, known)| known.fate == Fate::Retrying).map_or(i64::MAX, |(seq, _)| *seq);
            let is_waiting = |seq: &i64, known: &Known| known.fate == Fate::Waiting && !self.in_memory.contains(seq);
            let waiting: Vec<i64> = of_key.filter(|(seq, known)| is_waiting(seq, known)).map(|(seq, _)| *seq).collect();
            let rows: Vec<i64> = waiting.iter().copied().filter(|seq| *seq < retry).take(REFILL).collect();
            let left = (waiting.len() - rows.len()) as u64;
            let queued = rows.iter().map(|seq| self.queued(*seq, Origin::Recorded)).collect();
            if !self.lanes.is_blocked(LaneRef::Key(&key)) {
                self.in_memory.extend(rows);
            }
            self.lanes.refill(&key, queued, left);
        }
        let due = self.known.iter().filter(|(_, known)| known.fate == Fate::Retrying).map(|(seq, _)| *seq);
        for seq in due.collect::<Vec<_>>() {
            let key = &self.known[&seq].key;
            let behind = self.known.range(seq + 1..);
            let followed = key.is_some() && behind.into_iter().any(|(_, known)| known.key == *key && known.fate == Fate::Waiting);
            let lane = key.as_deref().map_or(LaneRef::Alone(seq), LaneRef::Key);
            if self.lanes.wants_due(lane) {
                self.in_memory.insert(seq);
            }
            self.lanes.take_due(self.queued(seq, Origin::Recorded), followed);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Read(keys) => self.read(keys),
            Step::Begin => self.begin(),
            Step::End(which, end) => self.end(*which, *end),
            Step::Turn => self.turn(),
            Step::Wait(seconds) => self.now += Duration::from_secs(*seconds),
            Step::Judge => self.judge(),
            Step::Close => {
                self.circuit.close();
                self.suspects.start_over();
                self.outage.closed();
            }
        }
        assert_eq!(
            (self.circuit.is_closed(), self.circuit.wait(self.now)),
            (self.outage.is_closed(), self.outage.wait(self.now)),
            "only its probe makes an outage longer"
        );
        let bytes: usize = self.in_memory.iter().map(|seq| self.queued(*seq, Origin::Recorded).notification.bytes()).sum();
        assert_eq!(
            (self.lanes.held(), self.lanes.held_bytes()),
            (self.in_memory.len(), bytes),
            "what is held is what is in memory"
        );
        let unsettled: usize = self.segments.iter().map(|(_, unsettled)| unsettled).sum();
        assert_eq!(self.progress.outstanding(), unsettled, "the progress counts what has no outcome");
        let beyond = self.known.iter().filter(|(_, known)| known.has_no_row && known.segment >= self.passed);
        let told = self.progress.done_ranges().map_or_else(Vec::new, |text| numbers(&text));
        assert_eq!(told, beyond.map(|(seq, _)| *seq).collect::<Vec<_>>(), "what no row tells is in the ranges");
    }

    fn is_over(&self) -> bool {
        self.known.values().all(|known| matches!(known.fate, Fate::Done | Fate::Dead))
    }
}

/// The numbers of an `int8multirange`.
fn numbers(text: &str) -> Vec<i64> {
    let ranges = text.trim_matches(['{', '}']).split("),");
    let bounds = ranges.filter_map(|range| range.trim_matches(['[', ')']).split_once(','));
    bounds.flat_map(|(from, to)| from.parse::<i64>().expect("a number")..to.parse().expect("a number")).collect()
}

/// Few enough for every day; `PROPTEST_CASES` asks for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(512) }
}

fn run(steps: &[Step], record: Record) {
    let mut world = World::new(record);
    steps.iter().for_each(|step| world.step(step));
    // From here on everything works again, and all of it ends.
    for _ in 0..20 * (world.known.len() + 10) {
        if world.is_over() && world.flying.is_empty() {
            break;
        }
        for step in [Step::Wait(700), Step::Turn, Step::Begin, Step::End(0, End::Delivered), Step::Judge] {
            world.step(&step);
        }
    }
    assert!(
        world.is_over(),
        "an event is lost: {:?}",
        world.known.iter().find(|(_, known)| known.fate == Fate::Pending).map(|k| k.0)
    );
    assert_eq!((world.lanes.held(), world.lanes.blocked_keys(), world.progress.is_empty()), (0, 0, true));
    assert_eq!(world.reached.unwrap_or(0), world.known.len() as i64, "the position is behind the last event");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_happens_keys_stay_in_order_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..150), all: bool) {
        run(&steps, if all { Record::All } else { Record::Failures });
    }
}
