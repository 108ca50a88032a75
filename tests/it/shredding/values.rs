//! Values on their way into the log and out of it.

use std::sync::{Arc, Mutex};

use outboxd::uow::shredding::{MasterKeys, ShredError, ShreddedReader};
use outboxd::uow::sourcing::Root;
use outboxd::uow::testing::assert_round_trip;
use outboxd::uow::{Error, Failure, Handle, Options, Pipeline, Registry, UnitOfWork};
use outboxd::{ProjectedEvent, Projection, ProjectionError, RelayBuilder, Verdict, handler_fn};
use sqlx::PgConnection;
use uuid::Uuid;

use super::person::{Person, PersonEvent, PersonRegisteredV1, Register, moved};
use super::{MARKER, begin, load, master, outboxd, person};
use crate::support::{Binary, TestDatabase, eventually, quick};

/// A read table with clear text, which a function of the application must forget.
struct Emails(ShreddedReader);

impl Projection for Emails {
    fn events(&self) -> Vec<String> {
        vec!["shop.person_registered".to_owned()]
    }

    async fn project(&self, event: ProjectedEvent<'_>, connection: &mut PgConnection) -> Result<(), ProjectionError> {
        let person: PersonRegisteredV1 = self.0.read_notification(connection, event.notification).await?;
        let email = person.email.read().map(String::as_str).unwrap_or("forgotten");
        sqlx::query("insert into app.emails values ($1, $2)").bind(person.email.subject()).bind(email).execute(connection).await?;
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Handle<PersonEvent> for Seen {
    async fn handle(&self, event: &PersonEvent, _: &mut UnitOfWork) -> Result<(), Failure> {
        if let PersonEvent::Registered { email, .. } = event {
            self.0.lock().expect("no test panics with it").push(email.read()?.clone());
        }
        Ok(())
    }
}

#[test]
fn the_events_of_a_person_are_read_as_they_were_written() {
    let register = Register { id: 42, text: MARKER.to_owned() };
    assert_round_trip([register.event(), moved(42, MARKER)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_encrypted_in_the_log_and_clear_for_handlers_projections_and_loads() {
    let database = TestDatabase::create().await;
    database.execute("create schema app; create table app.emails (subject text, email text)").await;
    let seen = Seen::default();
    let registry = Arc::new(Registry::new().on::<PersonEvent, _>(seen.clone()));
    let mut work = UnitOfWork::begin_with(database.pool(), &registry, &Options::new().master_keys(master())).await.expect("begun");
    let (id, event) = (Uuid::now_v7(), Register { id: 42, text: MARKER.to_owned() }.event());
    let mut root = Root::<Person>::new("42");
    root.record_as(id, event.clone());
    root.save(&mut work).await.expect("it is saved");
    // Within the transaction it can be read already, under a key that nobody else sees yet.
    let again = Root::<Person>::load("42", &mut work).await.expect("it is loaded");
    assert_eq!(again.state().shown, format!("{MARKER} name"));
    work.commit().await.expect("it is committed");
    assert_eq!(*seen.0.lock().expect("a lock"), [format!("{MARKER} email")]);

    // The same command again, with the same id: the server finds the same bytes.
    let mut work = begin(database.pool()).await;
    let mut root = Root::<Person>::new("42");
    root.record_as(id, event);
    assert!(root.save(&mut work).await.expect("it is a repeat").is_repeat);
    work.commit().await.expect("it is committed");

    person(database.pool(), 43, "bob", 3).await;
    let leaks = format!("events where payload::text like '%{MARKER}%' or payload::text like '%bob%'");
    assert_eq!((database.count("events").await, database.count(&leaks).await), (7, 0));
    assert_eq!(database.count("subject_keys").await, 2);
    assert_eq!(database.count("stream_states where state::text like '%bob city%'").await, 0, "a Shredded is none in a state");
    let bob = load(database.pool(), "43").await.expect("it is loaded");
    assert!(bob.ignored_state().is_none() && bob.state().events == 4, "{bob:?}");
    assert_eq!(bob.state().city.as_ref().and_then(|city| city.read().ok()).map(String::as_str), Some("bob city 2"));
    assert!(Root::<Person>::verify_state("43", &mut begin(database.pool()).await).await.expect("it is compared"));

    let (received, reader, pool) = (Arc::new(Mutex::new(Vec::new())), ShreddedReader::new(master()), database.pool().clone());
    let (given, projected) = (Arc::clone(&received), reader.clone());
    let relay = RelayBuilder::new(database.url())
        .configure(quick)
        .handler(
            "mail",
            &["shop.person_registered"],
            handler_fn(move |notification| {
                let (given, reader, pool) = (Arc::clone(&given), reader.clone(), pool.clone());
                async move {
                    let mut connection = pool.acquire().await.expect("a connection");
                    let read = reader.read_notification::<PersonRegisteredV1>(&mut connection, &notification).await;
                    given.lock().expect("a lock").push(
                        read.map_err(|error| error.to_string())
                            .and_then(|person| person.email.into_read().map_err(|forgotten| forgotten.to_string())),
                    );
                    Verdict::delivered()
                }
            }),
        )
        .projection("emails", 1, Emails(projected))
        .start()
        .expect("it starts");
    eventually("both are received and projected", || async {
        (received.lock().expect("a lock").len() == 2 && database.count("app.emails").await == 2).then_some(())
    })
    .await;
    relay.stop().await.expect("it stops");
    received.lock().expect("a lock").sort();
    assert_eq!(*received.lock().expect("a lock"), [Ok(format!("{MARKER} email")), Ok("bob email".to_owned())]);
    assert_eq!(database.count(&format!("app.emails where email = '{MARKER} email'")).await, 1);
}

#[tokio::test]
async fn an_envelope_is_followed_through_an_upcast_that_renames_its_field() {
    let database = TestDatabase::create().await;
    // As version 1 recorded it: under its former name.
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(tag = "type", content = "payload")]
    enum Former {
        #[serde(rename = "person.registered")]
        Registered { mail: outboxd::uow::shredding::Shredded<String>, profile: super::person::Profile },
    }
    impl outboxd::uow::DomainEvent for Former {
        fn decide(&self) -> Result<outboxd::uow::Decision, Failure> {
            Ok(outboxd::uow::Decision::InMemory)
        }
    }
    impl outboxd::uow::sourcing::SourcedEvent for Former {
        const TYPES: &'static [(&'static str, u32)] = &[("person.registered", 1)];
    }
    #[derive(Default)]
    struct FormerPerson;
    impl outboxd::uow::sourcing::Sourced for FormerPerson {
        const TYPE: &'static str = "person";
        type Event = Former;
        fn apply(&mut self, _: &Former) {}
    }
    let PersonEvent::Registered { email: mail, profile } = (Register { id: 42, text: "ann".to_owned() }).event() else {
        unreachable!("it registers")
    };
    let mut work = begin(database.pool()).await;
    let mut root = Root::<FormerPerson>::new("42");
    root.record(Former::Registered { mail, profile });
    root.save(&mut work).await.expect("it is saved");
    work.commit().await.expect("it is committed");
    let email = async || load(database.pool(), "42").await.expect("it is loaded").state().email.clone().expect("it has one");
    assert_eq!(email().await.read().map(String::as_str), Ok("ann email"));
    let forget = ["forget", "--subject", "customer/42", "--because", "OPS-1", "--yes"];
    assert_eq!(outboxd(&Binary::with_config(""), database.url(), &forget).await.0.code, Some(0));
    assert!(email().await.is_forgotten(), "and it is neither null nor missing");
}

#[tokio::test]
async fn a_program_with_other_keys_or_none_and_a_changed_row_are_told_apart() {
    let database = TestDatabase::create().await;
    for id in [42, 43] {
        person(database.pool(), id, "ann", 0).await;
    }
    let load = async |options: Options| {
        let registry = Arc::new(Registry::new());
        let mut work = UnitOfWork::begin_with(database.pool(), &registry, &options).await.expect("it begins");
        match Root::<Person>::load("42", &mut work).await {
            Ok(_) => None,
            Err(error) => {
                let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                causes.into_iter().find_map(|cause| cause.downcast_ref::<ShredError>().cloned())
            }
        }
    };
    let ours = || Options::new().master_keys(master());
    let subject = || "customer/42".to_owned();
    assert_eq!(load(ours()).await, None);
    assert_eq!(load(Options::new()).await, Some(ShredError::NoMasterKeys { subject: subject() }));
    let other = MasterKeys::parse(&MasterKeys::make().expect("random")).expect("a key");
    let found = load(Options::new().master_keys(other)).await;
    assert!(matches!(found, Some(ShredError::OtherMasterKey { .. })), "{found:?}");

    for (change, is_told) in [
        (
            "set key = (select key from subject_keys where subject = 'customer/43')",
            (|error| matches!(error, ShredError::OtherKey { .. })) as fn(&ShredError) -> bool,
        ),
        ("set wrapped = (select wrapped from subject_keys where subject = 'customer/43')", |error| {
            matches!(error, ShredError::KeyAltered { .. })
        }),
        ("set wrapped = '\\x01'", |error| matches!(error, ShredError::KeyAltered { .. })),
        ("set subject = 'customer/44'", |error| matches!(error, ShredError::NoKey { .. })),
    ] {
        database.execute("create table kept as select * from subject_keys").await;
        database.execute(&format!("update subject_keys {change} where subject = 'customer/42'")).await;
        let found = load(ours()).await;
        assert!(found.as_ref().is_some_and(is_told), "{change}: {found:?}");
        database.execute("delete from subject_keys; insert into subject_keys select * from kept; drop table kept").await;
    }
    assert_eq!(load(ours()).await, None);

    // Without keys nothing is recorded, and a value outside of a unit of work neither.
    let registry = Registry::new();
    struct Record;
    impl outboxd::uow::Command for Record {
        type Output = ();
        type Error = Error;
        async fn run(&self, work: &mut UnitOfWork) -> Result<(), Error> {
            let mut root = Root::<Person>::new("44");
            root.record(Register { id: 44, text: "x".to_owned() }.event());
            root.save(work).await.map(drop)
        }
    }
    let error = Pipeline::new(database.pool().clone(), registry).send(&Record).await.expect_err("there are no keys");
    assert!(matches!(error, Error::Shredding(ShredError::NoMasterKeys { .. })), "{error}");
    let decision = outboxd::uow::DomainEvent::decide(&Register { id: 44, text: "x".to_owned() }.event()).expect("a decision");
    let outboxd::uow::Decision::Notify(notification) = decision else { panic!("it notifies") };
    let mut connection = database.pool().acquire().await.expect("a connection");
    let error = outboxd::uow::record(&mut connection, &[*notification]).await.expect_err("it is not sealed");
    assert!(
        std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("only by a unit of work")),
        "{error:?}"
    );
    assert_eq!(database.count("subject_keys").await, 2);
}

#[tokio::test]
async fn an_application_needs_one_function_to_write_and_one_table_to_read() {
    let database = TestDatabase::create().await;
    let role = format!("app_{}", Uuid::new_v4().simple());
    database
        .execute(&format!(
            "create role {role};
             grant usage on schema outbox to {role};
             grant insert on outbox.events to {role};
             grant select on outbox.events, outbox.streams, outbox.stream_events, outbox.stream_states to {role};
             grant insert, update on outbox.stream_states to {role};
             grant execute on function outbox.append_events(text, text, text, uuid[], text[], text[], text[], bigint[]) to {role};
"
        ))
        .await;
    let documented = crate::docs::block("docs/event-sourcing.md", "sql shredded grants");
    database.execute(&documented.replace(" to app;", &format!(" to {role};"))).await;
    let mut work = begin(database.pool()).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("set local role {role}"))).execute(work.connection()).await.expect("a role");
    let mut root = Root::<Person>::new("42");
    root.record(Register { id: 42, text: "ann".to_owned() }.event());
    root.save(&mut work).await.expect("it may");
    assert!(Root::<Person>::load("42", &mut work).await.is_ok());
    let scope = work.begin_scope().await.expect("a scope");
    let destroyed = sqlx::query("update outbox.subject_keys set master = null").execute(work.connection()).await;
    assert!(destroyed.is_err(), "it cannot change a key");
    work.undo(scope).await.expect("it is undone");
    // The scope has taken what was known of the keys with it; they are fetched again.
    let mut root = Root::<Person>::load("42", &mut work).await.expect("it is loaded");
    root.record(moved(42, "Rome"));
    root.save(&mut work).await.expect("it may");
    work.roll_back().await.expect("it is undone");
    database.execute(&format!("drop owned by {role}; drop role {role}")).await;
}
