//! Commands through the pipeline: what is tried again, and what is asked for when an answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use outboxd::uow::{Command, Conflict, Context, Error, Isolation, Options, Pipeline, Registry, UnitOfWork, was_committed};
use sqlx::postgres::PgPoolOptions;

use super::{AddToOrder, PlaceOrder, begin, registry, shop, write_down};
use crate::support::Proxy;

#[tokio::test]
async fn a_command_is_one_commit_and_gives_the_ids_that_receivers_see() {
    let database = shop().await;
    let pipeline = Pipeline::new(database.pool().clone(), registry());
    let context = Context::new().correlation("request-1");
    let done = pipeline.send_in(&context, &PlaceOrder { id: 7, total: 4_200 }).await.expect("it is placed");

    assert_eq!(done.output, 7);
    for notified in &done.committed.notifications {
        let there = format!("events where id = '{}' and headers->>'correlation' = 'request-1'", notified.id);
        assert_eq!(database.count(&there).await, 1);
    }
    assert_eq!(done.committed.notifications.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_meet_on_one_aggregate_all_succeed_once_each() {
    let database = shop().await;
    let pipeline = Pipeline::new(database.pool().clone(), registry()).attempts(50);
    pipeline.send(&PlaceOrder { id: 7, total: 0 }).await.expect("it is placed");
    let adding = (0..8).map(|_| {
        let pipeline = pipeline.clone();
        tokio::spawn(async move { pipeline.send(&AddToOrder { id: 7, cents: 100 }).await })
    });
    for added in futures_util::future::join_all(adding).await {
        added.expect("no panic").expect("it succeeds in the end");
    }
    assert_eq!(database.count("orders where total = 800 and version = 9").await, 1);
}

#[tokio::test]
async fn a_conflict_that_never_ends_is_told_after_the_last_attempt() {
    struct Never(AtomicU32);
    impl Command for Never {
        type Output = ();
        type Error = Error;
        async fn run(&self, work: &mut UnitOfWork) -> Result<(), Error> {
            self.0.fetch_add(1, Ordering::SeqCst);
            write_down("tried", work).await.expect("it is written");
            Err(Conflict::of("order 7").into())
        }
    }
    let database = shop().await;
    let never = Never(AtomicU32::new(0));
    let error = Pipeline::new(database.pool().clone(), registry()).attempts(3).send(&never).await.expect_err("it never succeeds");
    assert_eq!(error.to_string(), "order 7 has been changed by another writer meanwhile");
    assert_eq!((never.0.load(Ordering::SeqCst), database.count("audit_log").await), (3, 0));
}

/// Writes only while nobody has: two of them, each blind to the other, would both write.
struct WriteFirst;

impl Command for WriteFirst {
    type Output = bool;
    type Error = Error;

    async fn run(&self, work: &mut UnitOfWork) -> Result<bool, Error> {
        let count: i64 = sqlx::query_scalar("select count(*) from audit_log").fetch_one(work.connection()).await?;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if count == 0 {
            sqlx::query("insert into audit_log values ('first')").execute(work.connection()).await?;
        }
        Ok(count == 0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serialisable_commands_are_run_again_until_they_can_be_put_in_an_order() {
    let database = shop().await;
    let options = Options::new().isolation(Isolation::Serializable);
    let pipeline = Pipeline::new(database.pool().clone(), Registry::new()).options(options).attempts(50);
    let tried = (0..6).map(|_| {
        let pipeline = pipeline.clone();
        tokio::spawn(async move { pipeline.send(&WriteFirst).await })
    });
    let mut firsts = 0;
    for wrote in futures_util::future::join_all(tried).await {
        firsts += u32::from(wrote.expect("no panic").expect("it succeeds in the end"));
    }
    assert_eq!((firsts, database.count("audit_log").await), (1, 1));
}

#[tokio::test]
async fn what_became_of_a_transaction_can_be_asked() {
    let database = shop().await;
    let mut work = begin(&database, Registry::new()).await;
    write_down("x", &mut work).await.expect("it is written");
    let committed = work.commit().await.expect("it commits").transaction.expect("it wrote");
    assert!(was_committed(database.pool(), committed).await.expect("the server knows"));

    let idle = begin(&database, Registry::new()).await.commit().await.expect("it commits");
    assert_eq!(idle.transaction, None, "it wrote nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_asked_for_and_not_made_twice() {
    let database = shop().await;
    // The commit waits in the server until the test has cut the connection.
    database
        .execute(
            "create table gate (is_open boolean);
             create function wait() returns trigger language plpgsql as $$ begin
                 perform pg_advisory_xact_lock(77); return null; end $$;
             create constraint trigger wait after insert on orders deferrable initially deferred for each row execute function wait()",
        )
        .await;
    let (proxy, url) = Proxy::in_front_of(database.url()).await;
    let pool = PgPoolOptions::new().connect(&url).await.expect("the proxy passes it on");
    let pipeline = Arc::new(Pipeline::new(pool, registry()));
    let mut gate = database.connect().await;
    sqlx::query("select pg_advisory_lock(77)").execute(&mut gate).await.expect("the gate is closed");

    let sending = tokio::spawn({
        let pipeline = Arc::clone(&pipeline);
        async move { pipeline.send(&PlaceOrder { id: 7, total: 4_200 }).await }
    });
    crate::support::eventually("the commit waits at the gate", || async {
        let waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = 77 and not granted";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(database.pool()).await.expect("locks can be read");
        (waiting == 1).then_some(())
    })
    .await;
    proxy.cut();
    sqlx::query("select pg_advisory_unlock(77)").execute(&mut gate).await.expect("the gate is open");
    proxy.heal();

    assert_eq!(sending.await.expect("no panic").expect("it was committed"), 7);
    assert_eq!((database.count("orders").await, database.count("events").await), (1, 2));
}
