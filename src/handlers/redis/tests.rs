//! The kind against servers that are made up, for what no server here can be brought to: a version that is to come, a promise that
//! does not hold, silence at the wrong moment. What real servers do is tested in `tests/it/brokers/redis`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::{Outcome, Reason};
use crate::settings::Mistakes;

const ADDED: &str = "$3\r\n1-0\r\n";
const OF_8_6: &str = "$19\r\nredis_version:8.6.0\r\n";
const OF_7_0: &str = "$20\r\nredis_version:7.0.15\r\n";

type Answers = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

/// A server of our own making: answers each command as the test says, and keeps it. An empty answer is silence.
struct Scripted {
    address: std::net::SocketAddr,
    commands: Arc<Mutex<Vec<Vec<String>>>>,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    async fn start(answer: impl Fn(&[String]) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (commands, connections) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let (kept, counted, answer): (_, _, Answers) = (Arc::clone(&commands), Arc::clone(&connections), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&answer)));
            }
        });
        Self { address, commands, connections }
    }

    /// The commands of this name so far.
    fn commands(&self, name: &str) -> Vec<Vec<String>> {
        self.commands.lock().expect("nobody panics with it").iter().filter(|command| command[0] == name).cloned().collect()
    }

    fn handler(&self, settings: &str) -> RedisStreams {
        handler(&format!("url = \"redis://{}\"\nstream = \"orders\"\n{settings}", self.address))
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Vec<Vec<String>>>>, answer: Answers) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = read_command(&mut stream).await {
        let said = match command[0].as_str() {
            "PING" => "+PONG\r\n".to_owned(),
            "CLIENT" => "+OK\r\n".to_owned(),
            _ => answer(&command),
        };
        kept.lock().expect("nobody panics with it").push(command);
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut command = Vec::new();
    for _ in 0..read_number(stream).await? {
        let mut word = vec![0; read_number(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        command.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Some(command)
}

async fn read_number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

fn read(settings: &str) -> Result<RedisStreams, Vec<String>> {
    let (table, mistakes) = (settings.parse::<toml::Table>().expect("valid TOML"), Mistakes::default());
    let section = Section::open("handlers.billing", &table, settings::FIELDS, super::super::waits::COMMON, &mistakes);
    let settings = settings::read(&section);
    let mistakes: Vec<String> = mistakes.into_vec().iter().map(ToString::to_string).collect();
    settings.filter(|_| mistakes.is_empty()).map(RedisStreams::new).ok_or(mistakes)
}

fn handler(settings: &str) -> RedisStreams {
    read(settings).expect("valid settings")
}

fn sample() -> Notification {
    Notification::sample("order.placed", "{\"n\":1}")
}

#[tokio::test]
async fn a_server_that_can_is_asked_to_know_repeats_but_not_of_replays() {
    let server = Scripted::start(|command| if command[0] == "INFO" { OF_8_6 } else { ADDED }.to_owned()).await;
    let handler = server.handler("");
    assert_eq!(handler.deliver(&sample()).await, Verdict::delivered());
    assert_eq!(handler.deliver(&Notification { is_replay: true, ..sample() }).await, Verdict::delivered());
    let added = server.commands("XADD");
    assert_eq!(added[0][..6], ["XADD", "orders", "IDMP", "outboxd.billing", "018f0000-0000-7000-8000-000000000001", "*"]);
    assert_eq!(added[1][..4], ["XADD", "orders", "*", "id"]);
}

#[tokio::test]
async fn a_server_that_cannot_is_not_asked() {
    let server = Scripted::start(|command| if command[0] == "INFO" { OF_7_0 } else { ADDED }.to_owned()).await;
    assert_eq!(server.handler("").deliver(&sample()).await, Verdict::delivered());
    assert_eq!(server.commands("XADD")[0][..3], ["XADD", "orders", "*"]);
}

#[tokio::test]
async fn a_server_that_promised_to_know_repeats_and_does_not_is_asked_once() {
    const UNKNOWN: &str = "-ERR Invalid stream ID specified as stream command argument\r\n";
    let server = Scripted::start(|command| {
        let is_repeat = command.get(2).is_some_and(|word| word == "IDMP");
        if command[0] == "INFO" {
            OF_8_6
        } else if is_repeat {
            UNKNOWN
        } else {
            ADDED
        }
        .to_owned()
    })
    .await;
    let handler = server.handler("");
    for _ in 0..3 {
        assert_eq!(handler.deliver(&sample()).await, Verdict::delivered());
    }
    let asked: Vec<bool> = server.commands("XADD").iter().map(|command| command[2] == "IDMP").collect();
    assert_eq!(asked, [true, false, false, false]);
}

#[tokio::test]
async fn entries_that_were_added_together_wait_together() {
    let server = Scripted::start(|command| if command[0] == "WAIT" { ":1\r\n" } else { ADDED }.to_owned()).await;
    let handler = server.handler("wait_replicas = 1");
    let verdicts = join_all((0..200).map(|_| async { handler.deliver(&sample()).await })).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::delivered()), "{verdicts:?}");
    let (added, waits) = (server.commands("XADD").len(), server.commands("WAIT").len());
    assert!(added == 200 && waits < 100, "{waits} waits for {added} entries");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_entry_that_did_not_reach_the_disk_is_not_delivered() {
    for (answer, want) in [("*2\r\n:1\r\n:0\r\n", None), ("*2\r\n:0\r\n:0\r\n", Some(Reason::Nacked))] {
        let server = Scripted::start(move |command| if command[0] == "WAITAOF" { answer } else { ADDED }.to_owned()).await;
        let verdict = server.handler("durability = \"disk\"").deliver(&sample()).await;
        match want {
            None => assert_eq!(verdict, Verdict::delivered()),
            Some(reason) => {
                assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, reason, true), "{verdict:?}");
            }
        }
        assert_eq!(server.commands("WAITAOF").last().expect("it waited")[1..], ["1", "0", "2000"]);
    }
}

