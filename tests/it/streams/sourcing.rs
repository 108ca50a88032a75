//! `uow::sourcing` against a real server: loading, deciding, saving, conflicts, handlers, and what cannot be folded.

use std::sync::Arc;

use outboxd::NewEvent;
use outboxd::uow::sourcing::{Root, SourcingError, StreamName, lock};
use outboxd::uow::testing::{assert_round_trip, assert_shape};
use outboxd::uow::{Command, Context, DomainEvent, Error, Failure, Handle, Options, Pipeline, Registry, UnitOfWork};
use serde_json::json;
use uuid::Uuid;

use super::account::{Account, AccountEvent, Earn, Patient, earned};
use super::{appended, points};
use crate::support::TestDatabase;

async fn begin(database: &TestDatabase, registry: Registry) -> UnitOfWork {
    UnitOfWork::begin(database.pool(), &Arc::new(registry)).await.expect("a transaction begins")
}

async fn load(database: &TestDatabase, key: &str) -> Result<Root<Account>, Error> {
    Root::load(key, &mut begin(database, Registry::new()).await).await
}

/// Appends events in one unit of work, by the library.
async fn save(database: &TestDatabase, key: &str, events: impl IntoIterator<Item = AccountEvent>) {
    let mut work = begin(database, Registry::new()).await;
    let mut account = Root::<Account>::load(key, &mut work).await.expect("it is loaded");
    events.into_iter().for_each(|event| account.record(event));
    account.save(&mut work).await.expect("it is saved");
    work.commit().await.expect("it commits");
}

#[test]
fn the_events_and_the_fold_of_these_tests_are_what_they_were() {
    let samples = || [AccountEvent::Opened { currency: "EUR".to_owned() }, earned(5), AccountEvent::Closed];
    assert_round_trip(samples());
    assert_shape::<Account>(samples(), "a432c2c1f3d5ac9c");
}

#[tokio::test]
async fn an_aggregate_is_what_its_events_say() {
    let database = TestDatabase::create().await;
    let mut work = begin(&database, Registry::new()).await;
    work.set_context(Context::new().tenant("acme").actor("ann"));
    let mut account = Root::<Account>::load("ann", &mut work).await.expect("a stream that does not exist is a new one");
    assert_eq!((account.version(), account.state()), (0, &Account::default()));
    account.record(AccountEvent::Opened { currency: "EUR".to_owned() });
    account.decide(|state| if state.points < 10 { Ok([earned(5), earned(7)]) } else { Err("rich") }).expect("it is not rich");
    account.decide(|state| if state.points < 10 { Ok([earned(1)]) } else { Err("rich") }).expect_err("it is by now");
    let saved = account.save(&mut work).await.expect("it is saved");
    let again = Root::<Account>::load("ann", &mut work).await.expect("the unit of work sees what it has saved");
    assert_eq!((saved.version, again.version(), again.state().points), (3, 3, 12));
    let committed = work.commit().await.expect("it commits");

    let ids: Vec<Uuid> = committed.notifications.iter().map(|notified| notified.id).collect();
    assert_eq!((ids.len(), &saved.ids), (3, &ids));
    assert_eq!(load(&database, "ann").await.expect("it is loaded").state(), &Account { points: 12, events: 3 });
    let headers = "headers @> '{\"version\": 2, \"tenant\": \"acme\", \"actor\": \"ann\"}' and not headers ? 'causation'";
    let first = ids[0];
    let as_recorded = format!("events where type = 'points.earned' and {headers} and headers ->> 'correlation' = '{first}'");
    assert_eq!(database.count(&as_recorded).await, 2);
}

/// A welcome gift for each account that is opened, and a notification of points.
struct Welcome;

struct Told;

impl DomainEvent for Told {
    fn decide(&self) -> Result<outboxd::uow::Decision, Failure> {
        Ok(NewEvent::new("customer.told", json!({}))?.into())
    }
}

impl Handle<AccountEvent> for Welcome {
    async fn handle(&self, event: &AccountEvent, work: &mut UnitOfWork) -> Result<(), Failure> {
        match event {
            AccountEvent::Opened { .. } => {
                let mut gifts = Root::<Account>::load("gifts", work).await?;
                gifts.record(earned(1));
                gifts.save(work).await?;
            }
            AccountEvent::Earned { .. } => work.raise(Told),
            AccountEvent::Closed => return Err("it cannot be closed".into()),
        }
        Ok(())
    }
}

