//! Blocked keys: told with what they wait for, and let go.

use super::{Outbox, state};
use crate::dead_letters::relay::{start_relay, wait_for_delivered};

#[tokio::test]
async fn a_blocked_key_is_told_with_what_it_waits_for() {
    let outbox = Outbox::create().await;
    let head = outbox.add("retrying", Some("a")).await;
    for (state, key) in [("waiting", "a"), ("waiting", "a"), ("retrying", "b"), ("dead", "c"), ("waiting", "c"), ("waiting", "d")] {
        outbox.add(state, Some(key)).await;
    }
    // Only a dead letter that holds its key is what the key waits for.
    assert_eq!(outbox.run_json(&["keys", "list"]).await["keys"].as_array().map(Vec::len), Some(1));
    outbox.database.execute("update outbox.deliveries set holds_key = true where state = 'dead'").await;

    let keys = outbox.run_json(&["keys", "list", "--handler", "billing"]).await;

    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "nobody waits behind b, nothing holds d: {keys}");
    let first = &keys["keys"][0];
    assert_eq!((first["key"].as_str(), first["followers"].as_u64()), (Some("a"), Some(2)));
    assert_eq!((first["head"].as_str(), first["state"].as_str()), (Some(head.to_string().as_str()), Some("retrying")));
    assert_eq!((keys["keys"][1]["key"].as_str(), keys["keys"][1]["state"].as_str()), (Some("c"), Some("dead")));
    let text = outbox.run(&["keys", "list"]).await.stdout;
    assert!(text.contains(&head.to_string()) && text.contains("server_error (500)"), "{text}");
}

#[tokio::test]
async fn a_skipped_head_is_a_dead_letter_that_says_why() {
    let outbox = Outbox::create().await;
    // One that nobody waits for: the handler went on when it died.
    outbox.add("dead", Some("a")).await;
    let head = outbox.add("retrying", Some("a")).await;
    outbox.add("waiting", Some("a")).await;
    let refused = outbox.run(&["keys", "skip", "billing", "a", "--because", "sent by hand"]).await;
    assert_eq!((refused.code, outbox.states().await[1].0.as_str()), (Some(64), "retrying"), "{refused:?}");

    let done = outbox.run_json(&["keys", "skip", "billing", "a", "--because", "sent by hand", "--yes"]).await;

    assert_eq!((done["head"].as_str(), done["was"].as_str()), (Some(head.to_string().as_str()), Some("retrying")));
    assert_eq!(outbox.states().await, [state("dead"), state("dead"), state("waiting")]);
    let kept = "deliveries where reason = 'operator' and detail = 'sent by hand; last failed with server_error: boom'
                 and error = 'sent by hand' and fingerprint is not null and not holds_key and handled_at is not null";
    assert_eq!(outbox.database.count(kept).await, 1);
    let audit = format!(
        "audit where actor = 'ada' and action = 'skip_key' and handler = 'billing' and reason = 'sent by hand'
          and filter->>'key' = 'a' and filter->'ids' ? '{head}'"
    );
    assert_eq!(outbox.database.count(&audit).await, 1);
    let again = outbox.run(&["keys", "skip", "billing", "a", "--because", "x", "--yes"]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("waits for nothing"), "{}", again.stderr);
}

/// With `hold_key` the dead letter itself held the key; it stays, and holds no more.
#[tokio::test]
async fn followers_go_on_when_a_head_is_skipped() {
    for (head, on_dead_letter) in [("dead", "hold_key"), ("retrying", "hold_key"), ("retrying", "continue")] {
        let outbox = Outbox::create().await;
        outbox.add(head, Some("a")).await;
        outbox.add("waiting", Some("a")).await;
        outbox.add("waiting", Some("a")).await;
        outbox.database.execute("update outbox.deliveries set due_at = now() + interval '1 hour' where state = 'retrying'").await;
        outbox.database.execute("update outbox.deliveries set holds_key = true where state = 'dead'").await;
        outbox.read_all().await;
        let (_binary, _relay) = start_relay(&outbox, &format!("on_dead_letter = \"{on_dead_letter}\"")).await;
        assert_eq!(outbox.database.count("deliveries where state = 'waiting'").await, 2, "the key is blocked");

        outbox.run_json(&["keys", "skip", "billing", "a", "--because", "x", "--yes"]).await;

        wait_for_delivered(&outbox, 2).await;
        assert_eq!(outbox.states().await[0], state("dead"), "{head} {on_dead_letter}");
    }
}