#[tokio::test]
async fn a_wait_that_the_server_does_not_allow_is_found_before_an_event_is_sent() {
    for (refusal, reason) in [
        ("-NOPERM this user has no permissions to run the 'wait' command\r\n", Reason::Unauthorized),
        ("-ERR unknown command 'WAIT', with args beginning with: '1' '1' \r\n", Reason::Misconfigured),
    ] {
        let server = Scripted::start(move |command| if command[0] == "WAIT" { refusal } else { ADDED }.to_owned()).await;
        let verdict = server.handler("wait_replicas = 1").deliver(&sample()).await;
        assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::HandlerFault, reason, false), "{verdict:?}");
        assert_eq!(server.commands("XADD").len(), 0);
    }
}

#[tokio::test]
async fn without_replicas_nothing_is_added() {
    let server = Scripted::start(|command| if command[0] == "WAIT" { ":1\r\n" } else { ADDED }.to_owned()).await;
    let verdict = server.handler("wait_replicas = 2").deliver(&sample()).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::BackPressure, Reason::Nacked, false));
    assert!(verdict.detail.ends_with(": 1 of 2 replicas are connected, so no entry was added"), "{verdict:?}");
    assert_eq!(server.commands("XADD").len(), 0);
}

#[tokio::test]
async fn what_is_no_id_of_an_entry_is_no_delivery() {
    for answer in ["+OK\r\n", "+PONG\r\n", ":1\r\n", "$0\r\n\r\n", "*0\r\n", "$2\r\n\u{fffd}\r\n"] {
        let server = Scripted::start(move |command| if command[0] == "INFO" { OF_7_0 } else { answer }.to_owned()).await;
        let verdict = server.handler("confirm_timeout = \"2s\"").deliver(&sample()).await;
        assert_eq!((verdict.outcome, verdict.ambiguous), (Outcome::Retry, true), "{answer:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_delivery_that_is_broken_off_leaves_no_silent_connection_to_the_next() {
    let server = Scripted::start(|command| if command[0] == "XADD" { "" } else { OF_7_0 }.to_owned()).await;
    let handler = server.handler("");
    for connections in 1..=3 {
        tokio::time::timeout(Duration::from_millis(100), handler.deliver(&sample())).await.expect_err("the server is silent");
        assert_eq!(server.connections.load(Ordering::SeqCst), connections);
    }
}

#[tokio::test]
async fn nothing_secret_is_in_a_verdict_a_probe_or_debug() {
    let server = Scripted::start(|command| format!("-ERR what is '{}'?\r\n", command.join("' '"))).await;
    let handler = handler(&format!("url = \"redis://us3r:passw0rd%21@{}\"\nstream = \"orders\"", server.address));
    let shown = format!("{:?} {:?} {handler:?}", handler.deliver(&sample()).await, handler.probe().await);
    assert!(!shown.contains("passw0rd") && shown.contains("***"), "{shown}");
    assert_eq!(server.commands("AUTH")[0], ["AUTH", "us3r", "passw0rd!"], "it was decoded");
}

#[test]
fn every_mistake_is_reported_without_its_secret() {
    let mistakes = read(
        "url = \"http://user:passw0rd@host\"\nstream = \"\"\nsource = \"a b\"\nmax_payload = \"1GiB\"\nca = \"x\"\nmax_length = -1\n\
         wait_replicas = 1\nwait_timeout = \"6s\"\nconnect_timeout = \"0s\"\nheaders = { Payload = \"x\", type = \"x\" }",
    )
    .err()
    .unwrap_or_default();
    assert_eq!(
        mistakes,
        [
            "handlers.billing.max_length: got -1, expected a whole number from 0 to 9223372036854775807",
            "handlers.billing.url: got the scheme \"http\", expected \"redis://user:password@host:6379/0\" or \"rediss://...\"",
            "handlers.billing.ca: expected certificates in PEM (\"-----BEGIN CERTIFICATE-----\")",
            "handlers.billing.stream: got \"\", expected the key of a stream such as \"orders\"",
            "handlers.billing.source: got \"a b\", expected a URI reference such as \"https://example.org/shop\" or \"shop\"",
            "handlers.billing.headers.Payload: is written by outboxd itself and cannot be set",
            "handlers.billing.headers.type: is written by outboxd itself and cannot be set",
            "handlers.billing.max_payload: got \"1GiB\", expected at most \"512MiB\"",
            "handlers.billing.connect_timeout: got \"0s\", expected at least \"1ms\"",
            "handlers.billing.wait_timeout: got \"6s\", expected at most \"4s\", half of confirm_timeout",
        ]
    );
}

#[test]
fn an_address_is_checked_when_it_is_read() {
    for (url, want) in [
        ("redis.internal", "got no URL"),
        ("redis://", "got no host"),
        ("redis://user@host", "got a user without a password (a password alone is \":password@\")"),
        ("redis://host/orders", "got a database that is no number"),
        ("rediss://host/#insecure", "got something after \"?\" or \"#\""),
        ("redis://host?db=1", "got something after \"?\" or \"#\""),
    ] {
        let mistakes = read(&format!("url = \"{url}\"\nstream = \"s\"")).err().unwrap_or_default();
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("handlers.billing.url: {want}")), "{url}: {mistakes:?}");
    }
    for (url, target) in [
        ("redis://host", "host:6379"),
        ("rediss://:secret@host:7000/3", "host:7000"),
        ("redis://[::1]/", "[::1]:6379"),
        ("rediss://127.0.0.1", "127.0.0.1:6379"),
    ] {
        let handler = handler(&format!("url = \"{url}\"\nstream = \"s\"\ninsecure_skip_verify = true"));
        assert_eq!(handler.server.target(), target);
    }
    let unused = read("url = \"redis://host\"\nstream = \"s\"\nwait_timeout = \"1s\"").err().unwrap_or_default();
    assert_eq!(unused, ["handlers.billing.wait_timeout: has no effect without wait_replicas or durability = \"disk\""]);
}

#[tokio::test]
async fn an_event_that_makes_no_stream_is_a_dead_letter() {
    let handler = handler("url = \"redis://127.0.0.1:1\"\nstream = \"{header:tenant}\"");
    for (headers, want) in
        [("{}", "the event has no header \"tenant\""), ("{\"tenant\":\"\"}", "the event makes an empty text of stream")]
    {
        let verdict = handler.deliver(&Notification { headers: headers.to_owned(), ..sample() }).await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable));
        assert!(verdict.detail.starts_with(want), "{verdict:?}");
    }
}
