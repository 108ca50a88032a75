//! Cursors: where a client stands in the feed, and whether that place still belongs to this history. Pure: the known places are
//! an argument. A cursor is no secret and gives no right; it only says where to go on.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::Timestamp;

/// A place, and what binds it to the history that it was given in. As text 33 characters, `<place>.<epoch><check>` in hexadecimal digits:
/// safe in a URL, and in the order of the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    place: i64,
    epoch: u32,
    check: u32,
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a cursor of the feed, \"earliest\", \"latest\", the id of an event, or a time such as 2026-03-01T06:00:00Z")]
pub struct InvalidStart;

/// Where a client asks to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Before the oldest event that is kept without a gap behind it.
    Earliest,
    /// Behind the last event.
    Latest,
    At(Cursor),
    /// Behind a cursor that this feed has not given, or gives no more.
    Foreign,
    /// Behind this event.
    Event(Uuid),
    /// At or a little before the first event that was committed after this time.
    Time(Timestamp),
}

/// A history of places: until the next one began, every place above `began_after` was given in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochOfPlaces {
    pub id: Uuid,
    pub began_after: i64,
}

/// The places that retention has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// The highest place that is gone; 0: none is.
    pub place: i64,
    /// The event that had it, if that is known.
    pub event: Option<Uuid>,
    pub occurred_at: Option<Timestamp>,
}

/// The state of the feed at one moment, and of one place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// In the order in which they began.
    pub epochs: Vec<EpochOfPlaces>,
    /// The last place that was given.
    pub head: i64,
    pub removed: Removed,
    /// The event at the place in question; `None`: there is none, or none any more.
    pub event: Option<Uuid>,
}

/// Why a client cannot go on where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The cursor belongs to places that a server has given and lost. Both histories are the same up to `branch`, which is a place of this
    /// one; `lost` places behind it, up to that of the cursor, exist no more.
    Diverged { branch: i64, lost: i64 },
    /// The cursor is of another feed, or was made up.
    AnotherHistory,
    /// Events between the cursor and `earliest` were removed by retention; `until` is when the last of them happened.
    Expired { earliest: i64, until: Option<Timestamp> },
}

/// The place of a cursor, if everything behind it can still be read.
pub fn judge(cursor: Cursor, ground: &Ground) -> Result<i64, Refusal> {
    let Ground { epochs, head, removed, event } = ground;
    let place = cursor.place;
    let Some(number) = epochs.iter().position(|epoch| tag(epoch.id) == cursor.epoch) else { return Err(Refusal::AnotherHistory) };
    let ends = epochs.get(number + 1).map_or(*head, |next| next.began_after.min(*head));
    if place > ends {
        let branch = ends.max(removed.place);
        return Err(Refusal::Diverged { branch, lost: place - ends });
    }
    if epochs.get(epoch_of(epochs, place)) != epochs.get(number) {
        return Err(Refusal::AnotherHistory); // no server has given this place in that epoch
    }
    // Of an event that is gone, nothing but the epoch can be compared.
    let known = if place == 0 { Some(Uuid::nil()) } else { event.or(removed.event.filter(|_| place == removed.place)) };
    if known.is_some_and(|event| check(epochs[number].id, place, event) != cursor.check) {
        return Err(Refusal::AnotherHistory);
    }
    if place < removed.place {
        return Err(Refusal::Expired { earliest: removed.place, until: removed.occurred_at });
    }
    Ok(place)
}

impl Ground {
    /// The cursor of the place that this ground is about, if that is `place`: its event is part of the cursor.
    pub fn cursor(&self, place: i64) -> Cursor {
        let event = self.event.or(self.removed.event.filter(|_| place == self.removed.place));
        cursor_of(&self.epochs, place, event.filter(|_| place > 0))
    }

    /// The cursor of an event that was read together with this ground.
    pub fn cursor_of(&self, place: i64, event: Uuid) -> Cursor {
        cursor_of(&self.epochs, place, Some(event))
    }
}

impl Cursor {
    pub const fn place(self) -> i64 {
        self.place
    }

    /// All of it.
    pub fn to_bytes(self) -> [u8; 16] {
        let Self { place, epoch, check } = self;
        (u128::from(place.unsigned_abs()) << 64 | u128::from(epoch) << 32 | u128::from(check)).to_be_bytes()
    }

