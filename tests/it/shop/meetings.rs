//! Commands that meet on one aggregate.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use sqlx::Connection;

use super::{Shop, placed};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_orders_that_meet_on_one_account_one_is_run_again_and_both_succeed_once_each() {
    let shop = Shop::new().await;
    let _open = shop.open().await;
    shop.order("ann", 1).await;
    let mut holder = sqlx::PgConnection::connect(&shop.url).await.expect("the server takes connections");
    let mut held = holder.begin().await.expect("a transaction begins");
    sqlx::query("select 1 from shop.accounts for update").execute(&mut *held).await.expect("the account is locked");
    let asking: Vec<_> = (0..2).map(|_| tokio::spawn(shop.ordering("ann", 1).send())).collect();
    // Both have read version 1 and wait with an update that is good for version 1 only: the second of them finds no row.
    shop.wait_for("pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", 2).await;
    held.rollback().await.expect("the account is free");

    let mut events = BTreeSet::new();
    for asked in asking {
        let order = placed(asked.await.expect("no panic").expect("the shop answers")).await;
        events.insert(order["events"][0]["id"].to_string());
    }
    assert_eq!(events.len(), 2);
    assert_eq!(shop.count("shop.accounts where points = 15 and version = 3").await, 1);
    assert_eq!((shop.count("shop.orders").await, shop.count("outbox.events").await), (3, 3));
    assert_eq!(
        shop.count("(select nextval('shop.order_numbers') n) s where n = 5").await,
        1,
        "four numbers for three orders: one ran twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_orders_at_once_on_one_account_give_exactly_their_points() {
    let shop = Shop::new().await;
    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    let placed = join_all((0..20).map(|_| shop.order("ann", 3))).await;
    let ids: BTreeSet<String> = placed.iter().map(|order| order["order"].to_string()).collect();
    assert_eq!(ids.len(), 20);
    assert_eq!(shop.count("shop.accounts where points = 300 and version = 20").await, 1);
    assert_eq!((shop.count("shop.orders").await, shop.count("outbox.events where type = 'order.placed'").await), (20, 20));
    assert_eq!(shop.count("shop.statements where points = 15").await, 20);

    shop.wait_for("outbox.deliveries where state = 'delivered'", 40).await;
    assert_eq!(shop.count("(select distinct event_id from mailer.mails) m").await, 20);
    assert_eq!(shop.count("mailer.mails").await, 20);
    assert_eq!(shop.get("/stock/tea").await["reserved"], 60);
}
