//! One owner at a time: an epoch never goes down, a lease is not taken before it is over, a position never goes back, and only the relay
//! that made an epoch moves the position in it.

use std::collections::HashMap;

use super::Violation;
use crate::history::{History, Move};

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    // Of each subscription the epoch, who made it, and what it was before.
    let mut makers: HashMap<i32, (i64, &str)> = HashMap::new();
    for one in &history.moves {
        found.extend(wrong(one, makers.get(&one.subscription).copied()).into_iter().map(|what| Violation {
            rule: "epochs",
            event: None,
            at: Some(one.at),
            what: format!("subscription {}, epoch {}, by {}: {what}", one.subscription, one.epoch, one.role),
        }));
        if one.epoch > one.epoch_before {
            makers.insert(one.subscription, (one.epoch, &one.role));
        }
    }
    found
}

fn wrong(one: &Move, maker: Option<(i64, &str)>) -> Vec<String> {
    let mut wrong = Vec::new();
    if one.epoch < one.epoch_before {
        wrong.push(format!("the epoch went down from {}", one.epoch_before));
    }
    if let Some((epoch, _)) = maker.filter(|(epoch, _)| *epoch != one.epoch_before) {
        wrong.push(format!("the epoch was {epoch} and is taken for {}", one.epoch_before));
    }
    let changes_hands = one.owner_before.is_some() && one.owner.is_some() && one.owner != one.owner_before;
    if changes_hands && one.lease_before > one.at {
        wrong.push(format!("the lease was taken {} ms before it was over", one.lease_before - one.at));
    }
    if changes_hands && one.epoch == one.epoch_before {
        wrong.push("another owner with the same epoch".to_owned());
    }
    if one.is_position {
        if one.read_to < one.read_before || (one.same_window && one.window < one.window_before) {
            wrong.push("the position went back".to_owned());
        }
        if maker.is_some_and(|(_, role)| role != one.role) {
            wrong.push(format!("the position was moved in an epoch of {}", maker.map_or("", |(_, role)| role)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{moved, only_rule, taken, well};
    use crate::history::Move;

    fn count(moves: impl Into<Vec<Move>>) -> usize {
        let mut history = well();
        history.moves = moves.into();
        only_rule(&history, "epochs").len()
    }

    #[test]
    fn an_owner_moves_its_position_forwards() {
        assert_eq!(count([taken(), moved()]), 0);
        assert_eq!(count([taken(), Move { read_to: 4, ..moved() }]), 1);
        let window = Move { read_to: 5, same_window: true, window_before: Some(70), window: Some(60), ..moved() };
        assert_eq!(count([taken(), window]), 1);
    }

    #[test]
    fn a_position_that_is_moved_in_the_epoch_of_another_is_found() {
        let other = Move {
            at: 5_000,
            role: "relay_1".to_owned(),
            epoch_before: 1,
            epoch: 2,
            owner_before: Some("a".to_owned()),
            owner: Some("b".to_owned()),
            lease_before: 4_000,
            ..taken()
        };
        let late = Move {
            at: 5_100,
            epoch_before: 2,
            epoch: 2,
            owner_before: Some("b".to_owned()),
            owner: Some("b".to_owned()),
            ..moved()
        };
        assert_eq!(count([taken(), other.clone(), Move { role: "relay_1".to_owned(), ..late.clone() }]), 0);
        assert_eq!(count([taken(), other, late]), 1);
    }

    #[test]
    fn a_lease_that_is_taken_before_it_is_over_is_found() {
        let early = Move {
            at: 2_000,
            role: "relay_1".to_owned(),
            epoch_before: 1,
            epoch: 2,
            owner_before: Some("a".to_owned()),
            owner: Some("b".to_owned()),
            lease_before: 3_100,
            ..taken()
        };
        assert_eq!(count([taken(), early]), 1);
    }

    #[test]
    fn an_epoch_that_goes_down_is_found() {
        assert_eq!(count([taken(), Move { epoch: 0, ..moved() }]), 1);
    }
}
