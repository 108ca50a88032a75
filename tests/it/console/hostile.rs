//! What strangers write: event types, keys, answers, notes. None of it is more than text, on any page.

use std::collections::BTreeSet;

use super::*;

/// A tag, an attribute that a script library would obey, the end of an attribute, a turn of the direction, and what a terminal obeys.
const HOSTILE: &str =
    "<img src=x onerror=alert(1)><script>alert(2)</script>\" hx-get=\"/x\" onload=\"alert(3) '\u{202e}evil\u{1b}[2J&lt;";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stranger_wrote_is_more_than_text_on_any_page() {
    let database = TestDatabase::create().await;
    let receiver = Receiver::answering(|_| Answer::status(422).body(HOSTILE)).await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver).replace("\"order.*\"", "\"*\""))).await;
    let long = format!("{HOSTILE}{}", "x".repeat(4_000));
    let event = |kind: &str| {
        NewRow::new(kind).of(HOSTILE, &long).payload(json!({ HOSTILE: HOSTILE })).headers(json!({ "tenant": HOSTILE }))
    };
    let ids = database.insert_events([event(HOSTILE), event("order.placed")]).await;
    eventually("both are dead letters", || async { (database.count("deliveries where state = 'dead'").await == 2).then_some(()) })
        .await;
    let operator = console.bearer(OPERATOR);
    let acts = [
        operator.post("/handlers/billing/pause", &[("because", HOSTILE)]).await,
        operator.post("/handlers/billing/resume", &[]).await,
        operator.post("/handlers/billing/pause", &[("because", HOSTILE)]).await,
    ];
    assert!(acts.iter().all(|visit| visit.status == 303), "{acts:?}");
    let preview = operator.get("/replays/new?handler=billing").await;
    let (as_of, expected, replay) = (preview.hidden("as_of"), preview.hidden("expected"), preview.hidden("replay"));
    let form = [
        ("handler", "billing"),
        ("as_of", &as_of),
        ("expected", &expected),
        ("replay", &replay),
        ("how", "all"),
        ("because", HOSTILE),
    ];
    assert_eq!(operator.post("/replays/new", &form).await.status, 303);
    let group: String =
        sqlx::query_scalar("select lpad(to_hex(fingerprint), 16, '0') from deliveries where state = 'dead' limit 1")
            .fetch_one(database.pool())
            .await
            .expect("a group");
    assert_eq!(operator.post("/dead-letters/note", &[("group", &group), ("because", HOSTILE)]).await.status, 303);

    // Every page that a link leads to, and some that nobody links.
    let admin = console.bearer(ADMIN);
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("type", HOSTILE).append_pair("key", HOSTILE).finish();
    let mut left: Vec<String> = vec![
        "/".to_owned(),
        format!("/payloads/{}", ids[0]),
        format!("/e/{}", ids[1]),
        format!("/dead-letters?{query}"),
        format!("/events?{query}"),
        format!("/handlers/{}", url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>()),
        format!("/keys/skip?handler=billing&{query}"),
        format!("/login?next={}", url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>()),
        format!("/replays/{replay}?done={}", url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>()),
    ];
    let mut seen = BTreeSet::new();
    while let Some(path) = left.pop() {
        if !seen.insert(path.clone()) || seen.len() > 200 {
            continue;
        }
        let visit = admin.get(&path).await;
        assert!(!matches!(visit.status, 500 | 503), "{path}: {visit:?}");
        if visit.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            assert_harmless(&path, &visit.body);
            left.extend(links(&path, &visit.body));
        }
    }
    assert!(seen.len() > 25, "{seen:?}");
    console.stop().await;
}

/// The page has no tag and no attribute but its own, and nothing that turns the direction of a text.
fn assert_harmless(path: &str, page: &str) {
    for mark in ["<img", "<script>", "onerror=\"", "onload=\"", "hx-get=\"", "style=\"", "<style"] {
        assert!(!page.contains(mark), "{path}: {mark} in {page}");
    }
    // What the visitor typed stands in its field as it was typed, or the next search would be for something else.
    let typed = page.split(" value=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let shown = typed.fold(page.to_owned(), |shown, typed| shown.replace(&format!(" value=\"{typed}\""), ""));
    assert!(!shown.chars().any(|c| matches!(c, '\u{202e}' | '\u{1b}')), "{path}: {page}");
    assert_eq!(page.matches("<script ").count(), 1, "{path}");
    // Within a tag, a quote ends an attribute; so the quotes of every tag are even.
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag) {
        assert_eq!(tag.matches('"').count() % 2, 0, "{path}: <{tag}>");
    }
}

