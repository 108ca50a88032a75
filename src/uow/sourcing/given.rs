//! Tests of sourced aggregates without a database: decisions, the form of events, and folds that changed without a new number.
//! Public in `uow::testing`.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::codec::Row;
use super::{Codec, Sourced, SourcedEvent, States};
use crate::uow::Failure;
use crate::uow::shredding::{self, Keyring, Place};

/// Given what has happened, when something is decided, then these events follow.
///
/// ```
/// use outboxd::uow::testing::GivenEvents;
/// # use outboxd::uow::sourcing::{Sourced, SourcedEvent};
/// # use outboxd::uow::{Decision, DomainEvent, Failure};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum AccountEvent { #[serde(rename = "points.earned")] Earned { points: i64 }, #[serde(rename = "points.spent")] Spent { points: i64 } }
/// # impl DomainEvent for AccountEvent { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
/// # impl SourcedEvent for AccountEvent { const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 1), ("points.spent", 1)]; }
/// # #[derive(Default)]
/// # struct Account { points: i64 }
/// # impl Sourced for Account {
/// #     const TYPE: &'static str = "account";
/// #     type Event = AccountEvent;
/// #     fn apply(&mut self, event: &AccountEvent) {
/// #         match event { AccountEvent::Earned { points } => self.points += points, AccountEvent::Spent { points } => self.points -= points }
/// #     }
/// # }
/// impl Account {
///     fn spend(&self, points: i64) -> Result<Vec<AccountEvent>, &'static str> {
///         if points > self.points { return Err("not enough points") }
///         Ok(vec![AccountEvent::Spent { points }])
///     }
/// }
///
/// GivenEvents::<Account>::new([AccountEvent::Earned { points: 5 }])
///     .when(|account| account.spend(3))
///     .then(&[AccountEvent::Spent { points: 3 }])
///     .then_state(|account| account.points == 2);
///
/// GivenEvents::<Account>::new([AccountEvent::Earned { points: 5 }])
///     .when(|account| account.spend(6))
///     .then_refused(&"not enough points");
/// ```
#[derive(Debug)]
pub struct GivenEvents<A: Sourced> {
    state: A,
}

/// The decided events; every `then` panics if they differ.
#[derive(Debug)]
pub struct WhenDecided<A: Sourced, X> {
    state: A,
    decided: Result<Vec<A::Event>, X>,
}

impl<A: Sourced> GivenEvents<A> {
    /// The events that have happened, in order; none: a new aggregate.
    pub fn new(events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut state = A::default();
        events.into_iter().for_each(|event| state.apply(&event));
        Self { state }
    }

    /// Decides something, as [`Root::decide`](super::Root::decide) does.
    pub fn when<X, I>(mut self, decide: impl FnOnce(&A) -> Result<I, X>) -> WhenDecided<A, X>
    where
        I: IntoIterator<Item = A::Event>,
    {
        let decided = decide(&self.state).map(|events| events.into_iter().collect::<Vec<_>>());
        decided.iter().flatten().for_each(|event| self.state.apply(event));
        WhenDecided { state: self.state, decided }
    }
}

impl<A: Sourced, X: Debug> WhenDecided<A, X> {
    /// Exactly these events, in this order.
    #[track_caller]
    pub fn then(self, events: &[A::Event]) -> Self
    where
        A::Event: PartialEq + Debug,
    {
        match &self.decided {
            Ok(decided) => assert_eq!(decided, events),
            Err(reason) => panic!("it was refused: {reason:?}"),
        }
        self
    }

    /// It was refused, for this reason.
    #[track_caller]
    pub fn then_refused(self, reason: &X) -> Self
    where
        X: PartialEq,
    {
        assert_eq!(self.decided.as_ref().err(), Some(reason));
        self
    }

    /// The state, with what was decided, is as this says.
    #[track_caller]
    pub fn then_state(self, claim: impl FnOnce(&A) -> bool) -> Self {
        assert!(claim(&self.state), "the state is not as the test says");
        self
    }
}

