//! One unit of work: what is dispatched, what is recorded, and that it is all of it or nothing.

use std::time::{Duration, SystemTime};

use outboxd::NewEvent;
use outboxd::uow::testing::{FakeClock, Trace};
use outboxd::uow::{Context, Decision, DomainEvent, Error, Failure, Handle, Options, Registry, UnitOfWork};
use serde_json::{Value, json};
use sqlx::Row;

use super::{Audit, Credit, EarnPoints, LevelReached, Order, OrderPlaced, PointsEarned, begin, place, registry, shop, write_down};
use crate::support::TestDatabase;

async fn events(database: &TestDatabase) -> Vec<(String, Value, Value)> {
    let rows = sqlx::query("select type, payload, headers from events order by seq").fetch_all(database.pool()).await;
    rows.expect("the log can be read").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn what_an_event_leads_to_is_one_transaction() {
    let database = shop().await;
    let (registry, trace) = Trace::of(registry());
    let mut work = begin(&database, registry).await;
    let mut order = Order::place(7, 4_200, "4111 1111 1111 1111");
    place(&mut order, &mut work).await.expect("it is placed");
    let committed = work.commit().await.expect("it commits");

    assert_eq!(trace.calls(), [("OrderPlaced", "EarnPoints"), ("PointsEarned", "Credit"), ("LevelReached", "Audit")]);
    assert_eq!(committed.dispatched, 3);
    let types: Vec<&str> = committed.notifications.iter().map(|notified| notified.event_type.as_str()).collect();
    assert_eq!(types, ["order.placed", "loyalty.level_reached"]);
    let transactions: Vec<String> = sqlx::query_scalar(
        "select distinct xmin::text from (select xmin from orders union all select xmin from accounts
         union all select xmin from audit_log union all select xmin from outbox.events) of_all",
    )
    .fetch_all(database.pool())
    .await
    .expect("the rows can be read");
    assert_eq!(transactions, [committed.transaction.expect("it wrote").to_string()], "below 2^32 both numbers are the same");
}

#[tokio::test]
async fn a_notification_is_its_contract_and_says_where_it_came_from() {
    let database = shop().await;
    let mut work = begin(&database, registry()).await;
    work.set_context(Context::new().causation("command-1").tenant("acme").actor("ann").traceparent("00-1-2-01"));
    place(&mut Order::place(7, 4_200, "4111 1111 1111 1111"), &mut work).await.expect("it is placed");
    let committed = work.commit().await.expect("it commits");

    let first = committed.notifications[0].id.to_string();
    let common = json!({ "tenant": "acme", "actor": "ann", "traceparent": "00-1-2-01", "correlation": first });
    let with = |more: Value| {
        let mut headers = common.clone();
        headers.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        headers
    };
    assert_eq!(
        events(&database).await,
        [
            (
                "order.placed".to_owned(),
                json!({ "order_id": 7, "total_cents": 4_200 }),
                with(json!({ "version": 2, "causation": "command-1" }))
            ),
            // The points in between stayed in memory; what caused the level, as far as anybody outside knows, is the order.
            ("loyalty.level_reached".to_owned(), json!({ "customer": "ann" }), with(json!({ "version": 1, "causation": first }))),
        ]
    );
}

