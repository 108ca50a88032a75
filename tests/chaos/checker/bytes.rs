//! Every attempt of an event carries the bytes that were committed.

use super::Violation;
use crate::history::History;

pub fn check(history: &History) -> Vec<Violation> {
    let receipts = history.receipts.iter().flatten();
    let altered = receipts.filter(|receipt| {
        receipt.event.and_then(|event| history.events.get(event as usize)).is_some_and(|event| event.body != receipt.body)
    });
    altered
        .map(|receipt| Violation {
            rule: "bytes",
            event: receipt.event,
            at: Some(receipt.at),
            what: format!("attempt {} carried other bytes than were committed", receipt.attempt),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{only_rule, well};

    #[test]
    fn other_bytes_than_were_committed_are_found() {
        let mut history = well();
        history.receipts[0][2].body ^= 1;
        assert_eq!(only_rule(&history, "bytes").len(), 1);
    }
}