/// Every event type of [`SourcedEvent::TYPES`] is among the samples, and each sample is read as it was written. Finds a type that `TYPES` does not
/// name, a wrong `serde` attribute, and a field that is not written.
///
/// # Panics
///
/// If it is not so; the message names the type.
#[track_caller]
pub fn assert_round_trip<E: SourcedEvent + PartialEq + Debug>(samples: impl IntoIterator<Item = E>) {
    let codec = Codec::of::<E>().unwrap_or_else(|error| panic!("{error}"));
    let mut left: BTreeSet<&str> = codec.types().collect();
    for sample in samples {
        let mut written = codec.write("sample", &sample).unwrap_or_else(|error| panic!("{sample:?}: {error:?}"));
        let keyring = Keyring::for_a_test(&written.shredded);
        shredding::seal_event(&mut written, &keyring).unwrap_or_else(|error| panic!("{sample:?}: {error:?}"));
        let (payload, recorded) = (written.payload.to_string(), written.headers["version"].to_string());
        let row = Row {
            stream: "sample",
            version: 1,
            id: written.id,
            event_type: &written.event_type,
            recorded: Some(&recorded),
            payload: &payload,
        };
        let read = codec.read::<E>(&row, &keyring).unwrap_or_else(|error| panic!("{sample:?}: {error:?}"));
        assert_eq!(read.as_ref(), Some(&sample), "\"{}\" is not read as it was written: {payload}", written.event_type);
        left.remove(written.event_type.as_str());
    }
    assert!(left.is_empty(), "there is no sample of {left:?}");
}

/// The fold of these samples, in this shape, has this fingerprint: 16 hexadecimal digits, which the failing test prints. The states after each sample go
/// into it, so a changed `apply`, a changed field and a changed number are found.
///
/// A test that fails here asks for a decision: if kept states are wrong or cannot be read after the change, raise the shape; then write the new
/// fingerprint into the test.
///
/// ```should_panic
/// # use outboxd::uow::sourcing::{Sourced, SourcedEvent, States};
/// # use outboxd::uow::testing::assert_shape;
/// # use outboxd::uow::{Decision, DomainEvent, Failure};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum AccountEvent { #[serde(rename = "points.earned")] Earned { points: i64 } }
/// # impl DomainEvent for AccountEvent { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
/// # impl SourcedEvent for AccountEvent { const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 1)]; }
/// #[derive(Default, Serialize, Deserialize)]
/// struct Account { points: i64 }
/// impl Sourced for Account {
///     const TYPE: &'static str = "account";
///     type Event = AccountEvent;
///     fn apply(&mut self, event: &AccountEvent) {
///         let AccountEvent::Earned { points } = event;
///         self.points += 2 * points; // it was once: self.points += points
///     }
///     fn states() -> Option<States<Self>> { Some(States::new(1, 100)) }
/// }
/// assert_shape::<Account>([AccountEvent::Earned { points: 5 }], "051a55bb1c44120b"); // panics: raise the shape
/// ```
///
/// # Panics
///
/// If the fingerprint is another, or the aggregate keeps no states.
#[track_caller]
pub fn assert_shape<A: Sourced>(samples: impl IntoIterator<Item = A::Event>, fingerprint: &str) {
    let states = A::states().unwrap_or_else(|| panic!("{} keeps no states", std::any::type_name::<A>()));
    let write = |state: &A| {
        shredding::plain(|| (states.write)(state)).unwrap_or_else(|error| panic!("the state cannot be written: {error}"))
    };
    let mut state = A::default();
    let mut folded = format!("{}\n{}", states.shape, write(&state));
    for sample in samples {
        state.apply(&sample);
        let text = write(&state);
        let read = kept_and_read(&states, &state)
            .unwrap_or_else(|error| panic!("a state cannot be read as it was written: {error}: {text}"));
        assert_eq!(write(&read), text, "a state is not read as it was written");
        folded = format!("{folded}\n{text}");
    }
    let found = format!("{:016x}", hash(&folded));
    assert!(
        found == fingerprint,
        "the fold of the samples has the fingerprint {found}, not {fingerprint}: if kept states do not fit any more, raise the shape from {}; \
         then write the new fingerprint into the test",
        states.shape
    );
}

/// The state as it is after it was kept and read, its shredded values with keys of their own.
fn kept_and_read<A: Sourced>(states: &States<A>, state: &A) -> Result<A, Failure> {
    let (text, values) = shredding::collect(|| (states.write)(state));
    let (keyring, place) = (Keyring::for_a_test(&values), Place::state(A::TYPE, "sample", states.shape, 1));
    let text = shredding::seal_text(text?, &values, &place, &keyring)?;
    Ok(shredding::read(shredding::open(&text, &place, &keyring), || (states.read)(&text))??)
}

/// FNV-1a: the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
