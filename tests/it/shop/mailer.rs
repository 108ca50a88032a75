//! A mailer that is down, for a while or for ever, that is asked twice, and that somebody else writes to.

use serde_json::json;

use super::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_mailer_that_is_down_for_a_while_gets_the_confirmation_afterwards() {
    let shop = Shop::new().await;
    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    shop.mail_is_down(true).await;
    let order = shop.order("ann", 3).await;
    shop.wait_for("outbox.deliveries where state = 'retrying' and attempts >= 2", 1).await;
    assert_eq!(shop.get("/orders/1").await["status"], "placed");
    shop.mail_is_down(false).await;

    shop.wait_for("mailer.mails", 1).await;
    shop.wait_for("outbox.deliveries where state = 'delivered'", 2).await;
    assert_eq!(shop.get("/mailer/mails").await[0]["event"], order["events"][0]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailer_that_never_works_leaves_the_order_as_it_is_and_a_dead_letter() {
    let shop = Shop::new().await;
    let (_open, _relay) = (shop.open().await, shop.start_relay().await);
    shop.mail_is_down(true).await;
    shop.order("ann", 3).await;
    shop.wait_for("outbox.deliveries where state = 'dead' and reason = 'exhausted' and attempts = 7", 1).await;

    assert_eq!(shop.get("/orders/1").await["status"], "placed");
    assert_eq!(shop.get("/accounts/ann").await["points"], 15);
    shop.wait_for("shop.stock where sku = 'tea' and reserved = 3", 1).await;
    assert_eq!(shop.count("mailer.mails").await, 0);
    let listed = shop.relay.run(&["dead-letters", "list"]).await;
    assert!(listed.stdout.contains("confirmation"), "{} {}", listed.stdout, listed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_comes_again_is_no_second_mail() {
    let shop = Shop::new().await;
    let (open, _relay) = (shop.open().await, shop.start_relay().await);
    shop.order("ann", 3).await;
    shop.wait_for("outbox.deliveries where state = 'delivered'", 2).await;

    let again = shop.relay.run(&["handlers", "rewind", "confirmation", "--to", "beginning", "--force", "--yes"]).await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    open.wait_for_output("mail had been sent already").await;
    assert_eq!(shop.count("mailer.mails").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_signed_is_confirmed() {
    let shop = Shop::new().await;
    let _open = shop.open().await;
    let forged = shop.post("/mailer/confirmations", &json!({ "order": 7, "customer": "mallory" })).header("webhook-id", "x");
    assert_eq!(forged.send().await.expect("the mailer answers").status(), 401);
    assert_eq!(shop.count("mailer.mails").await, 0);
}
