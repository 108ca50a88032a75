//! The root: one aggregate as it was loaded, with what has happened to it since. Saved once, by value, so that what was saved is not saved again.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use super::{Sourced, SourcingError, load};
use crate::uow::shredding::plain;
use crate::uow::{Error, UnitOfWork};

/// A sourced aggregate inside a unit of work.
///
/// ```
/// # use outboxd::uow::sourcing::{Root, Sourced, SourcedEvent};
/// # use outboxd::uow::{Decision, DomainEvent, Error, Failure, UnitOfWork};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum AccountEvent { #[serde(rename = "points.earned")] Earned { points: i64 } }
/// # impl DomainEvent for AccountEvent { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
/// # impl SourcedEvent for AccountEvent { const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 1)]; }
/// # #[derive(Default)]
/// # struct Account { points: i64 }
/// # impl Sourced for Account {
/// #     const TYPE: &'static str = "account";
/// #     type Event = AccountEvent;
/// #     fn apply(&mut self, event: &AccountEvent) { let AccountEvent::Earned { points } = event; self.points += points; }
/// # }
/// async fn earn(customer: &str, points: i64, work: &mut UnitOfWork) -> Result<i64, Error> {
///     let mut account = Root::<Account>::load(customer, work).await?;
///     account.record(AccountEvent::Earned { points });
///     let total = account.state().points; // as it is with that event
///     account.save(work).await?;
///     Ok(total)
/// }
/// ```
///
/// A saved root is consumed. To go on, load it again:
///
/// ```compile_fail
/// # use outboxd::uow::sourcing::{Root, Sourced};
/// # use outboxd::uow::{Error, UnitOfWork};
/// # async fn twice<A: Sourced>(account: Root<A>, work: &mut UnitOfWork) -> Result<(), Error> {
/// account.save(work).await?;
/// account.save(work).await?; // error: it was moved
/// # Ok(()) }
/// ```
#[must_use = "events of a root exist only after it is saved"]
pub struct Root<A: Sourced> {
    pub(super) key: String,
    pub(super) state: A,
    /// Of the stream as it was loaded.
    pub(super) version: u64,
    pub(super) recorded: Vec<(Option<Uuid>, A::Event)>,
    /// Event types that are not known, and how many events have them.
    pub(super) skipped: BTreeMap<String, u64>,
    /// Why a kept state was not used.
    pub(super) ignored_state: Option<serde_json::Error>,
}

impl<A: Sourced> Root<A> {
    /// An aggregate to which nothing has happened. To save it is a conflict if its stream exists.
    pub fn new(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            state: A::default(),
            version: 0,
            recorded: Vec::new(),
            skipped: BTreeMap::new(),
            ignored_state: None,
        }
    }

    /// Reads the stream with this key and folds its events, in pages, so that a stream of any length takes the memory of a page. A stream
    /// that does not exist gives a new root. To save it is a conflict if others have appended in the meantime; the pipeline then runs
    /// the command again.
    pub async fn load(key: impl Into<String>, work: &mut UnitOfWork) -> Result<Self, Error> {
        load::load(key.into(), A::states().as_ref(), work).await
    }

    /// Locks the stream first: other writers wait for this unit of work instead of running into a conflict. For streams that many write to. A
    /// stream that does not exist cannot be locked. For several streams see [`lock`](super::lock()).
    pub async fn load_locked(key: impl Into<String>, work: &mut UnitOfWork) -> Result<Self, Error> {
        let key = key.into();
        super::lock(work, [super::StreamName::of::<A>(&key)]).await?;
        Self::load(key, work).await
    }

    /// Whether the state that is kept of a stream leads to the same as all of its events do. `true` if none is kept. Folds the whole stream;
    /// for a check after a change of `apply`.
    pub async fn verify_state(key: impl Into<String>, work: &mut UnitOfWork) -> Result<bool, Error> {
        let (key, Some(states)) = (key.into(), A::states()) else { return Ok(true) };
        let folded = load::load::<A>(key.clone(), None, work).await?;
        let kept = load::load(key, Some(&states), work).await?;
        let written = |root: &Self| {
            plain(|| (states.write)(&root.state)).map_err(|cause| SourcingError::State { stream: root.stream(), cause })
        };
        Ok(kept.version != folded.version || written(&folded)? == written(&kept)?)
    }

    /// The state, with what was recorded since.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// The key of the stream.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Version of the stream as it was loaded; 0: it does not exist.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// It has happened. The state changes at once; the event exists when the root is saved and the unit of work committed.
    pub fn record(&mut self, event: A::Event) {
        self.state.apply(&event);
        self.recorded.push((None, event));
    }

    /// [`record`](Self::record) with an id of the caller's. If events with these ids are in the stream already, as a command that was sent twice
    /// records them, a save changes nothing.
    pub fn record_as(&mut self, id: Uuid, event: A::Event) {
        self.state.apply(&event);
        self.recorded.push((Some(id), event));
    }

    /// Decides by the state and records what follows from it.
    pub fn decide<X, I>(&mut self, decide: impl FnOnce(&A) -> Result<I, X>) -> Result<(), X>
    where
        I: IntoIterator<Item = A::Event>,
    {
        let events = decide(&self.state)?;
        events.into_iter().for_each(|event| self.record(event));
        Ok(())
    }

    /// The events recorded since the load, in order.
    pub fn recorded(&self) -> impl Iterator<Item = &A::Event> {
        self.recorded.iter().map(|(_, event)| event)
    }

    /// Event types that were left out because the program does not know them, and how many events have each. Always empty with
    /// [`Unknown::Refuse`](super::Unknown::Refuse).
    pub fn skipped(&self) -> &BTreeMap<String, u64> {
        &self.skipped
    }

    /// Why the state that was kept could not be read, so that all events were folded. The next save replaces that state.
    pub fn ignored_state(&self) -> Option<&serde_json::Error> {
        self.ignored_state.as_ref()
    }

    /// For display.
    pub(super) fn stream(&self) -> String {
        format!("{}/{}", A::TYPE, self.key)
    }
}

// Never the state: it may hold secrets.
impl<A: Sourced> fmt::Debug for Root<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("stream", &self.stream())
            .field("version", &self.version)
            .field("recorded", &self.recorded.len())
            .finish_non_exhaustive()
    }
}
