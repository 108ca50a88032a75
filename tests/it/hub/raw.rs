//! The hub byte by byte: requests and WebSocket frames as no library would send them.

use std::io::{self, ErrorKind};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::feed::client::{ALL, Answer};

pub const PATH: &str = "/hubs/events";
pub const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";
pub const SUBSCRIBE: &str = "{\"type\":1,\"target\":\"Subscribe\",\"arguments\":[],\"invocationId\":\"0\"}\u{1e}";

/// One request with a body, and its whole answer.
pub async fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str("\r\n");
    stream.write_all(&[request.as_bytes(), body].concat()).await.expect("it reads");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("it answers");
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok()).expect("a status");
    let headers =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Answer { status, headers: headers.collect(), body: body.to_owned() }
}

pub fn bearer() -> String {
    format!("Bearer {ALL}")
}

/// Negotiates as the client `all`, and gives the connection token.
pub async fn negotiate(address: &str) -> String {
    negotiate_with(address, "").await
}

/// With further parameters.
pub async fn negotiate_with(address: &str, query: &str) -> String {
    negotiate_as(address, &bearer(), query).await
}

async fn negotiate_as(address: &str, bearer: &str, query: &str) -> String {
    let path = format!("{PATH}/negotiate?negotiateVersion=1{query}");
    let answer = send(address, "POST", &path, &[("authorization", bearer)], b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["connectionToken"].as_str().expect("a token").to_owned()
}

/// A connection that polls.
pub struct Polling {
    address: String,
    path: String,
    rest: String,
}

impl Polling {
    /// With its first poll, before the handshake.
    pub async fn begin(address: &str) -> Self {
        Self::begin_as(address, &bearer()).await
    }

    async fn begin_as(address: &str, bearer: &str) -> Self {
        let path = format!("{PATH}?id={}", negotiate_as(address, bearer, "").await);
        let polling = Self { address: address.to_owned(), path, rest: String::new() };
        assert_eq!(polling.get().await.status, 200);
        polling
    }

    pub async fn open(address: &str) -> Self {
        Self::open_as(address, &bearer()).await
    }

    pub async fn open_as(address: &str, bearer: &str) -> Self {
        let mut polling = Self::begin_as(address, bearer).await;
        assert_eq!(polling.post(HANDSHAKE.as_bytes()).await.status, 200);
        assert_eq!(polling.next().await, Some("{}".to_owned()));
        polling
    }

    pub async fn get(&self) -> Answer {
        send(&self.address, "GET", &self.path, &[], b"").await
    }

    pub async fn post(&self, body: &[u8]) -> Answer {
        send(&self.address, "POST", &self.path, &[], body).await
    }

    pub async fn delete(&self) -> Answer {
        send(&self.address, "DELETE", &self.path, &[], b"").await
    }

    /// The next record; `None`: the connection is over.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((record, rest)) = self.rest.split_once('\u{1e}') {
                let record = record.to_owned();
                self.rest = rest.to_owned();
                return Some(record);
            }
            let answer = self.get().await;
            if answer.status != 200 {
                assert!(matches!(answer.status, 204 | 404), "{answer:?}");
                return None;
            }
            self.rest.push_str(&answer.body);
        }
    }

    /// The next record that is no ping, as JSON.
    pub async fn next_json(&mut self) -> Option<Value> {
        next_json(self.next().await)
    }
}

fn next_json(record: Option<String>) -> Option<Value> {
    record.map(|record| serde_json::from_str(&record).unwrap_or_else(|error| panic!("{error}: {record}")))
}

/// A WebSocket. What it sends is masked with zeros, which is a mask.
pub struct Socket {
    stream: BufReader<TcpStream>,
    rest: String,
}

impl Socket {
    /// `Err`: the status of another answer.
    pub async fn open(address: &str, query: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        Self::open_over(TcpStream::connect(address).await.expect("it listens"), address, query, headers).await
    }

    /// Over a socket of the caller's.
    pub async fn open_over(mut stream: TcpStream, address: &str, query: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = format!(
            "GET {PATH}{query} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{request}\r\n").as_bytes()).await.expect("it reads");
        let mut stream = BufReader::new(stream);
        let (mut status, mut line) = (0, String::new());
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            }
            line.clear();
        }
        if status == 101 { Ok(Self { stream, rest: String::new() }) } else { Err(status) }
    }

    /// Opened with the token, past the handshake.
    pub async fn ready(address: &str) -> Self {
        let mut socket = Self::open(address, "", &[("authorization", &bearer())]).await.expect("a socket");
        socket.say(HANDSHAKE).await;
        assert_eq!(socket.next().await, Some("{}".to_owned()));
        socket
    }

    pub async fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await.expect("it reads");
    }

    /// One frame, with this first byte.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(0x80 | u8::try_from(short).expect("short")),
            long => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.stream.get_mut().write_all(&frame).await
    }

    /// The next record; `None`: the connection is over.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((record, rest)) = self.rest.split_once('\u{1e}') {
                let record = record.to_owned();
                self.rest = rest.to_owned();
                return Some(record);
            }
            let read = tokio::time::timeout(Duration::from_secs(60), self.read_frame()).await.expect("a ping comes in time");
            let text = read.ok()?;
            self.rest.push_str(&text);
        }
    }

    /// The next record that is no ping, as JSON.
    pub async fn next_json(&mut self) -> Option<Value> {
        loop {
            let record = next_json(self.next().await)?;
            if record["type"] != 6 {
                return Some(record);
            }
        }
    }

    async fn read_frame(&mut self) -> io::Result<String> {
        let (first, length) = (self.stream.read_u8().await?, self.stream.read_u8().await?);
        let length = match length {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("it fits")];
        self.stream.read_exact(&mut payload).await?;
        match first & 0x0f {
            1 => Ok(String::from_utf8(payload).expect("text frames are text")),
            8 => Err(ErrorKind::UnexpectedEof.into()),
            other => panic!("a frame of kind {other}"),
        }
    }
}
