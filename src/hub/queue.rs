//! The queue of one client: records that wait, records that the client has not acknowledged, and the last record. Pure. The
//! session bounds it: it checks for room before it puts a record in.

use std::collections::VecDeque;

use axum::body::Bytes;

use super::protocol::sequence;

/// The records of one connection, in their order.
#[derive(Debug)]
pub struct Queue {
    /// Without a number: the answer to the handshake, acknowledgements, the first record after a resumption.
    aside: VecDeque<Bytes>,
    /// With a number: calls, items and answers.
    counted: VecDeque<Bytes>,
    /// The number of the first of them.
    first: u64,
    /// How many of them this transport has taken.
    taken: usize,
    /// The highest number that any transport has taken.
    highest: u64,
    acknowledged: u64,
    /// Of all of them.
    bytes: usize,
    /// From here on there is no room.
    most_bytes: usize,
    /// Whether a record stays until it is acknowledged.
    keeps: bool,
    /// The transport begins with the number of the first record.
    resumes: bool,
    last: Option<Bytes>,
    is_closed: bool,
    progress: u64,
}

/// The client has acknowledged what was not sent to it.
#[derive(Debug, PartialEq, Eq)]
pub struct NeverSent;

impl Queue {
    pub fn new(most_bytes: usize) -> Self {
        Self {
            aside: VecDeque::new(),
            counted: VecDeque::new(),
            first: 1,
            taken: 0,
            highest: 0,
            acknowledged: 0,
            bytes: 0,
            most_bytes,
            keeps: false,
            resumes: false,
            last: None,
            is_closed: false,
            progress: 0,
        }
    }

