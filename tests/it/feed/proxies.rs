//! Behind the proxies of a distribution, with its settings: nginx and haproxy as Debian ships them pass pages, waits, streams and
//! WebSockets on; and of two instances behind haproxy one may die.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::client::{ALL, Answer, EventStream, FEED, Served, ask};
use super::pages::order;
use super::wait_for_places;
use crate::hub::raw::{HANDSHAKE, SUBSCRIBE, Socket};
use crate::support::{TestDatabase, eventually, find_program, free_port};

/// A proxy of the test's own; ends with its value.
struct Proxy {
    address: String,
    process: Child,
    _directory: TempDir,
}

impl Proxy {
    /// `config`: of its directory and its address.
    async fn start(program: &Path, arguments: &[&str], config: impl Fn(&Path, &str) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        open_up(directory.path());
        // It cannot be given port 0, so another process may be faster to take the free one: then the next is tried.
        for _ in 0..10 {
            let address = format!("127.0.0.1:{}", free_port());
            let file = directory.path().join("proxy.conf");
            std::fs::write(&file, config(directory.path(), &address)).expect("the directory is ours");
            let mut command = Command::new(program);
            command.args(arguments).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            let mut process = command.spawn().expect("it was just found");
            let is_up = eventually("the proxy listens or is gone", || {
                let is_gone = process.try_wait().expect("the process is our child").is_some();
                let address = address.clone();
                async move {
                    let listens = TcpStream::connect(address).await.is_ok();
                    if is_gone { Some(false) } else { listens.then_some(true) }
                }
            })
            .await;
            if is_up {
                return Self { address, process, _directory: directory };
            }
        }
        panic!("{} does not start", program.display());
    }

    /// Ends its workers, too.
    async fn stop(mut self) {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
        // SAFETY: sends a signal to our own child.
        unsafe { libc::kill(id, libc::SIGTERM) };
        self.process.wait().await.expect("the process is our child");
    }
}

/// Workers run as somebody else where the test runs as root.
fn open_up(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("the directory is ours");
}

/// With what Debian's nginx.conf says of HTTP; WebSockets need the four lines that every manual has for them.
async fn nginx(upstream: &str) -> Option<Proxy> {
    let program = find_program(&["nginx", "/usr/sbin/nginx"], &["-v"]).await?;
    let config = |directory: &Path, address: &str| {
        let at = directory.display();
        format!(
            "daemon off;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\nevents {{ worker_connections 768; }}\nhttp {{\n\
             sendfile on; tcp_nopush on; types_hash_max_size 2048; default_type application/octet-stream; gzip on;\naccess_log off;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; \
             scgi_temp_path {at}/scgi;\n\
             server {{\nlisten {address};\nlocation / {{ proxy_pass http://{upstream}; }}\n\
             location /hubs/ {{\nproxy_pass http://{upstream};\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n\
             proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection \"upgrade\";\n}}\n}}\n}}\n"
        )
    };
    Some(Proxy::start(&program, &["-c"], config).await)
}

/// With the section `defaults` of Debian's file, word for word.
async fn haproxy(servers: &[&str]) -> Option<Proxy> {
    let program = find_program(&["haproxy", "/usr/sbin/haproxy"], &["-v"]).await?;
    let shipped = std::fs::read_to_string("/etc/haproxy/haproxy.cfg").expect("the distribution ships one");
    let defaults = shipped.split_once("\ndefaults\n").expect("it has this section").1;
    let servers: String =
        servers.iter().enumerate().map(|(number, server)| format!("    server s{number} {server} check inter 200ms\n")).collect();
    let config = |_: &Path, address: &str| {
        format!(
            "global\n    maxconn 1000\ndefaults\n{defaults}\nfrontend feed\n    bind {address}\n    default_backend feed\nbackend feed\n{servers}"
        )
    };
    Some(Proxy::start(&program, &["-db", "-f"], config).await)
}

/// The hub, too; nothing but events makes a stream move while the test runs.
fn settings() -> String {
    let feed = FEED.replace("heartbeat = \"200ms\"", "heartbeat = \"20s\"");
    format!("[hub]\npath = \"/hubs/events\"\nkeep_alive = \"1s\"\n{feed}")
}

