//! A TCP proxy that fails on command: for a network that breaks, in ways that neither end can be told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What the proxy does with its connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Forwards,
    /// Takes everything, passes nothing on, closes nothing: a half-open connection.
    Swallows,
    /// Resets what is open and what comes.
    Refuses,
}

/// Which of the connections that are open are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    All,
    /// Whose client waits for an answer.
    Waiting,
}

/// The proxy. Ends with its value, and all of its connections with it.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    forgotten: Arc<watch::Sender<Forgotten>>,
    accepting: AbortHandle,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(watch::Sender::new(State::Forwards));
        let forgotten = Arc::new(watch::Sender::new(Forgotten::All));
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&state), Arc::clone(&forgotten))).abort_handle();
        Self { address, state, forgotten, accepting }
    }

    /// A proxy in front of the server of a `scheme://...` address, and that address through the proxy.
    pub async fn in_front_of(url: &str) -> (Self, String) {
        let mut url = url::Url::parse(url).expect("the address of a test is valid");
        let host: std::net::IpAddr = url.host_str().unwrap_or_default().parse().expect("the tests use numeric addresses");
        let proxy = Self::to((host, url.port_or_known_default().expect("the tests name the port")).into()).await;
        url.set_port(Some(proxy.address.port())).expect("an address with a host has room for a port");
        (proxy, url.into())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections and every new one, until `heal`.
    pub fn cut(&self) {
        self.state.send_replace(State::Refuses);
    }

    /// Goes silent without closing anything, until `heal`, which then passes on what has piled up.
    pub fn swallow(&self) {
        self.state.send_replace(State::Swallows);
    }

    /// Forgets the connections that are open, as a firewall does that has restarted: they stay silent for ever, and neither end
    /// is told. New ones work.
    pub fn forget(&self) {
        self.forgotten.send_replace(Forgotten::All);
    }

    /// Forgets only those whose client waits for an answer; the others go on.
    pub fn forget_waiting(&self) {
        self.forgotten.send_replace(Forgotten::Waiting);
    }

    pub fn heal(&self) {
        self.state.send_replace(State::Forwards);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: Arc<watch::Sender<State>>,
    forgotten: Arc<watch::Sender<Forgotten>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connect(client, target, state.subscribe(), forgotten.subscribe()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>, forgotten: watch::Receiver<Forgotten>) {
    let _ = (client.set_nodelay(true), client.set_zero_linger());
    if *state.borrow() == State::Refuses {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (server.set_nodelay(true), server.set_zero_linger());
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let waits = AtomicBool::new(false);
    // Held until the proxy ends: a socket that is dropped would tell its peer.
    let silent = tokio::select! {
        () = be_forgotten(forgotten, &waits) => true,
        () = pass_on(&mut from_client, &mut to_server, state.clone(), || waits.store(true, Relaxed)) => false,
        () = pass_on(&mut from_server, &mut to_client, state.clone(), || waits.store(false, Relaxed)) => false,
        _ = async { state.wait_for(|state| *state == State::Refuses).await.map(|_| ()) } => false,
    };
    if silent {
        std::future::pending::<()>().await;
    }
}

async fn be_forgotten(mut forgotten: watch::Receiver<Forgotten>, waits: &AtomicBool) {
    while forgotten.changed().await.is_ok() {
        if *forgotten.borrow() == Forgotten::All || waits.load(Relaxed) {
            return;
        }
    }
}

async fn pass_on(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut state: watch::Receiver<State>, passed: impl Fn()) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(bytes) = from.read(&mut buffer).await {
        if bytes == 0 || state.wait_for(|state| *state == State::Forwards).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
        passed();
    }
}
