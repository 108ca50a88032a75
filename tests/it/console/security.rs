//! Who is let in, and what nobody can have a browser do.

use std::collections::BTreeSet;

use outboxd::console::{RouteRule, route_rules};
use outboxd::domain::Role;
use outboxd::management;

use super::*;
use crate::support::get;

const HANDLER: &str = "[[handlers]]\nname = \"billing\"\nkind = \"discard\"\n";

fn settings() -> String {
    tokens() + HANDLER
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_token_and_every_answer_is_guarded() {
    let database = TestDatabase::create().await;
    let console = Served::relay(&database, &settings()).await;
    let stranger = console.stranger();
    let front = stranger.get("/").await;
    assert_eq!((front.status, front.header("location")), (303, Some("./login")), "{front:?}");
    let deep = stranger.get("/dead-letters/list?handler=billing").await;
    let next = "../login?next=dead-letters%2Flist%3Fhandler%3Dbilling";
    assert_eq!((deep.status, deep.header("location")), (303, Some(next)), "{deep:?}");
    let login = stranger.get("/login").await;
    let styles = login.body.split("href=\"").find(|rest| rest.contains("assets/console-")).expect("a style sheet");
    let styles = stranger.get(styles.split('"').next().expect("it ends").trim_start_matches('.')).await;
    assert_eq!((login.status, styles.status), (200, 200));
    let api = stranger.get("/api/v1/status").await;
    assert_eq!((api.status, api.header("content-type")), (401, Some("application/problem+json")), "{api:?}");
    // In the form of the API, whoever refuses, and before the question of where a change comes from.
    let change = stranger.ask("POST", "/api/v1/handlers/billing/pause", &[("content-type", "application/json")], "{}").await;
    let elsewhere = stranger.clone().host("evil.example").get("/api/v1/status").await;
    for (refused, status, kind) in [(&api, 401, "unauthorized"), (&change, 401, "unauthorized"), (&elsewhere, 421, "misdirected")] {
        let problem: serde_json::Value = serde_json::from_str(&refused.body).expect("a problem");
        assert_eq!((refused.status, &problem["type"]), (status, &format!("urn:outboxd:{kind}").into()), "{refused:?}");
    }
    let unknown = stranger.get("/nowhere").await;
    assert_eq!(unknown.status, 303, "whether there is such a page is nobody's business");
    let inside = console.bearer(READER).get("/").await;
    assert!(inside.status == 200 && inside.body.contains("billing"), "{inside:?}");
    let misdirected = stranger.clone().host("evil.example").get("/").await;
    for visit in [&front, &login, &styles, &api, &unknown, &inside, &misdirected] {
        let policy = visit.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{visit:?}"
        );
        assert_eq!(visit.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(visit.header("referrer-policy"), Some("same-origin"));
        assert_eq!(visit.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(visit.header("cross-origin-resource-policy"), Some("same-origin"));
        assert!(visit.header("access-control-allow-origin").is_none());
        let is_file = std::ptr::eq(visit, &styles);
        assert_eq!(visit.header("cache-control").is_some_and(|value| value == "no-store"), !is_file, "{visit:?}");
    }
    console.stop().await;
}

/// A page of another site whose name was made to lead to this machine sends its own name.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_ours_is_refused_with_and_without_a_token() {
    let database = TestDatabase::create().await;
    let console = Served::alone(&database, &format!("hosts = [\"outboxd.internal\"]\n{}", settings())).await;
    let token = format!("authorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n");
    let admin = console.bearer(ADMIN);
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9189", "", "a.outboxd.internal"] {
        assert_eq!(admin.clone().host(host).get("/").await.status, 421, "{host}");
    }
    let (address, port) = (&console.address, console.address.rsplit(':').next().expect("a port"));
    for request in [
        format!("GET / HTTP/1.1\r\nhost: {address}\r\nhost: evil.example\r\n{token}"),
        format!("GET http://evil.example/ HTTP/1.1\r\nhost: {address}\r\n{token}"),
        format!("GET / HTTP/1.0\r\n{token}"),
    ] {
        let visit = admin.send(&request).await;
        assert!(matches!(visit.status, 400 | 421), "{request}: {visit:?}");
    }
    for host in [address.clone(), format!("localhost:{port}"), "outboxd.internal".to_owned(), "OUTBOXD.internal:443".to_owned()] {
        assert_eq!(admin.clone().host(&host).get("/").await.status, 200, "{host}");
    }
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_another_site_asks_a_browser_for_changes_nothing() {
    let database = TestDatabase::create().await;
    let console = Served::relay(&database, &settings()).await;
    let browser = console.browser(OPERATOR).await;
    let (pause, form) = ("/handlers/billing/pause", [("because", "a test")]);
    let paused = async || database.count("subscriptions where paused_at is not null").await;
    let own = format!("http://{}", console.address);
    for headers in [
        vec![],
        vec![("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")],
        vec![("sec-fetch-site", "same-site"), ("origin", own.as_str())],
        vec![("sec-fetch-site", "none")],
        vec![("origin", "null")],
        vec![("origin", "http://evil.example")],
        vec![("referer", own.as_str())],
    ] {
        let visitor = headers.iter().fold(browser.clone(), |visitor, (name, value)| visitor.with(name, value));
        let visit = visitor.post(pause, &form).await;
        assert_eq!((visit.status, paused().await), (403, 0), "{headers:?}: {visit:?}");
        let api = visitor
            .ask("POST", "/api/v1/handlers/billing/pause", &[("content-type", "application/json")], "{\"because\":\"x\"}")
            .await;
        assert_eq!((api.status, paused().await), (403, 0), "{headers:?}: {api:?}");
        assert_eq!(visitor.post("/logout", &[]).await.status, 403, "{headers:?}");
        assert_eq!(visitor.post("/login", &[("token", ADMIN)]).await.status, 403, "{headers:?}: nobody logs another person in");
    }
    assert_eq!(browser.get(pause).await.status, 200, "looking is allowed from anywhere");
    assert_eq!(paused().await, 0, "and changes nothing");
    let visit = browser.clone().with("origin", &own).post(pause, &form).await;
    assert_eq!(
        (visit.status, visit.header("location"), paused().await),
        (303, Some("../../handlers/billing?done=paused"), 1),
        "{visit:?}"
    );
    let visit = browser.clone().same_origin().post("/handlers/billing/resume", &[]).await;
    assert_eq!((visit.status, paused().await), (303, 0), "{visit:?}");
    let visit = console.bearer(OPERATOR).post(pause, &form).await;
    assert_eq!((visit.status, paused().await), (303, 1), "a program shows its token with every request: {visit:?}");
    let acts: Vec<(String, String, String)> =
        sqlx::query_as("select actor, action, via from audit order by id").fetch_all(database.pool()).await.expect("the audit");
    let acts: Vec<_> = acts.iter().map(|(actor, action, via)| (actor.as_str(), action.as_str(), via.as_str())).collect();
    assert_eq!(acts, [("operator", "pause", "console"), ("operator", "resume", "console"), ("operator", "pause", "console")]);
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_would_tell_counts_from_the_proxy_only() {
    let database = TestDatabase::create().await;
    let said = |visitor: Visitor| visitor.with("x-user", "mallory").with("x-groups", "oncall").with("x-forwarded-proto", "https");
    let proxy = |trusted: &str| {
        format!(
            "[console.proxy]\ntrusted = [\"{trusted}\"]\nuser_header = \"X-User\"\ngroups_header = \"X-Groups\"\ngroups = {{ oncall = \"operate\" }}\n"
        )
    };
    let console = Served::alone(&database, &format!("{}{}", proxy("10.0.0.7"), settings())).await;
    assert_eq!(said(console.stranger()).get("/").await.status, 303, "this peer is no proxy");
    assert_eq!(said(console.stranger()).same_origin().post("/handlers/billing/pause", &[("because", "x")]).await.status, 401);
    console.stop().await;
    let console = Served::relay(&database, &format!("{}{}", proxy("127.0.0.1"), settings())).await;
    let user = said(console.stranger());
    let front = user.get("/").await;
    assert!(front.status == 200 && front.body.contains("mallory"), "{front:?}");
    assert_eq!(
        user.post("/handlers/billing/pause", &[("because", "x")]).await.status,
        403,
        "a proxy adds the user whatever site has asked"
    );
    assert_eq!(user.clone().with("x-groups", "admins").get("/").await.status, 401, "said twice");
    assert_eq!(console.stranger().with("x-user", "mallory").get("/").await.status, 401, "no group, no role");
    let visit = console.stranger().with("x-forwarded-proto", "https").same_origin().post("/login", &[("token", READER)]).await;
    let cookie = visit.header("set-cookie").expect("a cookie");
    assert!(
        cookie.starts_with("__Host-outboxd=") && cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"),
        "{cookie}"
    );
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_removed_ends_its_sessions_with_the_reload() {
    let database = TestDatabase::create().await;
    let console = Served::relay(&database, &settings()).await;
    let (operator, reader) = (console.browser(OPERATOR).await, console.browser(READER).await);
    assert_eq!(operator.get("/keys").await.status, 200);
    let left = entry("reader", READER, Role::Read, true) + &entry("admin", ADMIN, Role::Admin, true);
    let config = Binary::relay_config(database.url(), &format!("[console]\nlisten = \"127.0.0.1:0\"\n{left}{HANDLER}"));
    console.binary.rewrite(&config);
    console.running.hang_up();
    console.running.wait_for_output("configuration reloaded").await;
    assert_eq!(operator.get("/keys").await.status, 303, "the session is over");
    assert_eq!(console.bearer(OPERATOR).get("/keys").await.status, 401);
    assert!(reader.get("/").await.body.contains("payloads"), "the other one goes on, with the rights that it has now");
    // A cookie is good until it is given back, and not a request longer.
    let out = reader.clone().same_origin().post("/logout", &[]).await;
    assert!(out.status == 303 && out.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")), "{out:?}");
    assert_eq!(reader.get("/").await.status, 303, "whoever kept the cookie has nothing");
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_five_wrong_tokens_a_peer_waits_and_metrics_tell() {
    let database = TestDatabase::create().await;
    let config = Binary::relay_config(database.url(), &format!("[console]\nlisten = \"127.0.0.1:0\"\n{}", settings()));
    let binary = Binary::with_config(&config.replace("[http]\nlisten = \"\"", "[http]\nlisten = \"127.0.0.1:0\""));
    let console = Served::of(binary, &["run"]).await;
    let session = console.browser(OPERATOR).await;
    let stranger = console.stranger().same_origin();
    for guess in 0..5 {
        let visit = stranger.post("/login", &[("token", &format!("guess-{guess}"))]).await;
        assert!(visit.status == 401 && !visit.body.contains(&format!("guess-{guess}")), "{visit:?}");
    }
    let visit = stranger.post("/login", &[("token", ADMIN)]).await;
    assert_eq!(visit.status, 429, "{visit:?}");
    assert!(
        visit.header("retry-after").and_then(|wait| wait.parse::<u64>().ok()).is_some_and(|wait| (1..=61).contains(&wait)),
        "{visit:?}"
    );
    assert_eq!(console.bearer(ADMIN).get("/").await.status, 429, "nor is a token in a header looked at");
    assert_eq!(session.get("/").await.status, 200, "whoever is in stays in");
    assert_eq!(session.post("/handlers/billing/pause", &[("because", "x")]).await.status, 403);
    let line = console.running.wait_for_output("serving /metrics").await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let metrics = get(address, "/metrics").await.expect("it serves").1;
    for line in [
        "outboxd_console_logins_total{outcome=\"accepted\"} 1",
        "outboxd_console_logins_total{outcome=\"refused\"} 5",
        "outboxd_console_logins_total{outcome=\"limited\"} 2",
        "outboxd_console_requests_total{answer=\"limited\"} 2",
        "outboxd_console_requests_total{answer=\"cross_site\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!console.running.stderr().contains("guess-"), "no token is in the log");
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_the_role_that_stands_in_its_table() {
    let database = TestDatabase::create().await;
    let payloads = "token-of-one-with-payloads-0";
    let console = Served::alone(&database, &(settings() + &entry("payloads", payloads, Role::Read, true))).await;
    let callers = [
        (console.stranger(), None, false),
        (console.bearer(READER), Some(Role::Read), false),
        (console.bearer(payloads), Some(Role::Read), true),
        (console.bearer(OPERATOR), Some(Role::Operate), false),
        (console.bearer(ADMIN), Some(Role::Admin), true),
    ];
    let mut seen = BTreeSet::new();
    for RouteRule { method, path, role, needs_payload } in route_rules() {
        let target = format!("/{}", path.replace("{}", "00000000-0000-4000-8000-000000000001"));
        for (visitor, has, sees) in &callers {
            let visit = if method == "GET" { visitor.get(&target).await } else { visitor.post(&target, &[]).await };
            let may = has.is_some_and(|has| has >= role) && (*sees || !needs_payload);
            match (has, may) {
                // No browser would have sent it without the headers of a page.
                (None, _) => assert!(visit.status == if method == "GET" { 303 } else { 403 }, "{method} {target}: {visit:?}"),
                (Some(_), false) => assert_eq!(visit.status, 403, "{has:?} {method} {target}: {visit:?}"),
                (Some(_), true) => {
                    assert!(!matches!(visit.status, 401 | 403 | 405 | 500 | 503), "{has:?} {method} {target}: {visit:?}")
                }
            }
            seen.insert(visit.status);
        }
    }
    assert!(seen.contains(&200) && seen.contains(&404) && seen.contains(&422), "{seen:?}");
    for route in management::ROUTES {
        let target = format!("/api/v1{}", route.path.replace("{handler}", "billing"));
        let target =
            target.split('/').map(|part| if part.starts_with('{') { "00000000-0000-4000-8000-000000000001" } else { part });
        let target = target.collect::<Vec<_>>().join("/");
        let method = format!("{:?}", route.verb).to_uppercase();
        let visit = console.stranger().same_origin().ask(&method, &target, &[], "").await;
        assert_eq!(visit.status, 401, "{method} {target}: {visit:?}");
        let visit = console.bearer(ADMIN).ask(&method, &target, &[], "").await;
        assert!(!matches!(visit.status, 401 | 403), "the API knows who calls: {method} {target}: {visit:?}");
    }
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_before_the_console_may_be_taken_away_or_not_and_leads_nowhere_else() {
    let database = TestDatabase::create().await;
    let console = Served::alone(&database, &format!("path = \"/outboxd\"\n{}", settings())).await;
    let reader = console.bearer(READER);
    for path in ["/outboxd/", "/", "/outboxd/keys", "/keys", "/outboxd/api/v1/relays"] {
        assert_eq!(reader.get(path).await.status, 200, "{path}");
    }
    let bare = reader.get("/outboxd").await;
    assert_eq!((bare.status, bare.header("location")), (303, Some("./outboxd/")));
    for path in [
        "/outboxdx/",
        "/outboxd//keys",
        "//keys",
        "/outboxd/../keys",
        "/outboxd/%2e%2e/keys",
        "/outboxd/keys/",
        "/outboxd/keys%2f",
        "/KEYS",
    ] {
        assert_eq!(reader.get(path).await.status, 404, "{path}");
    }
    for path in ["/outboxd/assets/../login", "/assets/console.css", "/outboxd/handlers/%ff", "/outboxd/handlers/%00"] {
        let visit = reader.get(path).await;
        assert_eq!(visit.status, 404, "{path}: {visit:?}");
    }
    let page = reader.get("/outboxd/handlers/billing/pause").await;
    assert!(
        !page.body.contains("href=\"/") && !page.body.contains("action=\"/") && !page.body.contains("src=\"/"),
        "{}",
        page.body
    );
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_for_others_without_tokens_is_refused_and_a_local_one_only_shows() {
    let database = TestDatabase::create().await;
    for command in ["run", "console"] {
        let binary = Binary::relay(database.url(), &format!("[console]\nlisten = \"0.0.0.0:0\"\n{HANDLER}"));
        let finished = binary.run(&[command]).await;
        assert_eq!(finished.code, Some(64), "{finished:?}");
        assert!(
            finished.stderr.contains("can be reached from other machines") && finished.stderr.contains("outboxd console token"),
            "{}",
            finished.stderr
        );
    }
    let binary = Binary::relay(database.url(), HANDLER);
    let finished = binary.run(&["console", "--listen", "0.0.0.0:0"]).await;
    assert!(finished.code == Some(64) && finished.stderr.contains("can be reached from other machines"), "{finished:?}");
    let finished = binary.run(&["console", "token", "alice", "--role", "operate"]).await;
    assert!(
        finished.code == Some(0) && finished.stdout.contains("[[console.tokens]]\nname = \"alice\"\nrole = \"operate\""),
        "{finished:?}"
    );

    let console = Served::relay(&database, HANDLER).await;
    let local = console.stranger();
    let front = local.get("/").await;
    assert!(front.status == 200 && front.body.contains("billing") && front.body.contains("local"), "{front:?}");
    assert_eq!(local.clone().same_origin().post("/handlers/billing/pause", &[("because", "x")]).await.status, 403);
    assert_eq!(local.get("/payloads/00000000-0000-4000-8000-000000000001").await.status, 403);
    assert_eq!(local.clone().with("x-forwarded-for", "192.0.2.1").get("/").await.status, 401, "it came from elsewhere");
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_shown_to_whoever_may_see_it_without_what_is_redacted_and_the_log_says_who_looked() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &format!("redact = [\"customer.email\"]\n{}{}", tokens(), webhook(&receiver))).await;
    let id = dead_letters(&database, 1).await[0];
    for token in [READER, OPERATOR] {
        assert_eq!(console.bearer(token).get(&format!("/payloads/{id}")).await.status, 403);
        assert_eq!(console.bearer(token).get(&format!("/api/v1/events/{id}/payload")).await.status, 403);
        let page = console.bearer(token).get(&format!("/e/{id}")).await;
        assert!(page.status == 200 && page.body.contains("bytes") && !page.body.contains("ann@"), "{page:?}");
    }
    assert!(!console.running.stderr().contains("a payload was shown"), "nobody has looked");
    for path in [format!("/payloads/{id}"), format!("/api/v1/events/{id}/payload"), format!("/api/v1/events/{id}")] {
        let page = console.bearer(ADMIN).get(&path).await;
        assert!(page.status == 200 && !page.body.contains("ann@"), "{path}: {page:?}");
        assert!(page.body.contains("[redacted]"), "{path}: {}", page.body);
    }
    let line = console.running.wait_for_output("a payload was shown").await;
    assert!(line.contains("admin") && line.contains(&id.to_string()), "{line}");
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_served_and_one_that_a_killed_process_left_behind_is_replaced() {
    let database = TestDatabase::create().await;
    let binary = Binary::relay(database.url(), &settings());
    let path = binary.directory().join("console.sock");
    let listen = format!("unix:{}", path.display());
    let running = binary.spawn(&["console", "--listen", &listen]);
    running.wait_for_output("serving the console").await;
    let taken = binary.run(&["console", "--listen", &listen]).await;
    assert!(taken.code == Some(1) && taken.stderr.contains("could not listen"), "one that is in use is left alone: {taken:?}");
    running.kill().await;
    assert!(path.exists(), "it was left behind");
    let running = binary.spawn(&["console", "--listen", &listen]);
    running.wait_for_output("serving the console").await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    let request = format!("GET /keys HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {READER}\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Blocked keys"), "{answer}");
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
    assert!(!path.exists(), "an orderly end removes it");
}
