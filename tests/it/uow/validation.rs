//! Notifications beside the schema of their contract: refused, told or let through, as the options say.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use outboxd::uow::{
    Contract, Decision, DomainEvent, Error, Failure, InvalidNotification, Options, Registry, UnitOfWork, Validation,
};
use serde::Serialize;

use crate::support::TestDatabase;

#[derive(Serialize)]
struct InvoiceSentV3 {
    total: Total,
}

#[derive(Serialize)]
struct Total {
    cents: i64,
}

impl Contract for InvoiceSentV3 {
    const TYPE: &'static str = "invoice.sent";
    const VERSION: u32 = 3;
    const SCHEMA: Option<&'static str> =
        Some(r#"{"type":"object","properties":{"total":{"properties":{"cents":{"type":"integer","minimum":0}}}}}"#);
}

struct InvoiceSent(i64);

impl DomainEvent for InvoiceSent {
    fn decide(&self) -> Result<Decision, Failure> {
        Decision::notify("invoice", 1, &InvoiceSentV3 { total: Total { cents: self.0 } })
    }
}

/// A contract whose schema is none.
#[derive(Serialize)]
struct Broken {}

impl Contract for Broken {
    const TYPE: &'static str = "broken";
    const VERSION: u32 = 1;
    const SCHEMA: Option<&'static str> = Some("[]");
}

struct Breaks;

impl DomainEvent for Breaks {
    fn decide(&self) -> Result<Decision, Failure> {
        Decision::notify("broken", 1, &Broken {})
    }
}

async fn commit(database: &TestDatabase, options: &Options, event: impl DomainEvent) -> Result<(), Error> {
    let mut work = UnitOfWork::begin_with(database.pool(), &Arc::new(Registry::new()), options).await?;
    work.raise(event);
    work.commit().await.map(drop)
}

#[tokio::test]
async fn what_its_schema_refuses_is_not_recorded_and_the_error_names_the_place_and_no_value() {
    let database = TestDatabase::create().await;
    for options in [Options::new(), Options::new().validation(Validation::Always)] {
        commit(&database, &options, InvoiceSent(1_500)).await.expect("it is valid");
        let refused = commit(&database, &options, InvoiceSent(-4_711)).await;
        let Err(Error::Invalid(invalid)) = refused else { panic!("{refused:?}") };
        assert_eq!((invalid.event_type.as_str(), invalid.version, invalid.problems.len()), ("invoice.sent", 3, 1));
        assert!(invalid.problems[0].starts_with("/total/cents: "), "{invalid}");
        assert!(!invalid.to_string().contains("4711"), "{invalid}");
        let broken = commit(&database, &options, Breaks).await.expect_err("its schema is none");
        assert!(std::error::Error::source(&broken).is_some_and(|cause| cause.to_string().contains("cannot be used")), "{broken:?}");
    }
    assert_eq!(database.count("events").await, 2);
}

#[tokio::test]
async fn in_a_sample_what_is_invalid_is_told_and_recorded_all_the_same() {
    let database = TestDatabase::create().await;
    let told: Arc<Mutex<Vec<InvalidNotification>>> = Arc::default();
    let list = Arc::clone(&told);
    let tell = Arc::new(move |invalid: &InvalidNotification| list.lock().expect("nobody panics").push(invalid.clone()));
    let options = Options::new().validation(Validation::Sampled { one_in: NonZeroU32::MIN, tell });
    for cents in [-1, 1, -2] {
        commit(&database, &options, InvoiceSent(cents)).await.expect("it is recorded");
    }
    let never = Options::new().validation(Validation::Never);
    commit(&database, &never, InvoiceSent(-3)).await.expect("nobody asks");
    assert_eq!(database.count("events").await, 4);
    assert_eq!(told.lock().expect("nobody panics").len(), 2);
}
