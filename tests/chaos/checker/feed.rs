//! What clients of the feed were given: everything that they want and that is in the log, once, in one order that is the same for all of them and
//! keeps that of each key. No client of a history without a failover is ever turned away.

use std::collections::HashMap;

use super::Violation;
use crate::clients::{CLIENTS, ClientPlan, Reading, Seen};
use crate::history::History;
use crate::ledger::EventNumber;
use crate::plan::is_audited;

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut places: HashMap<EventNumber, i64> = HashMap::new();
    for (plan, reading) in CLIENTS.iter().zip(&history.readings) {
        found.extend(refusals(plan, reading));
        found.extend(order(history, plan, reading));
        found.extend(missing(history, plan, reading));
        for Seen { event, place, at } in &reading.seen {
            let Some(event) = *event else { continue };
            let known = *places.entry(event).or_insert(*place);
            if known != *place {
                found.push(violation(plan, Some(event), Some(*at), format!("has the place {place}, and {known} for others")));
            }
        }
    }
    found
}

fn violation(plan: &ClientPlan, event: Option<EventNumber>, at: Option<u32>, what: String) -> Violation {
    Violation { rule: "feed", event, at, what: format!("client \"{}\": {what}", plan.name) }
}

fn refusals<'r>(plan: &'r ClientPlan, reading: &'r Reading) -> impl Iterator<Item = Violation> + 'r {
    reading.refusals.iter().map(|text| violation(plan, None, None, text.clone()))
}

fn order(history: &History, plan: &ClientPlan, reading: &Reading) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut last_place = 0;
    let mut versions: HashMap<u16, u32> = HashMap::new();
    for Seen { event, place, at } in &reading.seen {
        let mut say = |what: String| found.push(violation(plan, *event, Some(*at), what));
        if *place <= last_place {
            say(format!("got the place {place} behind the place {last_place}"));
        }
        last_place = *place;
        let Some(number) = *event else {
            say("got an event that nobody has written".to_owned());
            continue;
        };
        let Some(written) = history.events.get(number as usize) else { continue };
        if !history.is_stored(number) {
            say("got an event that is not in the log".to_owned());
        }
        if plan.is_filtered && !is_audited(written.key) {
            say("got an event that it did not ask for".to_owned());
        }
        if written.key != 0 {
            let before = versions.insert(written.key, written.version).unwrap_or(0);
            if before >= written.version {
                say(format!("got version {} of key {} behind version {before}", written.version, written.key));
            }
        }
    }
    found
}

fn missing(history: &History, plan: &ClientPlan, reading: &Reading) -> Vec<Violation> {
    let mut seen = vec![false; history.events.len()];
    for number in reading.seen.iter().filter_map(|seen| seen.event) {
        if let Some(seen) = seen.get_mut(number as usize) {
            *seen = true;
        }
    }
    let is_missing = |number: EventNumber, key: u16| {
        history.is_stored(number) && (!plan.is_filtered || is_audited(key)) && !seen[number as usize]
    };
    let missing = (0..).zip(&history.events).filter(|(number, event)| is_missing(*number, event.key));
    missing.map(|(number, event)| violation(plan, Some(number), Some(event.at), "never got it".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::{only_rule, well};

    /// Keys 4 and 5 by turns: every client gets what it wants.
    fn read() -> History {
        let mut history = well();
        let seen = |number: EventNumber| Seen { event: Some(number), place: i64::from(number) + 1, at: 1_000 };
        let wanted = |plan: &ClientPlan| (0..6).filter(|number| !plan.is_filtered || number % 2 == 0).map(seen).collect();
        history.readings = CLIENTS.iter().map(|plan| Reading { seen: wanted(plan), ..Reading::default() }).collect();
        history
    }

    fn count(change: impl FnOnce(&mut Vec<Reading>)) -> usize {
        let mut history = read();
        change(&mut history.readings);
        only_rule(&history, "feed").len()
    }

    #[test]
    fn clients_that_got_everything_once_and_in_order_are_well() {
        assert_eq!(count(|_| {}), 0);
    }

    #[test]
    fn an_event_that_a_client_never_got_is_found() {
        assert_eq!(count(|readings| _ = readings[2].seen.remove(3)), 1);
        assert_eq!(count(|readings| _ = readings[1].seen.pop()), 1);
    }

    #[test]
    fn an_event_that_came_twice_is_found() {
        assert_ne!(
            count(|readings| {
                let again = readings[0].seen[5];
                readings[0].seen.push(again);
            }),
            0
        );
    }

    #[test]
    fn an_order_that_is_not_that_of_the_places_or_of_the_keys_is_found() {
        assert_ne!(count(|readings| readings[0].seen.swap(1, 2)), 0);
        assert_ne!(
            count(|readings| {
                // In order by their places, and not by the versions of a key.
                for reading in readings {
                    reading.seen.iter_mut().for_each(|seen| match seen.event {
                        Some(0) => seen.event = Some(4),
                        Some(4) => seen.event = Some(0),
                        _ => {}
                    });
                }
            }),
            0
        );
    }

    #[test]
    fn a_place_that_is_another_one_for_another_client_is_found() {
        assert_eq!(count(|readings| readings[3].seen.last_mut().expect("it got some").place = 77), 1);
    }

    #[test]
    fn what_was_not_asked_for_not_written_or_refused_is_found() {
        assert_ne!(count(|readings| readings[1].seen.insert(1, Seen { event: Some(1), place: 2, at: 1_000 })), 0);
        assert_ne!(count(|readings| readings[0].seen.push(Seen { event: None, place: 9, at: 1_000 })), 0);
        assert_eq!(count(|readings| readings[0].refusals.push("answered 409".to_owned())), 1);
        let mut history = read();
        history.stored[5] = false;
        history.events[5].fate = crate::ledger::Fate::RolledBack;
        history.receipts.iter_mut().for_each(|receipts| receipts.retain(|receipt| receipt.event != Some(5)));
        assert_eq!(only_rule(&history, "feed").len(), 2);
    }
}