    /// `None`: no cursor has these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let number = |from: usize| u32::from_be_bytes(bytes[from..from + 4].try_into().expect("four of sixteen bytes"));
        let place = i64::from_be_bytes(bytes[..8].try_into().expect("eight of sixteen bytes"));
        (place >= 0).then(|| Self { place, epoch: number(8), check: number(12) })
    }
}

fn cursor_of(epochs: &[EpochOfPlaces], place: i64, event: Option<Uuid>) -> Cursor {
    // Before the first place was given there is no epoch: the cursor of nothing then belongs to none, and is another history later.
    let epoch = epochs.get(epoch_of(epochs, place)).map_or(Uuid::nil(), |epoch| epoch.id);
    Cursor { place, epoch: tag(epoch), check: check(epoch, place, event.unwrap_or_default()) }
}

/// The number of the epoch in which a place was given; that of the first for the beginning of the feed.
fn epoch_of(epochs: &[EpochOfPlaces], place: i64) -> usize {
    epochs.iter().rposition(|epoch| epoch.began_after < place).unwrap_or(0)
}

/// The text that stands for an epoch in a cursor. Epochs are random, so two of one feed do not look alike.
fn tag(epoch: Uuid) -> u32 {
    u32::from_be_bytes(epoch.as_bytes()[..4].try_into().expect("a UUID has sixteen bytes"))
}

fn check(epoch: Uuid, place: i64, event: Uuid) -> u32 {
    let digest = Sha256::new().chain_update(epoch).chain_update(place.to_be_bytes()).chain_update(event).finalize();
    u32::from_be_bytes(digest[..4].try_into().expect("a digest has 32 bytes"))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{:08x}{:08x}", self.place, self.epoch, self.check)
    }
}

impl FromStr for Cursor {
    type Err = InvalidStart;

    fn from_str(text: &str) -> Result<Self, InvalidStart> {
        let is_hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let (place, rest) = text.split_once('.').ok_or(InvalidStart)?;
        if place.len() != 16 || rest.len() != 16 || !is_hexadecimal(place) || !is_hexadecimal(rest) {
            return Err(InvalidStart);
        }
        let place = i64::from_str_radix(place, 16).map_err(|_| InvalidStart)?;
        let number = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| InvalidStart);
        Ok(Self { place, epoch: number(&rest[..8])?, check: number(&rest[8..])? })
    }
}

impl FromStr for Start {
    type Err = InvalidStart;

    fn from_str(text: &str) -> Result<Self, InvalidStart> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(cursor) = text.parse() {
            return Ok(Self::At(cursor));
        }
        // In the form with hyphens only: thirty-two digits without them could be a mistyped cursor.
        if text.len() == 36
            && let Ok(id) = text.parse()
        {
            return Ok(Self::Event(id));
        }
        text.parse().map(Self::Time).map_err(|_| InvalidStart)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Uuid = Uuid::from_u128(0x1111_2222_0000_4000_8000_0000_0000_0001);
    const SECOND: Uuid = Uuid::from_u128(0x3333_4444_0000_4000_8000_0000_0000_0002);

    fn event(place: i64) -> Uuid {
        Uuid::from_u128(0xabcd_0000 + place as u128)
    }

    /// A feed of 100 places, of which those up to 10 are gone, as it is seen at one place.
    fn ground(place: i64, epochs: &[(Uuid, i64)]) -> Ground {
        Ground {
            epochs: epochs.iter().map(|(id, began_after)| EpochOfPlaces { id: *id, began_after: *began_after }).collect(),
            head: 100,
            removed: Removed { place: 10, event: Some(event(10)), occurred_at: Some(Timestamp::from_micros(7)) },
            event: (11..=100).contains(&place).then(|| event(place)),
        }
    }

    fn cursor(place: i64, epochs: &[(Uuid, i64)]) -> Cursor {
        let ground = Ground { event: (place > 0).then(|| event(place)), removed: Removed::default(), ..ground(place, epochs) };
        ground.cursor(place)
    }

    const ONE: &[(Uuid, i64)] = &[(FIRST, 0)];
    const TWO: &[(Uuid, i64)] = &[(FIRST, 0), (SECOND, 50)];