async fn passes_all_roads(proxy: &str, database: &TestDatabase) {
    let bearer = format!("Bearer {ALL}");
    let as_all = [("authorization", bearer.as_str())];
    let page = ask(proxy, "/v1/feed?limit=2", &as_all).await.expect("answered");
    assert_eq!((page.ids().len(), page.header("x-accel-buffering")), (2, None));
    assert_eq!(page.header("stream-next-offset").map(str::len), Some(33), "{page:?}");
    let end = ask(proxy, "/v1/feed?after=latest", &as_all).await.expect("answered").cursor();

    // A wait, a stream and a WebSocket are open before the event comes.
    let mut stream = EventStream::open(proxy, "/v1/feed?after=latest", ALL, None).await.expect("answered").expect("a stream");
    assert!(stream.next().await.is_some_and(|first| first.retry.is_some()), "the beginning of the stream comes at once");
    let mut socket = Socket::open(proxy, "", &as_all).await.expect("it opens");
    socket.say(HANDSHAKE).await;
    assert_eq!(socket.next().await.as_deref(), Some("{}"));
    socket.say(&SUBSCRIBE.replace("[]", "[null, \"latest\"]")).await;
    assert_eq!(socket.next_json().await.expect("an answer")["type"], json!(3));
    let path = format!("/v1/feed?after={end}&wait=30s");
    let waiting = ask(proxy, &path, &as_all);
    let inserting = async { database.insert_event(order(8)).await.to_string() };
    let (page, id) = tokio::join!(waiting, inserting);
    assert_eq!(page.expect("answered").ids(), [id.as_str()]);
    // One event, and none behind it that could push it out of a buffer.
    let event = stream.next_event().await.expect("it is not kept back");
    assert!(event.data.contains(&id), "{event:?}");
    let event = socket.next_json().await.expect("an event");
    assert_eq!(event["arguments"][0]["id"], json!(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxies_of_a_distribution_pass_every_road_on_without_delay() {
    let database = TestDatabase::create().await;
    let served = Served::start(&database, &settings()).await;
    database.insert_events((1..=7).map(order)).await;
    wait_for_places(&database, 7).await;
    if let Some(proxy) = nginx(&served.address).await {
        passes_all_roads(&proxy.address, &database).await;
        proxy.stop().await;
    }
    if let Some(proxy) = haproxy(&[&served.address]).await {
        passes_all_roads(&proxy.address, &database).await;
        proxy.stop().await;
    }
    served.stop().await;
}

/// Pages until so many events are there, over whatever answers a proxy has for an instance that died.
async fn poll(proxy: &str, count: usize) -> Vec<String> {
    let bearer = format!("Bearer {ALL}");
    let (mut found, mut path) = (Vec::new(), "/v1/feed?limit=7&wait=1s".to_owned());
    while found.len() < count {
        match ask(proxy, &path, &[("authorization", &bearer)]).await {
            Ok(page) if is_whole(&page) => {
                found.extend(page.ids());
                path = page.next();
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await, // refused, cut off, or the proxy's own answer
        }
    }
    found
}

/// A page that was cut off in the middle is none.
fn is_whole(answer: &Answer) -> bool {
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    answer.status == 200 && length == Some(answer.body.len())
}

/// Streams, each from the last cursor.
async fn follow(proxy: &str, count: usize) -> Vec<String> {
    let (mut found, mut last): (Vec<String>, Option<String>) = (Vec::new(), None);
    while found.len() < count {
        let Ok(Ok(mut stream)) = EventStream::open(proxy, "/v1/feed", ALL, last.as_deref()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while found.len() < count
            && let Some(event) = stream.next().await
        {
            last = event.id.or(last);
            if !event.data.is_empty() {
                let event: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
                found.push(event["id"].as_str().expect("an id").to_owned());
            }
        }
    }
    found
}

/// Connections of the hub, each from the last cursor.
async fn listen(proxy: &str, count: usize) -> Vec<String> {
    let bearer = format!("Bearer {ALL}");
    let (mut found, mut last): (Vec<String>, Option<String>) = (Vec::new(), None);
    while found.len() < count {
        let Ok(mut socket) = Socket::open(proxy, "", &[("authorization", &bearer)]).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        socket.say(HANDSHAKE).await;
        socket.say(&SUBSCRIBE.replace("[]", &json!([null, last]).to_string())).await;
        while found.len() < count
            && let Some(record) = socket.next_json().await
        {
            if record["target"] == "event" {
                found.push(record["arguments"][0]["id"].as_str().expect("an id").to_owned());
                last = record["arguments"][1].as_str().map(str::to_owned);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_instances_behind_haproxy_one_dies_and_no_client_loses_or_repeats_an_event() {
    const EVENTS: usize = 200;
    let database = TestDatabase::create().await;
    let settings = settings();
    let (one, other) = (Served::start(&database, &settings).await, Served::start(&database, &settings).await);
    let Some(proxy) = haproxy(&[&one.address, &other.address]).await else { return };
    let writing = async {
        for number in 0..EVENTS as i64 / 2 {
            database.insert_event(order(number)).await;
        }
        wait_for_places(&database, EVENTS as i64 / 4).await;
        one.running.kill().await;
        for number in EVENTS as i64 / 2..EVENTS as i64 {
            database.insert_event(order(number)).await;
        }
    };
    let address = proxy.address.as_str();
    let (poll_one, poll_two) = (poll(address, EVENTS), poll(address, EVENTS));
    let (follow_one, follow_two) = (follow(address, EVENTS), follow(address, EVENTS));
    let (listen_one, listen_two) = (listen(address, EVENTS), listen(address, EVENTS));
    let all = async { tokio::join!(poll_one, poll_two, follow_one, follow_two, listen_one, listen_two, writing) };
    let (a, b, c, d, e, f, ()) = tokio::time::timeout(Duration::from_secs(120), all).await.expect("every client gets every event");
    let sql = "select e.id::text from feed f join events e on e.seq = f.seq order by f.place";
    let placed: Vec<String> = sqlx::query_scalar(sql).fetch_all(database.pool()).await.expect("the places");
    assert_eq!(placed.len(), EVENTS);
    for (road, found) in [("pages", a), ("pages", b), ("a stream", c), ("a stream", d), ("the hub", e), ("the hub", f)] {
        assert_eq!(found, placed, "{road}");
    }
    proxy.stop().await;
    other.stop().await;
}
