//! The service manager: systemd learns from the daemon that it has started, reloads, stops and is alive (the `sd_notify` protocol).
//! Without `NOTIFY_SOCKET` every call does nothing. A message that cannot be sent is logged; the relay never stops because of one.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

/// How long a stop takes beside `relay.drain_timeout`, at most, when the database has gone away, too. The limits of the steps, in their
/// order: the last flush 5 s, the helpers 5 s, signing off 2 s, the feed's answers 3 s, the use of contracts 2 s, programs of `exec` 10 s,
/// closing the connections 2 s, HTTP 3 s; 3 s are kept in reserve. The units and charts in `deploy/` allow the same.
pub const STOP_MARGIN: Duration = Duration::from_secs(35);

/// A message is a few bytes for a socket that systemd reads at once; a reader that hangs must not hang the relay.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends the state of the daemon to the service manager that has started it, if one asked for it.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    /// Microseconds that a stop may take.
    longest_stop: AtomicU64,
}

impl ServiceManager {
    /// The manager that `NOTIFY_SOCKET` names. A socket that cannot be reached is logged, and the relay runs without one.
    pub fn from_environment() -> Self {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else { return Self::default() };
        match connect(Path::new(&address)) {
            Ok(socket) => Self(Some(Arc::new(Line { socket, longest_stop: AtomicU64::default() }))),
            Err(error) => {
                warn!(?address, %error, "could not reach the service manager at NOTIFY_SOCKET, running without it");
                Self::default()
            }
        }
    }

    /// The daemon has started, or has reloaded its configuration. `status` is what `systemctl status` shows; free of secrets.
    pub fn ready(&self, status: &str) {
        self.send(|_| format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The daemon reads its configuration again; [`ready`](Self::ready) has to follow.
    pub fn reloading(&self) {
        self.send(|_| format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading the configuration", monotonic().as_micros()));
    }

    /// How long a stop may take with the settings that are in effect now.
    pub fn drains_within(&self, drain_timeout: Duration) {
        if let Self(Some(line)) = self {
            let longest = (drain_timeout + STOP_MARGIN).as_micros();
            line.longest_stop.store(u64::try_from(longest).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The daemon stops. The manager is asked for the time that a drain may take, so that its own limit need not follow
    /// `relay.drain_timeout`.
    pub fn stopping(&self) {
        self.send(|line| {
            let longest = line.longest_stop.load(Ordering::Relaxed);
            format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={longest}\nSTATUS=stopping: deliveries in flight may finish")
        });
    }

    /// Tells the watchdog of the manager that the process is alive, twice as often as it asks for; returns only if there is no watchdog.
    pub async fn keep_alive(self) {
        let Some(period) = watchdog_period(|name| std::env::var(name).ok(), std::process::id()) else { return };
        let mut beat = tokio::time::interval(period / 2);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.send(|_| "WATCHDOG=1".to_owned());
        }
    }

    fn send(&self, message: impl FnOnce(&Line) -> String) {
        let Self(Some(line)) = self else { return };
        if let Err(error) = line.socket.send(message(line).as_bytes()) {
            warn!(%error, "could not send a message to the service manager");
        }
    }
}

/// The address is a path or, on Linux, an abstract name that is written with `@` at its beginning.
fn connect(address: &Path) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::unix::ffi::OsStrExt::as_bytes(address.as_os_str()).strip_prefix(b"@") {
        let name = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?;
        socket.connect_addr(&name)?;
        return Ok(socket);
    }
    socket.connect(address)?;
    Ok(socket)
}

/// The protocol has one assignment per line.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// How often the manager wants to hear of the process with this id; `None`: it does not ask, or asks another process.
fn watchdog_period(variable: impl Fn(&str) -> Option<String>, process: u32) -> Option<Duration> {
    let is_for_another = variable("WATCHDOG_PID").is_some_and(|id| id != process.to_string());
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    (!is_for_another).then(|| Duration::from_micros(micros))
}

/// The clock that systemd compares a reload with (`Type=notify-reload`).
fn monotonic() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Unix, and the pointer is to a value of ours that outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0, "the monotonic clock can always be read");
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Option<Duration> {
        watchdog_period(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()), 7)
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let two_seconds = Some(Duration::from_secs(2));
        assert_eq!(asked(&[("WATCHDOG_USEC", "2000000")]), two_seconds);
        assert_eq!(asked(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")]), two_seconds);
        assert_eq!(asked(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")]), None, "a child of the service has inherited it");
        for nothing in ["0", "", "-1", "soon"] {
            assert_eq!(asked(&[("WATCHDOG_USEC", nothing)]), None, "{nothing:?}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("waiting\nREADY=0\r\n\n  later "), "waiting; READY=0; later");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let nobody = ServiceManager::default();
        nobody.drains_within(Duration::from_secs(1));
        nobody.reloading();
        nobody.ready("relaying");
        nobody.stopping();
        assert!(nobody.0.is_none());
    }
}
