//! Processes that are killed: in the middle of an order, and between its commit and the confirmation.

use sqlx::Connection;

use super::{Shop, placed};
use crate::support::eventually;

/// Tables that an order writes to.
const WRITTEN: &[&str] = &["shop.orders", "shop.accounts", "shop.receipts", "shop.statements", "shop.tastes", "outbox.events"];

#[tokio::test(flavor = "multi_thread")]
async fn of_a_shop_that_is_killed_between_the_two_writes_neither_exists() {
    let shop = Shop::new().await;
    let open = shop.open_as(&shop.program.clone().env("SHOP_PAUSE_AT", "between_writes")).await;
    let asking = tokio::spawn(shop.ordering("ann", 3).send());
    open.wait_for_output("paused at between_writes").await;
    let written = "pg_locks where relation = 'shop.orders'::regclass and mode = 'RowExclusiveLock'";
    assert_eq!(shop.count(written).await, 1, "the first of the two has been made");
    let not_yet = "pg_locks where relation = 'shop.accounts'::regclass and mode = 'RowExclusiveLock'";
    assert_eq!(shop.count(not_yet).await, 0, "and the second has not");

    open.kill().await;
    asking.await.expect("no panic").expect_err("nobody answers any more");
    shop.wait_for(written, 0).await;
    for table in WRITTEN {
        assert_eq!(shop.count(table).await, 0, "{table}");
    }

    let _open = shop.open().await;
    shop.order("ann", 3).await;
    for table in WRITTEN {
        assert_eq!(shop.count(table).await, 1, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_confirmed_only_after_its_commit() {
    let shop = Shop::new().await;
    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    // An order of 13 waits in the middle of its commit, everything written.
    shop.execute(
        "create function shop.wait() returns trigger language plpgsql as
             $$ begin perform pg_advisory_xact_lock(1313); return null; end $$;
         create constraint trigger wait after insert on shop.orders deferrable initially deferred
             for each row when (new.quantity = 13) execute function shop.wait()",
    )
    .await;
    let mut gate = sqlx::PgConnection::connect(&shop.url).await.expect("the server takes connections");
    sqlx::query("select pg_advisory_lock(1313)").execute(&mut gate).await.expect("the gate is closed");
    let asking = tokio::spawn(shop.ordering("ann", 13).send());
    let database = "(select oid from pg_database where datname = current_database())";
    shop.wait_for(&format!("pg_locks where locktype = 'advisory' and objid = 1313 and not granted and database = {database}"), 1)
        .await;

    // One that begins later and commits earlier overtakes it.
    shop.order("bob", 1).await;
    shop.wait_for("mailer.mails where customer = 'bob'", 1).await;
    assert_eq!(shop.count("mailer.mails where customer = 'ann'").await, 0);
    sqlx::query("select pg_advisory_unlock(1313)").execute(&mut gate).await.expect("the gate is open");
    placed(asking.await.expect("no panic").expect("the shop answers")).await;
    shop.wait_for("mailer.mails where customer = 'ann'", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_survives_the_crash_of_everything_between_commit_and_send() {
    let shop = Shop::new().await;
    let (open, relay) = (shop.open().await, shop.start_relay().await);
    relay.freeze();
    let order = shop.order("ann", 3).await; // committed: the shop has answered
    assert_eq!((shop.count("outbox.events").await, shop.count("mailer.mails").await), (1, 0));
    relay.kill().await;
    open.kill().await;

    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    let mails = eventually("a mail was sent", || async {
        let mails = shop.get("/mailer/mails").await;
        mails.as_array().is_some_and(|mails| !mails.is_empty()).then_some(mails)
    })
    .await;
    assert_eq!(mails[0]["event"], order["events"][0]["id"]);
    shop.wait_for("outbox.deliveries where state = 'delivered'", 2).await;
    assert_eq!(shop.count("mailer.mails").await, 1);
    assert_eq!(shop.get("/stock/tea").await["reserved"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_fail_alone_costs_no_order() {
    let shop = Shop::new().await;
    let open = shop.open().await;
    shop.order("ann", 1).await;
    shop.execute("drop table shop.tastes").await;
    shop.order("ann", 2).await;
    open.wait_for_output("taste not remembered").await;
    assert_eq!(shop.get("/accounts/ann").await["points"], 15);
    assert_eq!((shop.count("shop.orders").await, shop.count("outbox.events").await), (2, 2));
}