#[tokio::test]
async fn handlers_run_before_the_commit_and_know_what_caused_what() {
    let database = TestDatabase::create().await;
    let registry = || Registry::new().on::<AccountEvent, _>(Welcome);
    let mut work = begin(&database, registry()).await;
    let mut account = Root::<Account>::new("ann");
    account.record(AccountEvent::Opened { currency: "EUR".to_owned() });
    account.save(&mut work).await.expect("it is saved");
    let committed = work.commit().await.expect("it commits");
    let types: Vec<&str> = committed.notifications.iter().map(|notified| notified.event_type.as_str()).collect();
    assert_eq!((types, committed.dispatched), (vec!["account.opened", "points.earned", "customer.told"], 3));
    let chain = "events opened join events gift on gift.headers ->> 'causation' = opened.id::text
                   join events told on told.headers ->> 'causation' = gift.id::text
                  where opened.type = 'account.opened' and gift.aggregate_id = 'gifts' and told.type = 'customer.told'
                    and told.headers ->> 'correlation' = opened.id::text and gift.headers ->> 'correlation' = opened.id::text";
    assert_eq!(database.count(chain).await, 1);

    let mut work = begin(&database, registry()).await;
    let mut account = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
    account.record(AccountEvent::Closed);
    account.save(&mut work).await.expect("it is saved");
    assert!(matches!(work.commit().await, Err(Error::Handler { .. })));
    assert_eq!(load(&database, "ann").await.expect("it is loaded").version(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_meet_on_one_stream_all_succeed_once_each() {
    let database = TestDatabase::create().await;
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new()).attempts(50);
    let sending = (0..8).map(|_| {
        let pipeline = pipeline.clone();
        tokio::spawn(async move { pipeline.send(&Earn::new("ann", 1)).await })
    });
    let mut totals = Vec::new();
    for sent in futures_util::future::join_all(sending).await {
        totals.push(sent.expect("no panic").expect("it succeeds in the end"));
    }
    totals.sort_unstable();
    assert_eq!(totals, (1..=8).collect::<Vec<_>>(), "each decided by what the others had done");
}

#[tokio::test]
async fn a_conflict_says_which_version_is_there() {
    let database = TestDatabase::create().await;
    let mut work = begin(&database, Registry::new()).await;
    let mut first = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
    let mut second = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
    for account in [&mut first, &mut second] {
        account.record(earned(1));
    }
    first.save(&mut work).await.expect("it is saved");
    let conflict = second.save(&mut work).await.expect_err("two roots of one stream are two writers");
    assert!(matches!(&conflict, Error::Conflict(_)), "{conflict:?}");
    let words = "stream account/ann (read at version 0, found at version 1) has been changed";
    assert!(conflict.to_string().contains(words), "{conflict}");
}

/// With one attempt: nobody runs into a conflict or a deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_lock_first_meet_no_conflict_and_no_deadlock() {
    struct Move {
        from: &'static str,
        to: &'static str,
    }
    impl Command for Move {
        type Output = ();
        type Error = Error;
        async fn run(&self, work: &mut UnitOfWork) -> Result<(), Error> {
            lock(work, [self.from, self.to].map(StreamName::of::<Account>)).await?;
            for (key, points) in [(self.from, -1), (self.to, 1)] {
                let mut account = Root::<Account>::load(key, work).await?;
                account.record(earned(points));
                account.save(work).await?;
            }
            Ok(())
        }
    }
    let database = TestDatabase::create().await;
    for key in ["ann", "bob"] {
        save(&database, key, [earned(100)]).await;
    }
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new()).attempts(1);
    let moving = (0..16).map(|n| {
        let pipeline = pipeline.clone();
        let (from, to) = if n % 2 == 0 { ("ann", "bob") } else { ("bob", "ann") };
        tokio::spawn(async move { pipeline.send(&Move { from, to }).await })
    });
    let earning = (0..8).map(|_| {
        let pipeline = pipeline.clone();
        tokio::spawn(async move { pipeline.send(&Earn { is_locked: true, ..Earn::new("ann", 2) }).await.map(drop) })
    });
    for moved in futures_util::future::join_all(moving.chain(earning)).await {
        moved.expect("no panic").expect("it waits and succeeds");
    }
    let total = async |key| load(&database, key).await.expect("it is loaded").state().points;
    assert_eq!((total("ann").await, total("bob").await), (116, 100));
}

