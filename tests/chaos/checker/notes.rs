//! What was seen on the way or found in the tables and needs no rule: it must not be at all.

use super::Violation;
use crate::history::History;

pub fn check(history: &History) -> Vec<Violation> {
    let rows = history.odd_rows.iter().map(|(event, what)| (*event, what.clone()));
    let complaints = history.complaints.iter().map(|what| (None, what.clone()));
    let stuck = history.is_stuck.then(|| (None, "nothing moves any more although something is owed".to_owned()));
    let all = rows.chain(complaints).chain(stuck);
    all.map(|(event, what)| Violation { rule: "notes", event, at: None, what }).collect()
}

#[test]
fn what_was_noticed_is_told() {
    let mut history = super::sample::well();
    history.is_stuck = true;
    history.complaints.push("a relay ended unasked".to_owned());
    history.odd_rows.push((Some(3), "is not finished: ordered retrying".to_owned()));
    assert_eq!(super::sample::only_rule(&history, "notes").len(), 3);
}
