//! The search: every state of a scenario that can be reached, breadth first, so that the way to a broken promise is a shortest one.
//! States are remembered by a hash of 64 bits; that two of a million share one is a chance of one in some ten millions.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use outboxd::domain::Record;

use super::log::Script;
use super::rules::Rule;
use super::steps::{Scenario, Step, World};

/// A search that does not end within this many states has a scenario that is too large.
const MOST_STATES: usize = 500_000;

struct Found {
    promise: String,
    trace: Vec<Step>,
}

struct Searched {
    states: usize,
    steps: usize,
    at_rest: usize,
    /// States from which nothing leads to rest.
    stuck: usize,
    took: Duration,
    found: Option<Found>,
}

/// Every state once: how it was reached, and what leads into it.
struct Graph {
    seen: HashMap<u64, u32>,
    reached_by: Vec<Option<(u32, Step)>>,
    edges: Vec<(u32, u32)>,
    at_rest: Vec<u32>,
}

impl Graph {
    fn trace(&self, mut state: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some((before, step)) = self.reached_by[state as usize] {
            steps.push(step);
            state = before;
        }
        steps.reverse();
        steps
    }

    fn stuck(&self) -> Vec<u32> {
        let count = self.reached_by.len();
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); count];
        for (from, to) in &self.edges {
            into[*to as usize].push(*from);
        }
        let mut can_rest = vec![false; count];
        let mut next = self.at_rest.clone();
        while let Some(state) = next.pop() {
            if !std::mem::replace(&mut can_rest[state as usize], true) {
                next.extend(&into[state as usize]);
            }
        }
        (0..count as u32).filter(|state| !can_rest[*state as usize]).collect()
    }
}

fn search(scenario: &Scenario) -> Searched {
    let began = Instant::now();
    let hash = |world: &World| BuildHasherDefault::<DefaultHasher>::default().hash_one(world);
    let first = World::new(scenario);
    let mut graph =
        Graph { seen: HashMap::from([(hash(&first), 0)]), reached_by: vec![None], edges: Vec::new(), at_rest: Vec::new() };
    let mut queue = VecDeque::from([(0u32, first)]);
    let mut found = None;
    'search: while let Some((id, world)) = queue.pop_front() {
        if world.is_at_rest() {
            graph.at_rest.push(id);
            if let Err(promise) = world.check_end() {
                found = Some(Found { promise, trace: graph.trace(id) });
                break;
            }
        }
        for step in world.steps(scenario) {
            let mut next = world.clone();
            if let Err(promise) = next.step(step, scenario) {
                let mut trace = graph.trace(id);
                trace.push(step);
                found = Some(Found { promise, trace });
                break 'search;
            }
            let fresh = graph.reached_by.len() as u32;
            let place = *graph.seen.entry(hash(&next)).or_insert(fresh);
            graph.edges.push((id, place));
            if place == fresh {
                graph.reached_by.push(Some((id, step)));
                queue.push_back((fresh, next));
            }
        }
        assert!(
            graph.reached_by.len() < MOST_STATES,
            "{} is too large to search: {} to go, {} at rest",
            scenario.name,
            queue.len(),
            graph.at_rest.len()
        );
    }
    let stuck = if found.is_none() { graph.stuck() } else { Vec::new() };
    if let (None, Some(first)) = (&found, stuck.first()) {
        found = Some(Found { promise: "nothing leads to rest from here".to_owned(), trace: graph.trace(*first) });
    }
    Searched {
        states: graph.reached_by.len(),
        steps: graph.edges.len(),
        at_rest: graph.at_rest.len(),
        stuck: stuck.len(),
        took: began.elapsed(),
        found,
    }
}

fn told(scenario: &Scenario, searched: &Searched) -> String {
    let Searched { states, steps, at_rest, stuck, took, found } = searched;
    let mut text = format!(
        "{} ({:?}): {states} states, {steps} steps, {at_rest} at rest, {stuck} stuck, {:.1} s",
        scenario.name,
        scenario.settings.rule,
        took.as_secs_f64()
    );
    if let Some(Found { promise, trace }) = found {
        text.push_str(&format!("\n  broken: {promise}"));
        for (number, step) in trace.iter().enumerate() {
            text.push_str(&format!("\n  {:2}. {step}", number + 1));
        }
    }
    text
}

