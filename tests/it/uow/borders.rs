//! Where the unit of work meets what is not its own: SQL that ends its transaction, transactions that the caller has begun, errors of other crates.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use outboxd::uow::{Command, Conflict, Error, Failure, Handle, Isolation, Options, Pipeline, Registry, UnitOfWork};

use super::{Order, OrderPlaced, PointsEarned, begin, place, registry, shop, write_down};

/// Ends the transaction by SQL, as a repository might that was written for another world.
struct Ends(&'static str);

impl Handle<OrderPlaced> for Ends {
    async fn handle(&self, _: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
        sqlx::raw_sql(self.0).execute(work.connection()).await?;
        Ok(())
    }
}

impl Handle<PointsEarned> for Ends {
    async fn handle(&self, _: &PointsEarned, work: &mut UnitOfWork) -> Result<(), Failure> {
        sqlx::raw_sql(self.0).execute(work.connection()).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_is_noticed_at_the_commit() {
    let database = shop().await;
    for (number, sql) in
        ["commit", "rollback", "end", "commit; begin", "rollback and chain", "commit and chain"].into_iter().enumerate()
    {
        let mut work = begin(&database, Registry::new().on::<OrderPlaced, _>(Ends(sql))).await;
        let order = i64::try_from(number).expect("few");
        place(&mut Order::place(order, 1, "4111 1111"), &mut work).await.expect("it is placed");
        let ended = work.commit().await.expect_err(sql);
        assert!(matches!(ended, Error::Ended), "{sql}: {ended:?}");
        assert!(ended.to_string().contains("COMMIT, ROLLBACK"), "{ended}");
        assert_eq!(database.count("events").await, 0, "{sql}: what was not committed with the order is told to nobody");
        // Without a notification, too: there is another statement then.
        let mut work = begin(&database, Registry::new().on::<PointsEarned, _>(Ends(sql))).await;
        work.raise(PointsEarned { customer: "ann".to_owned(), points: 1 });
        assert!(matches!(work.commit().await, Err(Error::Ended)), "{sql}");
    }
    // Several notifications are another statement again.
    let mut work = begin(&database, Registry::new().on::<OrderPlaced, _>(Ends("commit"))).await;
    for order in [70, 71] {
        work.track(&mut Order::place(order, 1, "4111 1111").events);
    }
    assert!(matches!(work.commit().await, Err(Error::Ended)));
    assert_eq!(database.count("events").await, 0);
    // A connection that went through this is as good as another.
    let mut work = begin(&database, registry()).await;
    place(&mut Order::place(80, 1, "4111 1111"), &mut work).await.expect("it is placed");
    work.commit().await.expect("nothing is left of it");
    assert_eq!(database.count("events").await, 1);
}

#[tokio::test]
async fn what_a_scope_undoes_does_not_end_the_transaction() {
    let database = shop().await;
    let mut work = begin(&database, registry()).await;
    let scope = work.begin_scope().await.expect("a scope begins");
    write_down("undone", &mut work).await.expect("it is written");
    work.undo(scope).await.expect("it is undone");
    place(&mut Order::place(1, 1, "4111 1111"), &mut work).await.expect("it is placed");
    work.commit().await.expect("it is one transaction");
    assert_eq!((database.count("events").await, database.count("audit_log").await), (1, 0));
}

#[tokio::test]
async fn a_unit_of_work_takes_over_what_the_caller_has_begun() {
    let (database, registry) = (shop().await, Arc::new(registry()));
    let options = Options::default();
    for commits in [true, false] {
        let mut transaction = database.pool().begin().await.expect("a transaction begins");
        sqlx::query("insert into audit_log values ('by the caller')").execute(&mut *transaction).await.expect("it is written");
        let mut work = UnitOfWork::take_over(transaction, &registry, &options).await.expect("it is taken over");
        place(&mut Order::place(1, 1, "4111 1111"), &mut work).await.expect("it is placed");
        if commits {
            work.commit().await.expect("all of it is committed");
        } else {
            drop(work);
        }
        assert_eq!((database.count("events").await, database.count("audit_log").await), (1, 1));
        database.execute("delete from orders").await;
    }
    let connection = database.pool().acquire().await.expect("a connection");
    let serializable = Options::default().isolation(Isolation::Serializable);
    let mut work = UnitOfWork::begin_on(connection, &registry, &serializable).await.expect("it begins");
    let isolation: String = sqlx::query_scalar("show transaction_isolation").fetch_one(work.connection()).await.expect("a word");
    assert_eq!(isolation, "serializable");
    place(&mut Order::place(2, 1, "4111 1111"), &mut work).await.expect("it is placed");
    work.commit().await.expect("it is committed");
    assert_eq!(database.count("events").await, 2);
}

/// Of the shape of `anyhow::Error`: made of any error, leads to one, is none.
struct Whatever(Failure);

impl<E: StdError + Send + Sync + 'static> From<E> for Whatever {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl Deref for Whatever {
    type Target = dyn StdError + Send + Sync;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Whatever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Succeeds at the third try.
struct Third(AtomicU32);

impl Third {
    fn tried(&self) -> Result<u32, Conflict> {
        let tried = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        if tried < 3 { Err(Conflict::of("order 7")) } else { Ok(tried) }
    }
}

#[tokio::test]
async fn a_command_may_fail_with_any_error_and_conflicts_are_found_in_it() {
    struct Boxed(Third);
    impl Command for Boxed {
        type Output = u32;
        type Error = Failure;
        async fn run(&self, work: &mut UnitOfWork) -> Result<u32, Failure> {
            write_down("tried", work).await?;
            Ok(self.0.tried()?)
        }
    }
    struct LikeAnyhow(Third);
    impl Command for LikeAnyhow {
        type Output = u32;
        type Error = Whatever;
        async fn run(&self, work: &mut UnitOfWork) -> Result<u32, Whatever> {
            sqlx::query("select 1").execute(work.connection()).await?;
            Ok(self.0.tried()?)
        }
    }
    struct Fails;
    impl Command for Fails {
        type Output = ();
        type Error = Failure;
        async fn run(&self, _: &mut UnitOfWork) -> Result<(), Failure> {
            Err("out of stock".into())
        }
    }
    let database = shop().await;
    let pipeline = Pipeline::new(database.pool().clone(), registry());
    let third = || Third(AtomicU32::new(0));
    assert_eq!(pipeline.send(&Boxed(third())).await.expect("the third succeeds"), 3);
    assert_eq!(pipeline.send(&LikeAnyhow(third())).await.expect("the third succeeds"), 3);
    assert_eq!(pipeline.send(&Fails).await.expect_err("it never succeeds").to_string(), "out of stock");
    assert_eq!(database.count("audit_log").await, 1);
}
