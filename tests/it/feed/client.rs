//! Clients as others would write them: one request at a time, and an event stream that can be cut. They keep nothing but their cursor.

use std::io::{self, ErrorKind};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Binary, Running, TestDatabase, get};

/// For anything that comes at all.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// The token of the client `all`, which sees everything; the others are made likewise from their names.
pub const ALL: &str = "token-of-all-0123456789";

/// `[feed]` for every type, and a client that sees all of it.
pub const FEED: &str = "[feed]\nevents = [\"*\"]\nlisten = \"127.0.0.1:0\"\nheartbeat = \"200ms\"\n\
                        [[clients]]\nname = \"all\"\ntokens = [\"token-of-all-0123456789\"]\nmax_connections = 100\n";

/// A relay that serves the feed.
pub struct Served {
    pub running: Running,
    pub address: String,
}

impl Served {
    pub async fn start(database: &TestDatabase, settings: &str) -> Self {
        Self::of(&Binary::relay(database.url(), settings)).await
    }

    pub async fn of(binary: &Binary) -> Self {
        let running = binary.spawn(&["run"]);
        let line = running.wait_for_output("serving /v1/feed").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        Self { running, address }
    }

    /// With `/metrics`, too.
    pub async fn with_metrics(database: &TestDatabase, settings: &str) -> (Self, Binary) {
        let config =
            Binary::relay_config(database.url(), settings).replace("[http]\nlisten = \"\"", "[http]\nlisten = \"127.0.0.1:0\"");
        let binary = Binary::with_config(&config);
        (Self::of(&binary).await, binary)
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        let line = self.running.wait_for_output("serving /metrics").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
        get(address, "/metrics").await.expect("it serves").1
    }

    /// Asks as the client `all`.
    pub async fn ask(&self, path: &str) -> Answer {
        ask(&self.address, path, &[("authorization", &format!("Bearer {ALL}"))]).await.expect("the feed answers")
    }

    pub async fn stop(self) {
        self.running.terminate();
        let finished = self.running.finish().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Ids of the events of a page.
    pub fn ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let events = self.json();
        events.as_array().expect("a batch").iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The address of the next page.
    pub fn next(&self) -> String {
        let link = self.header("link").expect("every page says where the feed goes on");
        let (address, relation) = link.split_once(">;").expect("a link");
        assert_eq!(relation.trim(), "rel=\"next\"");
        address.trim_start_matches('<').to_owned()
    }

    pub fn cursor(&self) -> String {
        self.header("stream-next-offset").expect("every page has a cursor").to_owned()
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::UnexpectedEof)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok((status, headers)),
        }
    }
}

async fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{request}\r\n").as_bytes()).await?;
    Ok(BufReader::new(stream))
}

/// One request and its whole answer.
pub async fn ask(address: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    request(address, "GET", path, headers).await
}

pub async fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    let mut stream = send(address, method, path, headers).await?;
    let (status, headers) = read_head(&mut stream).await?;
    let mut body = Vec::new();
    stream.read_to_end(&mut body).await?;
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// An event of a stream; `data` is empty for a bookmark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
    pub retry: Option<u64>,
    pub is_comment: bool,
}

/// An open event stream.
pub struct EventStream {
    stream: BufReader<TcpStream>,
    text: String,
    /// Bytes left of the current chunk.
    left: usize,
    pub headers: Vec<(String, String)>,
}

impl EventStream {
    /// `Err`: it was answered with another status than 200.
    pub async fn open(address: &str, path: &str, token: &str, last_id: Option<&str>) -> io::Result<Result<Self, Answer>> {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(last_id.map(|id| ("last-event-id", id)));
        Self::open_with(address, path, headers).await
    }

    /// [`Self::open`] with headers that say who asks, or none.
    pub async fn open_with(address: &str, path: &str, mut headers: Vec<(&str, &str)>) -> io::Result<Result<Self, Answer>> {
        headers.push(("accept", "text/event-stream"));
        let mut stream = send(address, "GET", path, &headers).await?;
        let (status, headers) = read_head(&mut stream).await?;
        if status != 200 {
            let mut body = Vec::new();
            stream.read_to_end(&mut body).await?;
            return Ok(Err(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }));
        }
        Ok(Ok(Self { stream, text: String::new(), left: 0, headers }))
    }

    /// The next event, bookmark, comment or `retry`; `None`: the stream has ended or was cut.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                return Some(parse(&block));
            }
            let read = tokio::time::timeout(Duration::from_secs(30), self.read_more()).await.expect("a heartbeat comes in time");
            read.ok()?;
        }
    }

    /// The next one that carries an event. `None`: the stream has ended, or tells nothing but that it lives.
    pub async fn next_event(&mut self) -> Option<Event> {
        let next = async {
            loop {
                let event = self.next().await?;
                if !event.data.is_empty() {
                    return Some(event);
                }
            }
        };
        tokio::time::timeout(LONG_ENOUGH, next).await.unwrap_or_default()
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.left == 0 {
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            self.left = usize::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::UnexpectedEof)?;
            if self.left == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let mut chunk = vec![0; self.left];
        self.stream.read_exact(&mut chunk).await?;
        self.text.push_str(std::str::from_utf8(&chunk).expect("chunks of ours end where characters do"));
        self.left = 0;
        let mut end = [0; 2];
        self.stream.read_exact(&mut end).await?;
        Ok(())
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
            Some(("", _)) => event.is_comment = true,
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("event", name)) => event.event = Some(name.to_owned()),
            Some(("retry", millis)) => event.retry = millis.parse().ok(),
            Some(("data", data)) => event.data.push_str(data),
            other => assert!(other.is_none() && line.is_empty(), "an unknown field: {line}"),
        }
    }
    event
}
