//! Everything that can happen next in the small world, and what must be true whenever it does.

use std::fmt;

use outboxd::domain::Record;

use super::log::{Log, Place, Script, Set, State, holds};
use super::relay::{Loop, Row, Settings, Subscription, is_settled, verdict};
use super::rules::Rule;

/// What may happen, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub writers: &'static [Script],
    pub instances: usize,
    pub settings: Settings,
    pub crashes: u8,
    /// Times that the lease of a living owner runs out: it is frozen, or cut off.
    pub expiries: u8,
    pub failures: u8,
    pub releases: u8,
    /// Nothing comes between the two ends of an attempt or of a flush: where nobody dies or fails it would make no difference.
    pub is_coarse: bool,
    /// A transaction draws all its numbers when it begins.
    pub draws_at_once: bool,
}

impl Scenario {
    pub const fn quiet(name: &'static str, writers: &'static [Script]) -> Self {
        let settings = Settings { rule: Rule::Right, record: Record::Failures, room: 1, most_running: 2, max_attempts: 2 };
        Self {
            name,
            writers,
            instances: 1,
            settings,
            crashes: 0,
            expiries: 0,
            failures: 0,
            releases: 0,
            is_coarse: false,
            draws_at_once: false,
        }
    }

    pub const fn with_rule(mut self, rule: Rule) -> Self {
        self.settings.rule = rule;
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub log: Log,
    pub stored: Subscription,
    pub loops: Vec<Option<Loop>>,
    /// What the receiver has, once or more often.
    pub arrived: Set,
    /// For the checks: what a flush has recorded as delivered.
    recorded: Set,
    crashes: u8,
    expiries: u8,
    failures: u8,
    releases: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Begin(usize),
    Insert(usize),
    Commit(usize),
    Abort(usize),
    TakeUp(usize),
    Expire,
    Crash(usize),
    Abandon(usize),
    Release(usize),
    Read(usize),
    Attempt(usize, u8),
    Succeed(usize, u8),
    Fail(usize, u8),
    BeginFlush(usize),
    Write(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(writer) => write!(f, "writer {writer} begins: it has a transaction number"),
            Self::Insert(writer) => write!(f, "writer {writer} inserts: the next seq is drawn"),
            Self::Commit(writer) => write!(f, "writer {writer} commits"),
            Self::Abort(writer) => write!(f, "writer {writer} aborts"),
            Self::TakeUp(relay) => write!(f, "relay {relay} takes the subscription up"),
            Self::Expire => write!(f, "the lease runs out"),
            Self::Crash(relay) => write!(f, "relay {relay} dies"),
            Self::Abandon(relay) => write!(f, "relay {relay} learns that the lease is another's"),
            Self::Release(relay) => write!(f, "relay {relay} gives the lease back"),
            Self::Read(relay) => write!(f, "relay {relay} reads"),
            Self::Attempt(relay, seq) => write!(f, "relay {relay} begins an attempt of seq {seq}"),
            Self::Succeed(relay, seq) => write!(f, "relay {relay}: seq {seq} is delivered"),
            Self::Fail(relay, seq) => write!(f, "relay {relay}: seq {seq} fails"),
            Self::BeginFlush(relay) => write!(f, "relay {relay} begins a flush"),
            Self::Write(relay) => write!(f, "relay {relay}: the flush is written"),
        }
    }
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        let mut world = Self {
            log: Log::new(scenario.writers.len()),
            stored: Subscription { owner: None, is_expired: false, place: Place::beginning(), done: 0, rows: Vec::new() },
            loops: vec![None; scenario.instances],
            arrived: 0,
            recorded: 0,
            crashes: scenario.crashes,
            expiries: scenario.expiries,
            failures: scenario.failures,
            releases: scenario.releases,
        };
        world.step(Step::TakeUp(0), scenario).expect("nothing can be wrong yet");
        world
    }

    /// Everything that can happen now.
    pub fn steps(&self, scenario: &Scenario) -> Vec<Step> {
        let mut steps = Vec::new();
        for (writer, script) in scenario.writers.iter().enumerate() {
            let Writing { may_begin, next_key, may_end } = self.writing(writer, script, scenario);
            steps.extend(may_begin.then_some(Step::Begin(writer)));
            steps.extend(next_key.filter(|key| self.log.may_insert(writer, *key)).map(|_| Step::Insert(writer)));
            steps.extend(may_end.then_some(Step::Commit(writer)));
            steps.extend((may_end && script.may_abort).then_some(Step::Abort(writer)));
        }
        let owner_lives = self.stored.owner.is_some_and(|owner| self.loops[owner].is_some());
        if self.stored.owner.is_some() && !self.stored.is_expired && (!owner_lives || self.expiries > 0) {
            steps.push(Step::Expire);
        }
        for (relay, state) in self.loops.iter().enumerate() {
            match state {
                None if self.stored.owner.is_none_or(|owner| owner == relay || self.stored.is_expired) => {
                    steps.push(Step::TakeUp(relay))
                }
                None => {}
                Some(state) => self.steps_of(relay, state, scenario, &mut steps),
            }
        }
        steps
    }

    fn writing(&self, writer: usize, script: &Script, scenario: &Scenario) -> Writing {
        let state = &self.log.writers[writer];
        let is_open = state.state == State::Open;
        let next_key = script.keys.get(usize::from(state.inserted)).copied().filter(|_| is_open);
        let may_draw = !scenario.draws_at_once || script.keys.iter().all(|key| self.log.may_insert(writer, *key));
        // Numbers of transactions are given out in the order of the list; which is which is a matter of names.
        let is_next = self.log.writers[..writer].iter().all(|before| before.state != State::Idle);
        let may_begin = is_next && state.state == State::Idle && self.log.running() < scenario.settings.most_running && may_draw;
        Writing { may_begin, next_key, may_end: is_open && next_key.is_none() }
    }

    fn steps_of(&self, relay: usize, state: &Loop, scenario: &Scenario, steps: &mut Vec<Step>) {
        if self.crashes > 0 {
            steps.push(Step::Crash(relay));
        }
        if self.stored.owner != Some(relay) {
            steps.push(Step::Abandon(relay));
        }
        if self.releases > 0 && state.is_drained() && self.stored.owner == Some(relay) {
            steps.push(Step::Release(relay));
        }
        if state.may_read() {
            steps.push(Step::Read(relay));
        }
        if state.is_trusted || scenario.settings.rule == Rule::NoTrust {
            steps.extend(state.startable(&self.log, &scenario.settings).into_iter().map(|seq| Step::Attempt(relay, seq)));
        }
        for seq in state.flying() {
            steps.push(Step::Succeed(relay, seq));
            steps.extend((self.failures > 0).then_some(Step::Fail(relay, seq)));
        }
        if state.turn.is_some() {
            steps.push(Step::Write(relay));
        } else if state.wants_turn(&self.stored, &self.log) {
            steps.push(Step::BeginFlush(relay));
        }
    }

    /// Makes a step. `Err`: a promise is broken, and which.
    pub fn step(&mut self, step: Step, scenario: &Scenario) -> Result<(), String> {
        match step {
            Step::Begin(writer) => {
                self.log.begin(writer);
                if scenario.draws_at_once {
                    scenario.writers[writer].keys.iter().for_each(|key| self.log.insert(writer, *key));
                }
            }
            Step::Insert(writer) => {
                let key = scenario.writers[writer].keys[usize::from(self.log.writers[writer].inserted)];
                self.log.insert(writer, key);
            }
            Step::Commit(writer) => self.log.end(writer, State::Committed),
            Step::Abort(writer) => self.log.end(writer, State::Aborted),
            Step::Expire => self.expire(),
            Step::TakeUp(relay) => {
                (self.stored.owner, self.stored.is_expired) = (Some(relay), false);
                self.loops.iter_mut().flatten().for_each(|other| other.outdate(scenario.settings.rule));
                self.loops[relay] = Some(Loop::take_up(&self.stored, &self.log));
            }
            Step::Crash(relay) => {
                self.crashes -= 1;
                self.loops[relay] = None;
            }
            Step::Abandon(relay) => self.loops[relay] = None,
            Step::Release(relay) => {
                self.releases -= 1;
                self.loops[relay] = None;
                self.stored.owner = None;
            }
            Step::Read(relay) => self.read(relay, scenario)?,
            Step::Attempt(relay, seq) => {
                self.attempt(relay, seq)?;
                if scenario.is_coarse {
                    self.end_attempt(relay, seq, true, scenario);
                }
            }
            Step::Succeed(relay, seq) => self.end_attempt(relay, seq, true, scenario),
            Step::Fail(relay, seq) => self.end_attempt(relay, seq, false, scenario),
            Step::BeginFlush(relay) => {
                self.of(relay).begin_turn(&scenario.settings);
                if scenario.is_coarse {
                    self.write(relay, scenario)?;
                }
            }
            Step::Write(relay) => self.write(relay, scenario)?,
        }
        Ok(())
    }

    fn of(&mut self, relay: usize) -> &mut Loop {
        self.loops[relay].as_mut().expect("only a loop that runs makes steps")
    }

    /// The time is up: for the database, and on its own clock for the owner.
    fn expire(&mut self) {
        self.stored.is_expired = true;
        if let Some(owner) = self.stored.owner.and_then(|owner| self.loops[owner].as_mut()) {
            owner.is_trusted = false;
            self.expiries -= 1;
        }
    }

    fn read(&mut self, relay: usize, scenario: &Scenario) -> Result<(), String> {
        let mut state = self.loops[relay].take().expect("it runs");
        state.read(&self.log, &self.stored, &scenario.settings);
        let twice =
            |seq: &u8| state.segments.iter().flat_map(|segment| &segment.events).filter(|(other, _)| other == seq).count() > 1;
        let found = (1..=self.log.last_seq()).find(twice);
        self.loops[relay] = Some(state);
        found.map_or(Ok(()), |seq| Err(format!("seq {seq} was read twice by one loop")))
    }

    fn attempt(&mut self, relay: usize, seq: u8) -> Result<(), String> {
        let event = self.log.event(seq);
        if event.state != State::Committed {
            return Err(format!("seq {seq} is attempted and was not committed"));
        }
        if !self.of(relay).is_current || self.stored.owner != Some(relay) {
            return Err(format!("relay {relay} begins an attempt of seq {seq} although the subscription is another's"));
        }
        if holds(self.recorded, seq) || is_settled(&self.stored, &self.log, seq) {
            return Err(format!("seq {seq} is attempted again although its outcome is recorded"));
        }
        let earlier = self.log.committed().filter(|(other, before)| *other < seq && before.key == event.key);
        for (other, _) in earlier {
            let is_dead = self.loops[relay].as_ref().is_some_and(|state| state.has_given_up(other));
            if !holds(self.arrived, other) && !is_dead && self.stored.row(other) != Some(Row::Dead) {
                return Err(format!("seq {seq} is attempted before seq {other} of the same key has an outcome"));
            }
        }
        self.of(relay).begin_attempt(seq);
        Ok(())
    }

    fn end_attempt(&mut self, relay: usize, seq: u8, succeeds: bool, scenario: &Scenario) {
        if succeeds {
            self.arrived |= 1 << seq;
        } else {
            self.failures -= 1;
        }
        let state = self.loops[relay].as_mut().expect("it runs");
        state.end_attempt(seq, &verdict(succeeds), &self.log, &scenario.settings);
    }

    fn write(&mut self, relay: usize, scenario: &Scenario) -> Result<(), String> {
        let state = self.loops[relay].as_mut().expect("it runs");
        let flush = state.turn.take().expect("a turn is under way");
        if !state.is_current {
            if scenario.settings.rule == Rule::NoFence {
                return Err(format!("relay {relay} has moved the position of a later epoch"));
            }
            self.loops[relay] = None;
            return Ok(());
        }
        let before = self.stored.place;
        flush.write(&mut self.stored);
        self.recorded |= flush.delivered;
        state.end_turn(&self.log, &self.stored, &scenario.settings);
        self.check_stored(before)
    }

    /// What is stored now does not say more than is true, and not less than before.
    fn check_stored(&self, before: Place) -> Result<(), String> {
        let place = self.stored.place;
        for seq in 1..=self.log.last_seq() {
            let event = self.log.event(seq);
            if before.covers(seq, event) && !place.covers(seq, event) {
                return Err(format!("the position went back over seq {seq}"));
            }
            if self.log.is_open(seq) && is_settled(&self.stored, &self.log, seq) {
                return Err(format!("seq {seq} is lost: the position is past it, and its transaction has not ended"));
            }
            let is_owed = matches!(self.stored.row(seq), Some(Row::Retrying(_) | Row::Dead));
            let is_told = place.covers(seq, event) || holds(self.stored.done, seq) || self.stored.row(seq) == Some(Row::Delivered);
            if event.state == State::Committed && is_told && !is_owed && !holds(self.arrived, seq) {
                return Err(format!("seq {seq} is lost: what is stored says that it was handled, and it never was"));
            }
        }
        Ok(())
    }

    /// Everybody has finished: what must hold then.
    pub fn check_end(&self) -> Result<(), String> {
        for (seq, event) in self.log.committed() {
            let has_outcome = holds(self.arrived, seq) || self.stored.row(seq) == Some(Row::Dead);
            if !has_outcome {
                return Err(format!("seq {seq} is lost: everything is at rest, and it has no outcome"));
            }
            if !self.stored.place.covers(seq, event) {
                return Err(format!("the position rests before seq {seq}"));
            }
        }
        Ok(())
    }

    /// Nothing more will happen by itself.
    pub fn is_at_rest(&self) -> bool {
        let rests = |state: &Loop| state.is_at_rest(&self.log) && !state.wants_turn(&self.stored, &self.log);
        let owner = self.stored.owner.and_then(|owner| self.loops[owner].as_ref());
        self.log.is_over() && owner.is_some_and(rests)
    }
}

struct Writing {
    may_begin: bool,
    next_key: Option<u8>,
    may_end: bool,
}