/// Where the links of a page lead, from the root.
fn links(path: &str, page: &str) -> Vec<String> {
    let base = url::Url::parse("http://x").expect("a base").join(path).expect("a path");
    let targets = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(|link| link.replace("&amp;", "&"));
    let targets = targets.filter(|link| link.starts_with('.')).filter_map(|link| base.join(&link).ok());
    targets.map(|url| url[url::Position::BeforePath..].to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_is_of_what_was_seen_and_of_nothing_if_that_has_changed() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver))).await;
    dead_letters(&database, 3).await;
    let operator = console.bearer(OPERATOR);
    let path = "/dead-letters/discard";
    let preview = operator.get(&format!("{path}?handler=billing")).await;
    assert!(
        preview.body.contains("Discard 3 dead letters for good") && preview.body.contains("outboxd dead-letters discard"),
        "{}",
        preview.body
    );
    let (as_of, expected) = (preview.hidden("as_of"), preview.hidden("expected"));
    assert_eq!(expected, "3");
    // Two more come: they are not part of what was seen.
    dead_letters(&database, 2).await;
    let mut form = vec![("handler", "billing"), ("as_of", as_of.as_str()), ("expected", "4"), ("because", "a test")];
    let drifted = operator.post(path, &form).await;
    assert!(
        drifted.status == 200 && drifted.body.contains("Nothing was changed: 4 matched when you looked, and 3 by now"),
        "{}",
        drifted.body
    );
    assert_eq!(database.count("deliveries where state = 'discarded'").await, 0);
    form[2].1 = &expected;
    let without = operator.post(path, &form[..3]).await;
    assert!(without.status == 422 && without.body.contains("say why"), "{without:?}");
    let done = operator.post(path, &form).await;
    assert_eq!((done.status, done.header("location")), (303, Some("../dead-letters?handler=billing&done=discarded")), "{done:?}");
    let left = operator.get("/dead-letters?handler=billing&done=discarded").await;
    assert!(
        left.body.contains("<strong>2 dead letters</strong>") && left.body.contains("The remaining dead letters are below"),
        "{}",
        left.body
    );
    assert_eq!(database.count("deliveries where state = 'discarded'").await, 3);
    // The pages do not need a relay.
    console.stop().await;
    let alone = Served::alone(&database, &tokens()).await;
    let front = alone.bearer(READER).get("/").await;
    assert!(front.body.contains("Something is broken") && front.body.contains("billing"), "{}", front.body);
    alone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_sent_twice_starts_one_replay() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver))).await;
    let ids = dead_letters(&database, 12).await;
    receiver.answer_with(|_| Answer::ok());
    let operator = console.bearer(OPERATOR);
    let preview = operator.get("/replays/new?handler=billing").await;
    let (as_of, replay) = (preview.hidden("as_of"), preview.hidden("replay"));
    let first: Vec<String> = preview.body.split("name=\"first\" value=\"").skip(1).map(|rest| rest[..36].to_owned()).collect();
    let chosen: Vec<Uuid> = first.iter().map(|id| id.parse().expect("an id")).collect();
    assert!(chosen.len() == 10 && chosen.iter().all(|id| ids.contains(id)), "{chosen:?}");
    let are_oldest: bool = sqlx::query_scalar(
        "select max(handled_at) filter (where id = any ($1)) <= min(handled_at) filter (where id <> all ($1))
           from deliveries join events using (seq)",
    )
    .bind(&chosen)
    .fetch_one(database.pool())
    .await
    .expect("the dead letters");
    assert!(are_oldest, "those that were given up first go first");
    let mut form =
        vec![("handler", "billing"), ("as_of", as_of.as_str()), ("expected", "12"), ("replay", replay.as_str()), ("how", "first")];
    form.extend(first.iter().map(|id| ("first", id.as_str())));
    let started = operator.post("/replays/new", &form).await;
    let rest = format!("../replays/{replay}?done=started&rest=handler%3Dbilling");
    assert_eq!((started.status, started.header("location")), (303, Some(rest.as_str())), "{started:?}");
    let again = operator.post("/replays/new", &form).await;
    assert_eq!((again.status, again.header("location").is_some_and(|to| to.contains("done=known"))), (303, true), "{again:?}");
    eventually("the ten are delivered", || async {
        (database.count("deliveries where state = 'delivered'").await == 10).then_some(())
    })
    .await;
    assert_eq!(database.count("replays").await, 1);
    assert_eq!(database.count("deliveries where state = 'dead'").await, 2, "the rest waits for a decision");
    console.stop().await;
}