    /// From now on records stay until they are acknowledged, up to so many bytes.
    pub fn keep(&mut self, most_bytes: usize) {
        (self.keeps, self.most_bytes) = (true, most_bytes);
    }

    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// A single record may be larger than all the room.
    pub fn has_room(&self) -> bool {
        self.bytes < self.most_bytes
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rises whenever a client has taken or acknowledged something.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    pub fn push(&mut self, record: Bytes) {
        if !self.is_closed {
            self.bytes += record.len();
            self.counted.push_back(record);
        }
    }

    pub fn push_aside(&mut self, record: Bytes) {
        if !self.is_closed {
            self.bytes += record.len();
            self.aside.push_back(record);
        }
    }

    /// Nothing comes after `last`, and of what still waits nothing before it: the client comes back with its cursor.
    pub fn close(&mut self, last: Option<Bytes>) {
        if !self.is_closed {
            self.counted.clear();
            (self.taken, self.keeps, self.resumes) = (0, false, false);
            self.bytes = self.aside.iter().map(Bytes::len).sum();
            (self.last, self.is_closed) = (last, true);
        }
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether it is closed and everything was taken.
    pub fn is_done(&self) -> bool {
        self.is_closed && self.aside.is_empty() && self.last.is_none()
    }

    /// The records that the transport sends next, about so many bytes of whole records.
    pub fn take(&mut self, about_bytes: usize) -> Option<Bytes> {
        let mut records = Vec::new();
        if std::mem::take(&mut self.resumes) {
            records.push(sequence(self.first));
        }
        self.bytes -= self.aside.iter().map(Bytes::len).sum::<usize>();
        records.extend(self.aside.drain(..));
        let mut bytes: usize = records.iter().map(Bytes::len).sum();
        while self.taken < self.counted.len() && (records.is_empty() || bytes < about_bytes) {
            let record = self.counted[self.taken].clone();
            bytes += record.len();
            if self.keeps {
                self.taken += 1;
                self.highest = self.highest.max(self.first + self.taken as u64 - 1);
                self.drop_acknowledged();
            } else {
                self.drop_first();
            }
            records.push(record);
        }
        records.extend(self.last.take());
        if records.is_empty() {
            return None;
        }
        self.progress += 1;
        if records.len() == 1 { records.pop() } else { Some(Bytes::from(records.concat())) }
    }

    /// Forgets what has come at the client: everything up to this number.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), NeverSent> {
        if !self.keeps {
            return Ok(()); // closed meanwhile, or of a client that was not asked to
        }
        if number > self.highest {
            return Err(NeverSent);
        }
        self.acknowledged = self.acknowledged.max(number);
        self.progress += 1;
        self.drop_acknowledged();
        Ok(())
    }

    /// Another transport takes over. It begins with the number of the first record that is not acknowledged: the client stops if
    /// that is higher than the one it expects.
    pub fn resume(&mut self) {
        (self.resumes, self.taken) = (true, 0);
    }

    /// A record that this transport has not taken is sent once more even if it was acknowledged on another one: the client counts what comes.
    fn drop_acknowledged(&mut self) {
        while self.taken > 0 && self.first <= self.acknowledged {
            self.drop_first();
            self.taken -= 1;
        }
    }

    fn drop_first(&mut self) {
        if let Some(record) = self.counted.pop_front() {
            self.bytes -= record.len();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(taken: Option<Bytes>) -> String {
        taken.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text")).unwrap_or_default()
    }

    fn queue(records: &[&'static str]) -> Queue {
        let mut queue = Queue::new(10);
        records.iter().for_each(|record| queue.push(Bytes::from_static(record.as_bytes())));
        queue
    }

    #[test]
    fn there_is_room_until_enough_waits_and_again_when_it_was_taken() {
        let mut queue = queue(&["aaaa", "bbbb"]);
        assert!(queue.has_room());
        queue.push(Bytes::from_static(b"cccccccc"));
        assert!(!queue.has_room());
        assert_eq!(text(queue.take(6)), "aaaabbbb");
        assert!(queue.has_room());
        assert_eq!((text(queue.take(1)), text(queue.take(1))), ("cccccccc".to_owned(), String::new()));
    }

    #[test]
    fn a_record_stays_until_it_is_acknowledged_and_comes_again_after_a_resumption() {
        let mut queue = queue(&[]);
        queue.keep(10);
        for record in ["a", "b", "c", "d"] {
            queue.push(Bytes::from_static(record.as_bytes()));
        }
        assert_eq!(text(queue.take(3)), "abc");
        assert_eq!(queue.acknowledge(4), Err(NeverSent));
        assert_eq!(queue.acknowledge(1), Ok(()));
        queue.push_aside(Bytes::from_static(b"!"));
        queue.resume();
        assert_eq!(text(queue.take(99)), "{\"sequenceId\":2,\"type\":9}\u{1e}!bcd");
        assert_eq!(queue.acknowledge(0), Ok(()));
        assert_eq!(queue.acknowledge(4), Ok(()));
        assert_eq!(queue.acknowledge(5), Err(NeverSent));
        assert!(queue.has_room() && queue.take(9).is_none());
        queue.resume();
        assert_eq!(text(queue.take(99)), "{\"sequenceId\":5,\"type\":9}\u{1e}");
    }

    #[test]
    fn the_last_record_overtakes_what_waits_and_nothing_follows_it() {
        let mut queue = queue(&["a", "b"]);
        queue.push_aside(Bytes::from_static(b"!"));
        queue.close(Some(Bytes::from_static(b"bye")));
        queue.push(Bytes::from_static(b"c"));
        queue.close(Some(Bytes::from_static(b"again")));
        assert!(!queue.is_done());
        assert_eq!(text(queue.take(99)), "!bye");
        assert!(queue.is_done() && queue.take(99).is_none());
    }

    proptest! {
        /// Steps: push, take, acknowledge some of what was taken, resume. The client keeps what its number says is new.
        #[test]
        fn whatever_breaks_a_client_gets_each_record_once_and_in_order(steps in prop::collection::vec((0u8..4, 1u64..6), 0..80)) {
            let (mut queue, mut pushed) = (Queue::new(usize::MAX), 0u64);
            queue.keep(usize::MAX);
            let (mut latest, mut next) = (0u64, 1u64);
            let take = |queue: &mut Queue, bytes: usize, latest: &mut u64, next: &mut u64| -> Result<(), TestCaseError> {
                for record in text(queue.take(bytes)).split_terminator('\u{1e}') {
                    match record.strip_prefix("{\"sequenceId\":") {
                        Some(rest) => {
                            let number = rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number");
                            prop_assert!(number <= *latest + 1, "the client would stop");
                            *next = number;
                        }
                        None => {
                            if *next > *latest {
                                prop_assert_eq!(record.parse::<u64>().ok(), Some(*latest + 1));
                                *latest = *next;
                            }
                            *next += 1;
                        }
                    }
                }
                Ok(())
            };
            for (step, size) in steps {
                match step {
                    0 => for _ in 0..size {
                        pushed += 1;
                        queue.push(Bytes::from(format!("{pushed}\u{1e}")));
                    },
                    1 => take(&mut queue, size as usize * 2, &mut latest, &mut next)?,
                    2 => prop_assert_eq!(queue.acknowledge(latest.saturating_sub(size)), Ok(())),
                    _ => queue.resume(),
                }
            }
            queue.resume();
            take(&mut queue, usize::MAX, &mut latest, &mut next)?;
            prop_assert_eq!(latest, pushed);
        }
    }
}
