//! Before the loops: is this the server that the positions belong to, and which subscriptions does this relay serve? Moves no
//! position; a subscription that exists stays where it is.
//!
//! A running relay follows a new timeline, a starting relay refuses it. The running one was there before the failover and has a
//! stored position on the new primary. The starting one cannot distinguish a failover from a clone; `--follow-new-timeline` or
//! `outboxd rebase` decides it. A standby, another cluster, another database and a copy are always refused.
//!
//! An old primary that comes back is refused by a relay that met the newer timeline. A relay that *starts* there cannot know of
//! the newer one: the operator must fence the old primary.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgPool;
use tracing::{error, info, warn};

use crate::config::{HandlerConfig, Start};
use crate::domain::Standing;
use crate::failpoints::failpoint;
use crate::handlers::{Built, ProjectionSpec};
use crate::relay::{HandlerShared, RelayError, Shared};
use crate::store::blind_spots::find_blind_spots;
use crate::store::projections::{self, NewVersion};
use crate::store::subscriptions::{Candidate, Registration, Wanted};
use crate::store::{self, Selection, subscriptions};

/// Refuses a server whose transaction numbers mean something else than the stored positions say.
pub(super) async fn check_server(shared: &Shared, follow_new_timeline: bool) -> Result<(), RelayError> {
    match store::read_identity(&shared.connections.keeper).await?.standing() {
        Standing::Ours => return Ok(()),
        Standing::Fresh => {}
        Standing::NewTimeline { stored, found } if follow_new_timeline => {
            warn!(from = stored.timeline, to = found.timeline, "following a new timeline");
        }
        Standing::NewTimeline { stored, found } => return Err(RelayError::NewTimeline { stored, found }),
        Standing::Standby => return Err(RelayError::Standby),
        Standing::OtherCluster { stored, found } => return Err(RelayError::ForeignCluster { stored, found }),
        Standing::Copied { stored, found } => return Err(RelayError::Copied { stored, found }),
        Standing::Renumbered { next, known } => return Err(RelayError::Renumbered { next, known }),
        Standing::NumberedAgain { last, known } => return Err(RelayError::NumberedAgain { last, known }),
    }
    Ok(store::store_incarnation(&shared.connections.keeper).await?)
}

/// Tells what can hide committed events from this relay. It goes on: what it does see is owed all the same.
pub(super) async fn report_blind_spots(shared: &Shared) -> Result<(), RelayError> {
    let found = find_blind_spots(&shared.connections.keeper, shared.session.schema()).await?;
    let severe: Vec<String> = found.iter().filter(|spot| spot.is_severe()).map(ToString::to_string).collect();
    if shared.health.blinded(severe.clone()) {
        severe.iter().for_each(|spot| error!("events may be passed over: {spot}"));
    }
    Ok(())
}

/// Which loop a subscription belongs to.
pub(super) type Places = HashMap<i32, (Arc<HandlerShared>, u16)>;

/// A subscription as this relay knows it.
pub(super) fn candidate(id: i32, config: &HandlerConfig) -> Candidate {
    Candidate { id, handler: config.name.clone(), partitions: config.partitions }
}