fn holds(scenario: Scenario) {
    let searched = search(&scenario);
    println!("{}", told(&scenario, &searched));
    assert!(searched.found.is_none(), "{}", told(&scenario, &searched));
    assert!(searched.at_rest > 0, "the scenario never comes to rest");
}

const fn writer(keys: &'static [u8]) -> Script {
    Script { keys, may_abort: false }
}

/// Three writers of two keys, at most two at once; one of them may abort. Reading and moving, undisturbed.
const WRITERS: Scenario = Scenario {
    is_coarse: true,
    ..Scenario::quiet("writers", &[writer(&[0]), Script { keys: &[1], may_abort: true }, writer(&[0])])
};

/// Two instances, one of which is frozen past its lease; the other takes over.
const LEASES: Scenario =
    Scenario { instances: 2, expiries: 1, draws_at_once: true, ..Scenario::quiet("leases", &[writer(&[0]), writer(&[1])]) };

/// One instance that dies twice.
const DEATHS: Scenario = Scenario { crashes: 2, draws_at_once: true, ..Scenario::quiet("deaths", &[writer(&[0]), writer(&[1])]) };

/// A death in the middle of a window, with another window behind it.
const WINDOWS: Scenario =
    Scenario { crashes: 1, draws_at_once: true, ..Scenario::quiet("windows", &[writer(&[0, 0]), writer(&[1])]) };

/// Attempts fail, to the dead letter, and the instance dies.
const FAILURES: Scenario =
    Scenario { crashes: 1, failures: 2, draws_at_once: true, ..Scenario::quiet("failures", &[writer(&[0]), writer(&[0])]) };

#[test]
fn every_order_of_writers_and_reads_keeps_every_promise() {
    holds(WRITERS);
}

#[test]
fn every_order_of_take_overs_keeps_every_promise() {
    holds(LEASES);
}

#[test]
fn every_order_of_deaths_keeps_every_promise() {
    holds(DEATHS);
}

#[test]
fn every_order_of_windows_and_a_death_keeps_every_promise() {
    holds(WINDOWS);
}

#[test]
fn every_order_of_failures_and_deaths_keeps_every_promise() {
    holds(FAILURES);
}

#[test]
fn every_order_keeps_every_promise_with_a_row_for_each_success() {
    let mut scenario = FAILURES;
    (scenario.name, scenario.settings.record) = ("failures, all recorded", Record::All);
    holds(scenario);
}

/// A checker that cannot see a mistake proves nothing: each wrong rule is found out, and how is printed.
#[test]
fn every_wrong_rule_is_found_out() {
    let mut missed = Vec::new();
    for (rule, scenario, promise) in [
        (Rule::Numbers, WRITERS, "is lost"),
        (Rule::NoStragglers, WRITERS, "is lost"),
        (Rule::NoBound, WRITERS, "is lost"),
        (Rule::ListedOnly, WRITERS, "is lost"),
        (Rule::NoFence, LEASES, "has moved the position of a later epoch"),
        (Rule::NoTrust, LEASES, "although the subscription is another's"),
        (Rule::PositionFirst, FAILURES, "is lost"),
        (Rule::NoDone, DEATHS, "although its outcome is recorded"),
        (Rule::DoneOverGaps, WRITERS, "is lost"),
        (Rule::CarriedForgotten, DEATHS, "although its outcome is recorded"),
        (Rule::ShortRecovery, WINDOWS, "although its outcome is recorded"),
        (Rule::UnwrittenIsDue, FAILURES, "although its outcome is recorded"),
        (Rule::NoBlocking, FAILURES, "before seq"),
    ] {
        let scenario = scenario.with_rule(rule);
        let searched = search(&scenario);
        println!("{}", told(&scenario, &searched));
        let verdict = searched.found.map(|found| found.promise);
        if !verdict.as_ref().is_some_and(|found| found.contains(promise)) {
            missed.push(format!("{rule:?}: {verdict:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