#[tokio::test]
async fn a_handler_that_fails_undoes_everything() {
    struct Refuse;
    impl Handle<LevelReached> for Refuse {
        async fn handle(&self, _: &LevelReached, _: &mut UnitOfWork) -> Result<(), Failure> {
            Err("no levels today".into())
        }
    }
    let database = shop().await;
    let mut work = begin(&database, registry().on::<LevelReached, _>(Refuse)).await;
    place(&mut Order::place(7, 4_200, "4111 1111 1111 1111"), &mut work).await.expect("it is placed");
    let error = work.commit().await.expect_err("a handler refuses");

    assert!(matches!(&error, Error::Handler { handler, .. } if handler.ends_with("Refuse")), "{error}");
    for table in ["orders", "accounts", "audit_log", "events"] {
        assert_eq!(database.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_connection_that_dies_between_two_writes_leaves_neither() {
    struct Die;
    impl Handle<PointsEarned> for Die {
        async fn handle(&self, _: &PointsEarned, work: &mut UnitOfWork) -> Result<(), Failure> {
            sqlx::query("select pg_terminate_backend(pg_backend_pid())").execute(work.connection()).await?;
            Ok(())
        }
    }
    let database = shop().await;
    let mut work = begin(&database, registry().on::<PointsEarned, _>(Die)).await;
    place(&mut Order::place(7, 4_200, "4111 1111 1111 1111"), &mut work).await.expect("it is placed");
    work.commit().await.expect_err("the connection is dead");

    assert_eq!((database.count("orders").await, database.count("accounts").await, database.count("events").await), (0, 0, 0));
}

struct Ping;
struct Pong;

impl DomainEvent for Ping {
    fn decide(&self) -> Result<Decision, Failure> {
        Ok(NewEvent::new("ping", json!({}))?.into())
    }
}

impl DomainEvent for Pong {
    fn decide(&self) -> Result<Decision, Failure> {
        Ok(Decision::InMemory)
    }
}

struct Play;

impl Handle<Ping> for Play {
    async fn handle(&self, _: &Ping, work: &mut UnitOfWork) -> Result<(), Failure> {
        write_down("ping", work).await?;
        work.raise(Pong);
        Ok(())
    }
}

impl Handle<Pong> for Play {
    async fn handle(&self, _: &Pong, work: &mut UnitOfWork) -> Result<(), Failure> {
        work.raise(Ping);
        Ok(())
    }
}

#[tokio::test]
async fn an_endless_pair_of_handlers_fails_with_the_limit_and_writes_nothing() {
    let database = shop().await;
    let mut work = begin(&database, Registry::new().on::<Ping, _>(Play).on::<Pong, _>(Play)).await;
    work.raise(Ping);
    let error = work.commit().await.expect_err("it would never end");

    assert!(matches!(error, Error::DispatchLimit { limit: 1_000, .. }), "{error}");
    assert_eq!((database.count("audit_log").await, database.count("events").await), (0, 0));
}

#[tokio::test]
async fn events_are_dispatched_first_in_first_out_and_handlers_in_the_order_of_their_registration() {
    let database = shop().await;
    let (registry, trace) = Trace::of(
        Registry::new()
            .on::<OrderPlaced, _>(EarnPoints)
            .on::<PointsEarned, _>(Credit)
            .on::<LevelReached, _>(Audit)
            .on::<OrderPlaced, _>(Second),
    );
    let mut work = begin(&database, registry).await;
    for id in 1..=2 {
        place(&mut Order::place(id, 100, "4111 1111 1111 1111"), &mut work).await.expect("it is placed");
    }
    work.commit().await.expect("it commits");

    let calls: Vec<String> = trace.calls().iter().map(|(event, handler)| format!("{event} {handler}")).collect();
    assert_eq!(
        calls,
        [
            "OrderPlaced EarnPoints",
            "OrderPlaced Second",
            "OrderPlaced EarnPoints",
            "OrderPlaced Second",
            "PointsEarned Credit",
            "PointsEarned Credit"
        ]
    );
}

struct Second;

impl Handle<OrderPlaced> for Second {
    async fn handle(&self, _: &OrderPlaced, _: &mut UnitOfWork) -> Result<(), Failure> {
        Ok(())
    }
}

/// Does its work in a scope, fails in it, and goes on.
struct Optional;

impl Handle<OrderPlaced> for Optional {
    async fn handle(&self, _: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
        let outer = work.begin_scope().await?;
        write_down("kept", work).await?;
        work.raise(PointsEarned { customer: "kept".to_owned(), points: 1 });
        let inner = work.begin_scope().await?;
        write_down("undone", work).await?;
        work.raise(LevelReached("undone".to_owned()));
        let failed = sqlx::query("select 1/0").execute(work.connection()).await;
        assert!(failed.is_err());
        work.undo(inner).await?;
        write_down("after", work).await?;
        work.keep(outer).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_scope_that_is_undone_takes_its_statements_and_its_events_with_it() {
    let database = shop().await;
    let registry = Registry::new().on::<OrderPlaced, _>(Optional).on::<PointsEarned, _>(Credit).on::<LevelReached, _>(Audit);
    let mut work = begin(&database, registry).await;
    place(&mut Order::place(7, 100, "4111 1111 1111 1111"), &mut work).await.expect("it is placed");
    work.commit().await.expect("it commits");

    let written: Vec<String> = sqlx::query_scalar("select what from audit_log").fetch_all(database.pool()).await.expect("rows");
    assert_eq!(written, ["kept", "after"]);
    assert_eq!(database.count("accounts where customer = 'kept'").await, 1);
    assert_eq!(database.count("events where type = 'loyalty.level_reached'").await, 0);
}

#[tokio::test]
async fn scopes_end_in_the_reverse_order_of_their_beginning() {
    let database = shop().await;
    let mut work = begin(&database, Registry::new()).await;
    let outer = work.begin_scope().await.expect("a scope");
    let inner = work.begin_scope().await.expect("a scope");
    work.keep(outer).await.expect("with it goes what was begun inside");
    assert!(matches!(work.undo(inner).await, Err(Error::ScopeOrder)));
}

#[tokio::test]
async fn a_statement_that_failed_and_was_overlooked_is_not_called_a_commit() {
    let database = shop().await;
    let mut work = begin(&database, Registry::new()).await;
    write_down("lost", &mut work).await.expect("it is written");
    let overlooked = sqlx::query("select 1/0").execute(work.connection()).await;
    assert!(overlooked.is_err());
    work.commit().await.expect_err("the transaction had failed");
    assert_eq!(database.count("audit_log").await, 0);
}

#[tokio::test]
async fn a_unit_of_work_that_is_dropped_never_was() {
    let database = shop().await;
    let mut work = begin(&database, registry()).await;
    place(&mut Order::place(7, 4_200, "4111 1111 1111 1111"), &mut work).await.expect("it is placed");
    drop(work);
    assert_eq!((database.count("orders").await, database.count("events").await), (0, 0));
}

#[tokio::test]
async fn a_card_number_that_an_event_holds_is_in_no_table_no_error_and_no_debug_print() {
    const CARD: &str = "4929 1337 0042 0007";
    struct Fail;
    impl Handle<OrderPlaced> for Fail {
        async fn handle(&self, event: &OrderPlaced, _: &mut UnitOfWork) -> Result<(), Failure> {
            Err(format!("{:?} was refused", event.card).into())
        }
    }
    let database = shop().await;
    let mut order = Order::place(7, 4_200, CARD);
    let mut seen = format!("{:?}", order.events);
    let mut work = begin(&database, registry()).await;
    place(&mut order, &mut work).await.expect("it is placed");
    seen.push_str(&format!("{work:?}"));
    seen.push_str(&format!("{:?}", work.commit().await.expect("it commits")));
    let mut work = begin(&database, Registry::new().on::<OrderPlaced, _>(Fail)).await;
    place(&mut Order::place(8, 1, CARD), &mut work).await.expect("it is placed");
    let error = work.commit().await.expect_err("it is refused");
    seen.push_str(&format!("{error} {error:?}"));

    assert!(!seen.contains(CARD), "{seen}");
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(database.pool())
    .await
    .expect("the catalogue can be read");
    assert!(tables.len() > 10);
    for table in tables {
        assert_eq!(database.count(&format!("{table} t where t::text like '%{CARD}%'")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_clock_of_the_caller_says_when_it_happened() {
    let database = shop().await;
    let clock = FakeClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let options = Options::new().clock(clock.clone());
    clock.advance(Duration::from_micros(5));
    let mut work =
        UnitOfWork::begin_with(database.pool(), &std::sync::Arc::new(Registry::new()), &options).await.expect("it begins");
    assert_eq!(work.now(), SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_000_000_000_005));
    work.raise(Ping);
    work.commit().await.expect("it commits");
    assert_eq!(database.count("events where occurred_at = '2001-09-09 01:46:40.000005Z'").await, 1);
}