#[tokio::test]
async fn a_command_that_is_sent_twice_with_its_ids_appends_once() {
    struct EarnOnce(Uuid);
    impl Command for EarnOnce {
        type Output = bool;
        type Error = Error;
        async fn run(&self, work: &mut UnitOfWork) -> Result<bool, Error> {
            let mut account = Root::<Account>::load("ann", work).await?;
            account.record_as(self.0, earned(5));
            Ok(account.save(work).await?.is_repeat)
        }
    }
    let database = TestDatabase::create().await;
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new().on::<AccountEvent, _>(Welcome));
    let earn = EarnOnce(Uuid::now_v7());
    let mut repeats = Vec::new();
    for _ in 0..3 {
        repeats.push(pipeline.send(&earn).await.expect("it is sent"));
    }
    assert_eq!((repeats, points(database.pool(), "ann").await), (vec![false, true, true], vec![5]));
    assert_eq!(database.count("events where type = 'customer.told'").await, 1, "nothing was dispatched again");

    // Two at once: both have loaded before either has saved.
    let twice = Uuid::now_v7();
    let mut work = begin(&database, Registry::new().on::<AccountEvent, _>(Welcome)).await;
    let mut roots = Vec::new();
    for _ in 0..2 {
        let mut account = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
        account.record_as(twice, earned(7));
        roots.push(account);
    }
    let mut saved = Vec::new();
    for account in roots {
        let done = account.save(&mut work).await.expect("it is saved or known");
        saved.push((done.version, done.is_repeat));
    }
    assert_eq!(saved, [(2, false), (2, true)]);
    assert_eq!(work.commit().await.expect("it commits").dispatched, 2, "the event and what its handler raised, once");

    save(&database, "bob", [earned(1)]).await;
    let mut work = begin(&database, Registry::new()).await;
    let mut other = Root::<Account>::load("bob", &mut work).await.expect("it is loaded");
    other.record_as(earn.0, earned(5));
    let refused = other.save(&mut work).await.expect_err("that id belongs to another stream");
    assert!(matches!(refused, Error::Sourcing(SourcingError::RecordedElsewhere { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_other_programs_appended_long_ago_is_read_as_of_today() {
    let database = TestDatabase::create().await;
    let events = json!([
        { "type": "bonus.earned", "payload": { "points": 1 } },
        { "type": "points.earned", "payload": { "points": 2 }, "headers": { "version": 1 } },
        { "type": "points.earned", "payload": { "points": 4, "reason": "gift" }, "headers": { "version": "2" } },
        { "type": "account.closed", "payload": {} },
    ]);
    appended(&database, "ann", "none", events).await.expect("it is appended");
    assert_eq!(load(&database, "ann").await.expect("it is loaded").state(), &Account { points: 7, events: 4 });
}

#[tokio::test]
async fn an_unknown_event_is_refused_or_left_out_and_never_silently() {
    let database = TestDatabase::create().await;
    let strange = json!([{ "type": "points.burnt", "payload": {} }, { "type": "points.earned", "payload": { "points": 3 } }]);
    appended(&database, "ann", "none", strange).await.expect("it is appended");
    let refused = load(&database, "ann").await.expect_err("it is not known");
    assert_eq!(refused.to_string(), "version 1 of stream account/ann has the unknown event type \"points.burnt\"");

    let mut work = begin(&database, Registry::new()).await;
    let mut patient = Root::<Patient>::load("ann", &mut work).await.expect("it is left out");
    assert_eq!((patient.state().0.points, patient.version()), (3, 2));
    assert_eq!(patient.skipped().iter().collect::<Vec<_>>(), [(&"points.burnt".to_owned(), &1)]);
    patient.record(earned(1));
    assert_eq!(patient.save(&mut work).await.expect("it is saved").version, 3);
}

#[tokio::test]
async fn what_cannot_be_folded_says_where_it_stands() {
    let database = TestDatabase::create().await;
    for (key, event, words) in [
        (
            "new",
            json!({ "type": "points.earned", "payload": {}, "headers": { "version": 3 } }),
            "this program knows it up to version 2",
        ),
        (
            "bad",
            json!({ "type": "points.earned", "payload": { "points": "many" } }),
            "version 2 of stream account/bad, \"points.earned\", could not be read",
        ),
        (
            "odd",
            json!({ "type": "points.earned", "payload": { "points": 1 }, "headers": { "version": "two" } }),
            "could not be read",
        ),
        (
            "old",
            json!({ "type": "points.earned", "payload": { "points": 1 }, "headers": { "version": 0 } }),
            "no upcast of \"points.earned\" from version 0",
        ),
    ] {
        appended(&database, key, "none", super::earned([1])).await.expect("it is appended");
        appended(&database, key, "1", json!([event])).await.expect("it is appended");
        let error = load(&database, key).await.expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
    save(&database, "gap", (0..5).map(earned)).await;
    database
        .execute("set outboxd.changes_log = 'on'; delete from events where aggregate_id = 'gap' and aggregate_version = 3")
        .await;
    let error = load(&database, "gap").await.expect_err("a fold without it would be wrong");
    assert!(error.to_string().contains("version 3 of stream account/gap has no event"), "{error}");
    for (change, missing) in
        [("delete from stream_events where version = 5", 3), ("update streams set version = 9 where key = 'new'", 3)]
    {
        database.execute(change).await;
        let key = if change.contains("new") { "new" } else { "gap" };
        let error = load(&database, key).await.expect_err(change);
        assert!(
            matches!(error, Error::Sourcing(SourcingError::Missing { version, .. }) if version == missing) || key == "new",
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_apply_that_panics_leaves_nothing_behind() {
    let database = TestDatabase::create().await;
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new());
    pipeline.send(&Earn::new("ann", 1)).await.expect("it is saved");
    let panicked = tokio::spawn({
        let pipeline = pipeline.clone();
        async move { pipeline.send(&Earn::new("ann", -666)).await }
    });
    assert!(panicked.await.expect_err("it panics").is_panic());
    assert_eq!(pipeline.send(&Earn::new("ann", 2)).await.expect("the stream is free"), 3);
}

#[tokio::test]
async fn a_scope_that_is_undone_and_a_transaction_that_was_ended_take_their_events_with_them() {
    let database = TestDatabase::create().await;
    let mut work = begin(&database, Registry::new().on::<AccountEvent, _>(Welcome)).await;
    let scope = work.begin_scope().await.expect("a scope");
    let mut account = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
    account.record(AccountEvent::Closed); // its handler would fail
    account.save(&mut work).await.expect("it is saved");
    work.undo(scope).await.expect("it is undone");
    let committed = work.commit().await.expect("it commits");
    assert_eq!((committed.notifications.len(), committed.dispatched, database.count("streams").await), (0, 0, 0));

    let mut work = begin(&database, Registry::new()).await;
    let mut account = Root::<Account>::load("ann", &mut work).await.expect("it is loaded");
    account.record(earned(1));
    sqlx::query("commit").execute(work.connection()).await.expect("a careless handler ends it");
    assert!(matches!(account.save(&mut work).await, Err(Error::Ended)));
    assert_eq!((database.count("streams").await, database.count("events").await), (0, 0));
}

#[tokio::test]
async fn an_outbox_in_another_schema_has_its_own_streams() {
    let database = TestDatabase::empty().await;
    outboxd::store::migrate(database.pool(), "Weird \"name\"", None).await.expect("the migrations apply");
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new()).options(Options::new().schema("Weird \"name\""));
    for total in [1, 2, 3] {
        let earn = Earn { is_locked: total == 3, ..Earn::new("ann", 1) };
        assert_eq!(pipeline.send(&earn).await.expect("it is saved"), total);
    }
    assert_eq!(database.count("\"Weird \"\"name\"\"\".stream_events").await, 3);
}

#[tokio::test]
async fn a_stream_of_a_hundred_thousand_events_is_folded_page_by_page() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "insert into streams (type, key, version) values ('account', 'ann', 100000);
             insert into events (type, aggregate_type, aggregate_id, aggregate_version, payload)
             select 'points.earned', 'account', 'ann', n, json_build_object('points', n) from generate_series(1, 100000) n;
             insert into stream_events select 1, aggregate_version, seq from events",
        )
        .await;
    let account = load(&database, "ann").await.expect("it is loaded");
    assert_eq!(account.state(), &Account { points: 5_000_050_000, events: 100_000 });
}