/// Makes sure that every handler has its subscriptions, and finds them.
pub(super) async fn register(pool: &PgPool, handlers: &[Arc<HandlerShared>]) -> Result<Places, RelayError> {
    // All new ones in one transaction under one lock: a relay that starts beside us, or after we died half-way, would take the
    // outbox for an old one, and the handlers that are still missing would begin now instead of at the beginning.
    let mut transaction = store::begin(pool).await?;
    subscriptions::lock_registration(&mut transaction).await?;
    let known = subscriptions::list(&mut *transaction).await?;
    check_registration(handlers.iter().map(|handler| &handler.config), &known)?;
    check_versions(&mut transaction, handlers).await?;
    let is_known = |r: &Registration<'_>| known.iter().any(|s| s.handler == r.handler && s.partition == r.partition);
    let (old, new): (Vec<_>, Vec<_>) = registrations(handlers, known.is_empty()).partition(is_known);
    for registration in &new {
        subscriptions::register(&mut transaction, registration).await?;
        if registration.partition == 0 {
            let from = if registration.from_beginning { "the beginning" } else { "now" };
            info!(handler = registration.handler, from, "new handler");
        }
    }
    for version in versions(handlers) {
        projections::register(&mut transaction, &version).await?;
    }
    failpoint!("handlers-registered", !new.is_empty());
    store::commit(transaction).await?;
    // Those that exist one by one: their owners write to them.
    for registration in &old {
        let mut transaction = store::begin(pool).await?;
        subscriptions::register(&mut transaction, registration).await?;
        store::commit(transaction).await?;
    }
    let mut places = Places::new();
    for subscription in subscriptions::list(pool).await? {
        match handlers.iter().find(|handler| handler.config.name == subscription.handler) {
            Some(handler) => drop(places.insert(subscription.id, (Arc::clone(handler), subscription.partition))),
            None if subscription.kind == projections::KIND => warn!(
                handler = subscription.handler,
                "this version of a projection is in the database and not in the configuration: it stands still, and retention keeps its \
                 events; if it is gone for good, run \"outboxd projections drop\""
            ),
            None => warn!(
                handler = subscription.handler,
                "this handler is in the database and not in the configuration: nothing of it is delivered, and retention keeps its \
                 events; if it has another name now, run \"outboxd handlers rename {0} NEW\", and if it is gone for good, \
                 \"outboxd handlers forget {0}\"",
                subscription.handler
            ),
        }
    }
    Ok(places)
}

/// The versions of projections among the handlers, the lowest first: of those that are new together it is the live one.
fn versions(handlers: &[Arc<HandlerShared>]) -> Vec<NewVersion<'_>> {
    let mut found: Vec<NewVersion<'_>> = handlers.iter().filter_map(|handler| version_of(handler)).collect();
    found.sort_by_key(|new| new.version);
    found
}

fn version_of(handler: &HandlerShared) -> Option<NewVersion<'_>> {
    let Built::Projection(spec) = &handler.built else { return None };
    let ProjectionSpec { name, version, target, view, .. } = spec.as_ref();
    let (target, view) = (target.as_deref(), view.as_deref());
    Some(NewVersion { name, version: *version, handler: &handler.config.name, target, view })
}

/// Refuses a version that was dropped: it would fill its old table a second time.
async fn check_versions(connection: &mut sqlx::PgConnection, handlers: &[Arc<HandlerShared>]) -> Result<(), RelayError> {
    let wanted = versions(handlers);
    if wanted.is_empty() {
        return Ok(());
    }
    let known = projections::list(connection).await?;
    let is_dropped = |new: &NewVersion<'_>| {
        known.iter().any(|known| known.name == new.name && known.version == new.version && known.dropped_at.is_some())
    };
    match wanted.iter().find(|new| is_dropped(new)) {
        Some(new) => Err(RelayError::DroppedVersion { name: new.name.to_owned(), version: new.version }),
        None => Ok(()),
    }
}

/// Refuses what would lose events: another number of partitions than the database has, or partitions by another key.
pub fn check_registration<'a>(
    handlers: impl Iterator<Item = &'a HandlerConfig>,
    known: &[subscriptions::Subscription],
) -> Result<(), RelayError> {
    for config in handlers {
        let Some(stored) = known.iter().find(|known| known.handler == config.name) else { continue };
        let (handler, partitions) = (config.name.clone(), config.partitions);
        if stored.partitions != partitions {
            return Err(RelayError::Partitions { handler, stored: stored.partitions, configured: partitions });
        }
        let wants = Wanted::of(&Selection::new(&config.filter, &config.ordering, partitions, 0));
        if partitions > 1 && !wants.orders_as(&stored.wants) {
            let (stored, configured) = (stored.wants.describe_key(), wants.describe_key());
            return Err(RelayError::OrderingKey { handler, partitions, stored, configured });
        }
    }
    Ok(())
}

fn registrations(handlers: &[Arc<HandlerShared>], is_first_run: bool) -> impl Iterator<Item = Registration<'_>> {
    handlers.iter().flat_map(move |handler| {
        let config = &handler.config;
        let registration = move |(partition, selection)| Registration {
            handler: &config.name,
            kind: &config.kind,
            partition: u16::try_from(partition).unwrap_or(u16::MAX),
            partitions: config.partitions,
            selection,
            from_beginning: config.start == Start::Beginning || (config.start == Start::Auto && is_first_run),
        };
        handler.selections.iter().map(AsRef::as_ref).enumerate().map(registration)
    })
}
