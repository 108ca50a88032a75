//! Shares: which partition of a handler has an event. Gives the same answer as the SQL function `partition_of`, for the tail,
//! which has the event in memory.
//!
//! The key of an event is hashed once for all partitions. The hash depends on the server's processor: at each beginning the tail
//! compares the hashes of some texts with those of the server (`store::splits`). Where they differ, partitions do not follow the
//! tail and read for themselves.

use std::fmt::Write;

use super::Notification;

/// One partition of a handler whose keys are those of aggregates, or which has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    partitions: u16,
    partition: u16,
    has_keys: bool,
}

/// Hashes of one event, each made once for all shares that ask.
#[derive(Debug, Default)]
pub struct Hashes {
    of_key: Option<u64>,
    of_seq: Option<u64>,
}

impl Share {
    /// Of a handler without partitions.
    pub const WHOLE: Self = Self { partitions: 1, partition: 0, has_keys: true };

    /// `has_keys`: events are split by the key of their aggregate, else by their number.
    pub const fn of(partitions: u16, partition: u16, has_keys: bool) -> Self {
        Self { partitions, partition, has_keys }
    }

    pub const fn is_whole(self) -> bool {
        self.partitions <= 1
    }

    /// Whether the event is in it. `hashes`: of this event.
    pub fn has(self, event: &Notification, hashes: &mut Hashes) -> bool {
        if self.is_whole() {
            return true;
        }
        let key = event.aggregate_id.as_deref().filter(|_| self.has_keys);
        let hash = match key {
            Some(id) => *hashes.of_key.get_or_insert_with(|| {
                let kind = event.aggregate_type.as_deref().unwrap_or_default();
                hash_text([kind, "/", id].concat().as_bytes())
            }),
            None => *hashes.of_seq.get_or_insert_with(|| {
                let mut text = String::with_capacity(20);
                write!(text, "{}", event.seq).expect("a text takes any text");
                hash_text(text.as_bytes())
            }),
        };
        (hash & (u64::MAX >> 1)) % u64::from(self.partitions) == u64::from(self.partition)
    }
}

/// The result of `hashtextextended(text, 0)` on a server whose processor is little-endian, as its bits. It is Bob Jenkins' lookup3, twelve bytes at a time.
pub fn hash_text(text: &[u8]) -> u64 {
    let start = 0x9e37_79b9_u32.wrapping_add(text.len() as u32).wrapping_add(3_923_095);
    let mut state = [start; 3];
    let mut blocks = text.chunks_exact(12);
    for block in &mut blocks {
        for (word, bytes) in state.iter_mut().zip(block.chunks_exact(4)) {
            *word = word.wrapping_add(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
        // Each step: one word loses another, takes its turned bits, and that one gains the third.
        for (step, turn) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
            let (changed, other, third) = (step % 3, (step + 2) % 3, (step + 1) % 3);
            state[changed] = state[changed].wrapping_sub(state[other]) ^ state[other].rotate_left(turn);
            state[other] = state[other].wrapping_add(state[third]);
        }
    }
    for (at, byte) in blocks.remainder().iter().enumerate() {
        // The lowest byte of the last word is that of the length.
        let shift = if at < 8 { at % 4 * 8 } else { (at - 7) * 8 };
        let word = &mut state[at / 4];
        *word = word.wrapping_add(u32::from(*byte) << shift);
    }
    for (changed, other, turn) in [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)] {
        state[changed] = (state[changed] ^ state[other]).wrapping_sub(state[other].rotate_left(turn));
    }
    u64::from(state[1]) << 32 | u64::from(state[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_in_one_partition_and_all_of_a_key_in_the_same() {
        for (partitions, has_keys) in [(2, true), (7, false), (200, true)] {
            for seq in 1..500 {
                let key = Some(format!("{}", seq % 31)).filter(|_| seq % 5 > 0);
                let event = Notification { seq, aggregate_id: key, ..Notification::sample("t", "{}") };
                let mut hashes = Hashes::default();
                let has = |partition: &u16| Share::of(partitions, *partition, has_keys).has(&event, &mut hashes);
                assert_eq!((0..partitions).filter(has).count(), 1);
                assert!(Share::WHOLE.has(&event, &mut Hashes::default()));
            }
        }
        let of = |seq| Notification { seq, ..Notification::sample("t", "{}") };
        let place = |event: &Notification| (0..64).find(|at| Share::of(64, *at, true).has(event, &mut Hashes::default()));
        assert_eq!(place(&of(1)), place(&of(2)), "order/42 both");
    }
}
