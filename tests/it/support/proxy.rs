//! A TCP proxy that fails on command: for a network that breaks, in ways that neither end can be told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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
    /// Passes everything on, so much later.
    Delays(Duration),
    /// Passes one byte on, then waits so long.
    Trickles(Duration),
    /// Resets a connection when the server has said so many bytes more on it.
    BreaksOff(usize),
    /// Resets what is open; what comes finds nobody who listens.
    Closed,
}

impl State {
    fn passes_on(self) -> bool {
        !matches!(self, Self::Swallows | Self::Refuses | Self::Closed)
    }

    fn resets(self) -> bool {
        matches!(self, Self::Refuses | Self::Closed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

/// Which of the connections that are open are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    All,
    /// Whose client waits for an answer.
    Waiting,
}

/// What a client must not say, and what becomes of its connection then.
#[derive(Debug)]
struct Poison {
    text: &'static str,
    then: Then,
}

#[derive(Debug)]
enum Then {
    HangUp,
    FallSilent,
}

/// How long a server waits for a client that has gone without a word, before a run of many such clients uses up all sockets.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// The proxy. Ends with its value, and all of its connections with it.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    forgotten: Arc<watch::Sender<Forgotten>>,
    poison: Arc<OnceLock<Poison>>,
    accepting: AbortHandle,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(watch::Sender::new(State::Forwards));
        let forgotten = Arc::new(watch::Sender::new(Forgotten::All));
        let poison = Arc::new(OnceLock::new());
        let accepting =
            tokio::spawn(accept(listener, target, Arc::clone(&state), Arc::clone(&forgotten), Arc::clone(&poison))).abort_handle();
        Self { address, state, forgotten, poison, accepting }
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

    /// Resets all connections and lets nobody listen, until `heal`.
    pub fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Passes everything on, but so much later, until `heal`.
    pub fn delay(&self, delay: Duration) {
        self.state.send_replace(State::Delays(delay));
    }

    /// Passes one byte on after the other, each after a pause, until `heal`.
    pub fn trickle(&self, pause: Duration) {
        self.state.send_replace(State::Trickles(pause));
    }

    /// Resets every connection in the middle of what its server says: after so many bytes more of it, until `heal`.
    pub fn break_off_after(&self, bytes: usize) {
        self.state.send_replace(State::BreaksOff(bytes));
    }

    /// From now on resets a connection whose client says this, and passes nothing of it on.
    pub fn hang_up_over(&self, text: &'static str) {
        self.poison.set(Poison { text, then: Then::HangUp }).expect("it is set once");
    }

    /// From now on a connection whose client says this is silent for ever, and nothing of it is passed on.
    pub fn fall_silent_over(&self, text: &'static str) {
        self.poison.set(Poison { text, then: Then::FallSilent }).expect("it is set once");
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
    mut listener: TcpListener,
    target: SocketAddr,
    state: Arc<watch::Sender<State>>,
    forgotten: Arc<watch::Sender<Forgotten>>,
    poison: Arc<OnceLock<Poison>>,
) {
    let address = listener.local_addr().expect("a bound socket has an address");
    let mut connections = JoinSet::new();
    let mut changes = state.subscribe();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(connect(client, target, state.subscribe(), forgotten.subscribe(), Arc::clone(&poison)));
                while connections.try_join_next().is_some() {}
            }
            () = has_come_to(&mut changes, |state| state == State::Closed) => {
                drop(listener);
                // Bound and not listening: the port stays ours, and whoever connects is refused.
                let socket = bind_again(address).await;
                has_come_to(&mut changes, |state| state != State::Closed).await;
                listener = socket.listen(1_024).expect("a bound socket can listen");
            }
        }
    }
}

/// Never again once the proxy is gone.
async fn has_come_to(changes: &mut watch::Receiver<State>, wanted: impl Fn(State) -> bool) {
    if changes.wait_for(|state| wanted(*state)).await.is_err() {
        std::future::pending().await
    }
}

async fn bind_again(address: SocketAddr) -> TcpSocket {
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        let bound = socket.set_reuseaddr(true).and_then(|()| socket.bind(address));
        if bound.is_ok() {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn connect(
    client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    forgotten: watch::Receiver<Forgotten>,
    poison: Arc<OnceLock<Poison>>,
) {
    let _ = (client.set_nodelay(true), client.set_zero_linger());
    if state.borrow().resets() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (server.set_nodelay(true), server.set_zero_linger());
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let waits = AtomicBool::new(false);
    // Held: a socket that is dropped would tell its peer.
    let silent = tokio::select! {
        () = be_forgotten(forgotten, &waits) => true,
        () = pass_on(From::Client, &mut from_client, &mut to_server, state.clone(), &poison, || waits.store(true, Relaxed)) => false,
        () = pass_on(From::Server, &mut from_server, &mut to_client, state.clone(), &poison, || waits.store(false, Relaxed)) => false,
        _ = async { state.wait_for(|state| state.resets()).await.map(|_| ()) } => false,
    };
    if silent {
        // When the client has given up nobody is left who could be told, but for a server whose patience is tried for a while.
        while from_client.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0) {}
        tokio::time::sleep(SILENT_FOR).await;
    }
}

async fn be_forgotten(mut forgotten: watch::Receiver<Forgotten>, waits: &AtomicBool) {
    while forgotten.changed().await.is_ok() {
        if *forgotten.borrow() == Forgotten::All || waits.load(Relaxed) {
            return;
        }
    }
}

async fn pass_on(
    side: From,
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    poison: &OnceLock<Poison>,
    passed: impl Fn(),
) {
    let mut buffer = vec![0; 64 * 1024];
    // The end of what came before: a text may come in two pieces.
    let mut before = Vec::new();
    while let Ok(bytes) = from.read(&mut buffer).await {
        if side == From::Client
            && let Some(Poison { text, then }) = poison.get()
        {
            before.extend_from_slice(&buffer[..bytes]);
            if before.windows(text.len()).any(|window| window == text.as_bytes()) {
                match then {
                    Then::HangUp => return,
                    Then::FallSilent => std::future::pending().await,
                }
            }
            before.drain(..before.len().saturating_sub(text.len()));
        }
        if bytes == 0 || state.wait_for(|state| state.passes_on()).await.is_err() {
            return;
        }
        let now = *state.borrow();
        let written = match now {
            State::Delays(delay) => {
                tokio::time::sleep(delay).await;
                to.write_all(&buffer[..bytes]).await.is_ok()
            }
            State::Trickles(pause) => trickle(&buffer[..bytes], to, pause, &mut state).await,
            State::BreaksOff(after) if side == From::Server && after < bytes => {
                let _ = to.write_all(&buffer[..after]).await;
                false
            }
            _ => to.write_all(&buffer[..bytes]).await.is_ok(),
        };
        if !written {
            return;
        }
        passed();
    }
}

/// One byte after the other while that is the order, then the rest at once.
async fn trickle(bytes: &[u8], to: &mut OwnedWriteHalf, pause: Duration, state: &mut watch::Receiver<State>) -> bool {
    for (place, byte) in bytes.iter().enumerate() {
        if !matches!(*state.borrow(), State::Trickles(_)) {
            return to.write_all(&bytes[place..]).await.is_ok();
        }
        if to.write_all(&[*byte]).await.is_err() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = state.wait_for(|state| !matches!(state, State::Trickles(_))) => {}
        }
    }
    true
}
