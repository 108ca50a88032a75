//! Receivers on 127.0.0.1 for the tests: a well-behaved one that records what it is sent, and raw ones that misbehave.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::request::Parts;
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::egress::{FilteringResolver, Lookup};
use super::super::settings::{self, FIELDS};
use super::super::{Egress, Webhook};
use crate::settings::{Mistakes, Section};

/// Records every request and answers as it is told.
pub struct Receiver {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

impl Receiver {
    pub async fn start(answer: fn(&Parts) -> Response) -> Self {
        Self::reading(move |head, _| answer(head)).await
    }

    /// Answers by what it was sent.
    pub async fn reading(answer: impl Fn(&Parts, &Bytes) -> Response + Clone + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&requests);
        let router = Router::new().fallback(move |request: axum::extract::Request| async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
            let response = answer(&head, &body);
            record.lock().expect("not poisoned").push((head, body));
            response
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, requests }
    }

    pub async fn accepting() -> Self {
        Self::start(|_| Response::default()).await
    }

    pub fn requests(&self) -> Vec<(Parts, Bytes)> {
        self.requests.lock().expect("not poisoned").clone()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().expect("not poisoned").len()
    }
}

/// Hands every connection to `serve` after its first request was read.
pub async fn raw<S, F>(serve: S) -> SocketAddr
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await;
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads the head and as much body as it announces.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return read,
        }
    }
    let head = String::from_utf8_lossy(&read).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok();
    [read, body].concat()
}

/// A handler with these settings; `toml` must be right.
pub fn webhook(toml: &str) -> Webhook {
    let egress = if toml.contains("egress = \"public\"") { Egress::Public } else { Egress::Internal };
    built(toml, FilteringResolver::system(egress))
}

/// A handler for which every name has these addresses; without any, no name is known.
pub fn webhook_resolving(toml: &str, addresses: &'static [&'static str]) -> Webhook {
    let lookup: Lookup = Arc::new(move |_| {
        Box::pin(async move {
            let found = addresses.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect::<Vec<_>>();
            if found.is_empty() { Err(std::io::Error::other("no such name")) } else { Ok(found) }
        })
    });
    built(toml, FilteringResolver::with_lookup(Egress::Internal, lookup))
}

fn built(toml: &str, resolver: FilteringResolver) -> Webhook {
    let (table, mistakes) = (toml.parse().expect("TOML"), Mistakes::default());
    let settings = settings::read(&Section::open("handlers.test", &table, FIELDS, &[], &mistakes));
    let webhook = settings.map(|settings| Webhook::new(settings, resolver).expect("a receiver"));
    webhook.unwrap_or_else(|| panic!("{:?}", mistakes.into_vec()))
}

/// Every mistake of these settings.
pub fn mistakes_of(toml: &str) -> Vec<String> {
    let (table, mistakes) = (toml.parse().expect("TOML"), Mistakes::default());
    let built = (super::super::KIND.build)(&Section::open("handlers.test", &table, FIELDS, &[], &mistakes));
    assert_eq!(built.is_some(), mistakes.is_empty(), "nothing is built of mistakes, and nothing else fails");
    mistakes.into_vec().iter().map(ToString::to_string).collect()
}
