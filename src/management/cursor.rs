//! Where a page of a list ends, as clients carry it: opaque, and bound to the route and the filter for which it was given.
//! Holds nothing secret and is no proof of anything: the check finds what was damaged or belongs to another list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Bytes of the check.
const CHECK: usize = 8;

/// The list and filter that a cursor belongs to.
#[derive(Debug, Clone)]
pub struct Binding(Vec<u8>);

impl Binding {
    /// A route, and the filter in any order.
    pub fn of(route: &str, filter: &[(String, String)]) -> Self {
        let mut parts: Vec<(&str, &str)> = filter
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !matches!(*name, "cursor" | "limit"))
            .collect();
        parts.sort_unstable();
        let mut bytes = Vec::new();
        for text in [route].into_iter().chain(parts.into_iter().flat_map(|(name, value)| [name, value])) {
            // With its length in front, so that two lists of texts never look the same.
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        Self(bytes)
    }

    /// The cursor of a place.
    pub fn cursor(&self, place: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.check(place)[..], place].concat())
    }

    /// The place of a cursor. `None`: it is damaged, or was given for another list.
    pub fn place(&self, cursor: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (check, place) = bytes.split_at_checked(CHECK)?;
        (check == self.check(place)).then(|| place.to_vec())
    }

    fn check(&self, place: &[u8]) -> [u8; CHECK] {
        let digest = Sha256::new().chain_update(&self.0).chain_update(place).finalize();
        std::array::from_fn(|at| digest[at])
    }
}

/// Whole numbers as a place.
pub fn pack(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// So many whole numbers from a place.
pub fn unpack<const N: usize>(place: &[u8]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    if place.len() != N * 8 {
        return None;
    }
    for (number, bytes) in numbers.iter_mut().zip(place.chunks_exact(8)) {
        *number = i64::from_be_bytes(bytes.try_into().ok()?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(route: &str, filter: &[(&str, &str)]) -> Binding {
        let filter: Vec<_> = filter.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Binding::of(route, &filter)
    }

    #[test]
    fn a_cursor_is_good_for_the_list_that_gave_it_only() {
        let own = binding("letters", &[("handler", "billing"), ("limit", "10")]);
        let cursor = own.cursor(&pack(&[7, -1, i64::MAX]));
        assert_eq!(own.place(&cursor).as_deref().and_then(unpack::<3>), Some([7, -1, i64::MAX]));
        let same = binding("letters", &[("limit", "5"), ("cursor", "x"), ("handler", "billing")]);
        assert!(same.place(&cursor).is_some(), "neither limit nor order belongs to the filter");
        for other in
            [binding("letters", &[("handler", "mail")]), binding("replays", &[("handler", "billing")]), binding("letters", &[])]
        {
            assert_eq!(other.place(&cursor), None);
        }
        assert_ne!(binding("a", &[("bc", "d")]).cursor(&[]), binding("a", &[("b", "cd")]).cursor(&[]));
    }

    #[test]
    fn a_damaged_cursor_is_noticed_whatever_changed() {
        let own = binding("letters", &[]);
        let cursor = own.cursor(&pack(&[1, 2, 3]));
        for at in 0..cursor.len() {
            let mut damaged = cursor.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("letters");
            assert!(damaged == cursor || own.place(&damaged).is_none(), "{damaged}");
        }
        for text in ["", "A", "====", "ä", &"A".repeat(10_000)] {
            assert_eq!(own.place(text), None);
        }
    }
}
