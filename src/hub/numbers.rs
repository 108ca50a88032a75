//! The numbering of stateful reconnect: which messages of a client are new after it has come back. Pure.

use super::protocol::{Message, Unreadable};

/// The numbers of the messages of one client.
#[derive(Debug)]
pub struct Numbers {
    /// The transport that the client was last heard on; 0: none that another one overtakes.
    attachment: u64,
    /// Of the message that comes next.
    next: u64,
    /// The highest that was handled.
    latest: u64,
    /// The client came back and has not said yet from which number it goes on.
    is_waiting: bool,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { attachment: 0, next: 1, latest: 0, is_waiting: false }
    }
}

impl Numbers {
    /// The client was heard on a newer transport since: what the older one still had on its way will come again.
    pub fn is_of_old_transport(&self, attachment: u64) -> bool {
        attachment != 0 && attachment < self.attachment
    }

    /// Whether the client has come back by another transport, which begins anew with its records.
    pub fn enter_transport(&mut self, attachment: u64) -> bool {
        let has_changed = attachment > self.attachment;
        let is_back = has_changed && self.attachment != 0;
        if has_changed {
            self.attachment = attachment;
        }
        self.is_waiting |= is_back;
        is_back
    }

    /// Whether a message is to be handled. Counts it.
    pub fn takes(&mut self, message: &Message) -> bool {
        if self.is_waiting {
            return matches!(message, Message::Sequence { .. } | Message::Close);
        }
        if !message.is_counted() {
            return true;
        }
        let number = self.next;
        self.next += 1;
        let is_new = number > self.latest;
        self.latest = self.latest.max(number);
        is_new
    }

    /// The client goes on with this number. `Err`: there are messages between it and those that have come.
    pub fn begin_at(&mut self, number: u64) -> Result<(), Unreadable> {
        if number == 0 || number > self.latest + 1 {
            return Err(Unreadable::Invalid);
        }
        (self.next, self.is_waiting) = (number, false);
        Ok(())
    }

    /// The highest number that was handled.
    pub fn latest(&self) -> u64 {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn after_a_return_nothing_counts_until_the_client_says_where_it_goes_on() {
        let mut numbers = Numbers::default();
        assert!(!numbers.enter_transport(1));
        assert!(numbers.takes(&Message::Other) && numbers.takes(&Message::Ping) && numbers.takes(&Message::Other));
        assert_eq!(numbers.latest(), 2);
        assert!(numbers.enter_transport(2) && numbers.is_of_old_transport(1) && !numbers.is_of_old_transport(0));
        assert!(!numbers.takes(&Message::Other) && !numbers.takes(&Message::Ping));
        assert!(numbers.takes(&Message::Sequence { sequence: 2 }));
        assert_eq!((numbers.begin_at(4), numbers.begin_at(0)), (Err(Unreadable::Invalid), Err(Unreadable::Invalid)));
        assert_eq!(numbers.begin_at(2), Ok(()));
        assert!(!numbers.takes(&Message::Other), "it came before");
        assert!(numbers.takes(&Message::Other));
        assert_eq!(numbers.latest(), 3);
    }

    #[test]
    fn a_body_is_of_no_transport() {
        let mut numbers = Numbers::default();
        assert!(!numbers.enter_transport(0) && !numbers.enter_transport(0) && numbers.takes(&Message::Other));
    }

    proptest! {
        /// A client sends a few, is cut, and sends again from the first that was not acknowledged.
        #[test]
        fn each_message_of_a_client_is_handled_once(rounds in prop::collection::vec((0u64..6, 0u64..6, 0u64..6), 1..30)) {
            let (mut numbers, mut handled, mut acknowledged, mut sent) = (Numbers::default(), 0u64, 0u64, 0u64);
            numbers.enter_transport(1);
            for (round, (new, arrives, acks)) in rounds.into_iter().enumerate() {
                let first = acknowledged + 1;
                if round > 0 {
                    numbers.enter_transport(round as u64 + 1);
                    prop_assert_eq!(numbers.begin_at(first), Ok(()));
                }
                let begin = if round > 0 { first } else { sent + 1 };
                sent += new;
                // Of what is sent now, the first few arrive.
                for number in begin..=sent.min(begin + arrives) {
                    if numbers.takes(&Message::Other) {
                        prop_assert_eq!(number, handled + 1);
                        handled += 1;
                    }
                }
                acknowledged = (acknowledged + acks).min(numbers.latest());
            }
            prop_assert_eq!(handled, numbers.latest());
        }
    }
}