    #[test]
    fn a_cursor_goes_on_only_in_the_history_that_it_was_given_in() {
        let expired = Err(Refusal::Expired { earliest: 10, until: Some(Timestamp::from_micros(7)) });
        let diverged = |branch, lost| Err(Refusal::Diverged { branch, lost });
        for (name, cursor, epochs, want) in [
            ("the last place", cursor(100, ONE), ONE, Ok(100)),
            ("behind what is gone", cursor(10, ONE), ONE, Ok(10)),
            ("before what is gone", cursor(9, ONE), ONE, expired),
            ("the beginning, of which something is gone", cursor(0, ONE), ONE, expired),
            ("a place that was never given", cursor(101, ONE), ONE, diverged(100, 1)),
            ("after a failover that lost nothing", cursor(50, ONE), TWO, Ok(50)),
            ("a place of the new epoch", cursor(51, TWO), TWO, Ok(51)),
            ("a place that was lost in the failover", cursor(51, ONE), TWO, diverged(50, 1)),
            ("a place that was lost and never given again", cursor(300, ONE), TWO, diverged(50, 250)),
            ("an epoch of another feed", cursor(60, &[(SECOND, 0)]), ONE, Err(Refusal::AnotherHistory)),
            ("a place before its epoch", cursor(20, &[(SECOND, 0)]), TWO, Err(Refusal::AnotherHistory)),
            ("another event has its place", Cursor { check: 7, ..cursor(60, ONE) }, ONE, Err(Refusal::AnotherHistory)),
            ("another event had its place", Cursor { check: 7, ..cursor(10, ONE) }, ONE, Err(Refusal::AnotherHistory)),
            ("a made-up beginning", Cursor { check: 7, ..cursor(0, ONE) }, ONE, Err(Refusal::AnotherHistory)),
        ] {
            assert_eq!(judge(cursor, &ground(cursor.place(), epochs)), want, "{name}");
        }
    }

    #[test]
    fn the_branch_point_is_never_below_what_is_gone() {
        let epochs = &[(FIRST, 0), (SECOND, 5)];
        assert_eq!(judge(cursor(8, ONE), &ground(8, epochs)), Err(Refusal::Diverged { branch: 10, lost: 3 }));
    }

    #[test]
    fn an_event_that_was_erased_leaves_its_cursor_valid() {
        let hole = Ground { event: None, ..ground(60, ONE) };
        assert_eq!(judge(cursor(60, ONE), &hole), Ok(60));
        assert_eq!(judge(hole.cursor(60), &hole), Ok(60));
    }

    #[test]
    fn every_cursor_that_is_given_is_taken_back() {
        for place in 10..=100 {
            for epochs in [ONE, TWO] {
                let ground = ground(place, epochs);
                assert_eq!(judge(ground.cursor(place), &ground), Ok(place), "{place}");
            }
        }
    }

    #[test]
    fn a_start_is_a_word_a_cursor_an_id_or_a_time_and_nothing_else() {
        let at = cursor(100, ONE);
        for (text, want) in [
            ("earliest".to_owned(), Start::Earliest),
            ("latest".to_owned(), Start::Latest),
            (at.to_string(), Start::At(at)),
            (FIRST.to_string(), Start::Event(FIRST)),
            ("1970-01-01T00:00:01Z".to_owned(), Start::Time(Timestamp::from_micros(1_000_000))),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        let (upper, cut, longer) = (at.to_string().to_uppercase(), at.to_string()[..32].to_owned(), format!("{at}0"));
        let negative = "ffffffffffffffff.0000000000000000".to_owned();
        for text in [upper, cut, longer, negative, FIRST.simple().to_string(), String::new(), "+1".to_owned(), "é.".to_owned()] {
            assert_eq!(text.parse::<Start>(), Err(InvalidStart), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text_and_sorts_by_its_place(one in 0..i64::MAX, other in 0..i64::MAX) {
            let of = |place| Ground { event: Some(event(1)), ..ground(place, ONE) }.cursor(place);
            let (one, other) = (of(one), of(other));
            prop_assert_eq!(one.to_string().parse::<Cursor>(), Ok(one));
            prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.place().cmp(&other.place()));
            prop_assert!(one.to_string().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'));
        }

        #[test]
        fn no_text_makes_the_reading_of_a_start_fail_otherwise_than_as_a_mistake(text in ".{0,40}") {
            let _ = text.parse::<Start>();
        }
    }
}
