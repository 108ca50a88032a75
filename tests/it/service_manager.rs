//! What systemd hears from the built binary, over a real datagram socket: start, reload, stop, watchdog. The other end is the test.

use tokio::net::UnixDatagram;

use crate::support::{Binary, TestDatabase, deadline};

const HANDLER: &str = "[[handlers]]\nname = \"a\"\nkind = \"discard\"\n";

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
    address: String,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        Self { socket, address: path.to_str().expect("UTF-8").to_owned(), _directory: directory }
    }

    /// The next message that is not a sign of life.
    async fn heard(&self) -> String {
        loop {
            let message = self.next().await;
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    async fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let received = tokio::time::timeout(deadline(), self.socket.recv(&mut bytes)).await.expect("the daemon says something");
        String::from_utf8(bytes[..received.expect("the socket works")].to_vec()).expect("UTF-8")
    }

    fn has_heard_nothing_else(&self) -> bool {
        self.socket.try_recv(&mut [0; 4096]).is_err()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_start_reload_and_stop() {
    let (manager, database) = (Manager::new(), TestDatabase::create().await);
    let binary = Binary::relay(database.url(), HANDLER).env("NOTIFY_SOCKET", &manager.address);
    let relay = binary.spawn(&["run"]);
    assert_eq!(manager.heard().await, "READY=1\nSTATUS=relaying, 1 handlers");

    // Longer to drain, and one handler more: the next stop may take longer, too.
    let slower = Binary::relay_config(database.url(), HANDLER).replace("[relay]\n", "[relay]\ndrain_timeout = \"100s\"\n");
    binary.rewrite(&format!("{slower}{}", HANDLER.replace("\"a\"", "\"b\"")));
    relay.hang_up();
    let reloading = manager.heard().await;
    let clock = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("the time of the reload");
    assert!(reloading.starts_with("RELOADING=1\n") && clock.parse::<u64>().is_ok_and(|micros| micros > 0), "{reloading}");
    assert_eq!(manager.heard().await, "READY=1\nSTATUS=relaying, 2 handlers");

    binary.rewrite("[[handlers]]\nname = \"a\"\nkind = \"nonsense\"\n");
    relay.hang_up();
    assert!(manager.heard().await.starts_with("RELOADING=1\n"));
    assert_eq!(manager.heard().await, "READY=1\nSTATUS=relaying, 2 handlers; the last reload was refused, see the log");

    relay.terminate();
    let stopping = manager.heard().await;
    assert_eq!(stopping, "STOPPING=1\nEXTEND_TIMEOUT_USEC=135000000\nSTATUS=stopping: deliveries in flight may finish");
    assert_eq!(relay.finish().await.code, Some(0));
    assert!(manager.has_heard_nothing_else());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_waits_for_its_database_has_started_and_says_what_it_waits_for() {
    let manager = Manager::new();
    let binary = Binary::relay("postgres://127.0.0.1:1/none", HANDLER).env("NOTIFY_SOCKET", &manager.address);
    let relay = binary.spawn(&["run"]);
    let ready = manager.heard().await;
    assert!(ready.starts_with("READY=1\nSTATUS=waiting for the database: ") && ready.lines().count() == 2, "{ready}");
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_cannot_run_never_says_that_it_has_started() {
    let (manager, database) = (Manager::new(), TestDatabase::empty().await);
    let config = Binary::relay_config(database.url(), HANDLER);
    let binary = Binary::with_config(&config).env("NOTIFY_SOCKET", &manager.address);
    let finished = binary.run(&["run", "--no-migrate"]).await;
    assert_eq!(finished.code, Some(75), "{finished:?}");
    assert!(manager.has_heard_nothing_else());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_hears_again_and_again_that_the_process_is_alive() {
    let manager = Manager::new();
    let binary = Binary::relay("postgres://127.0.0.1:1/none", HANDLER);
    let binary = binary.env("NOTIFY_SOCKET", &manager.address).env("WATCHDOG_USEC", "100000");
    let relay = binary.spawn(&["run"]);
    for _ in 0..3 {
        while manager.next().await != "WATCHDOG=1" {}
    }
    relay.kill().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_abstract_socket_is_a_service_manager_too() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("outboxd-test-{}", uuid::Uuid::new_v4());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a short name");
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&address).expect("nobody has this name");
    socket.set_nonblocking(true).expect("a socket can be switched");
    let socket = UnixDatagram::from_std(socket).expect("inside a runtime");
    let manager = Manager { socket, address: format!("@{name}"), _directory: tempfile::tempdir().expect("a temporary directory") };
    let relay = Binary::relay("postgres://127.0.0.1:1/none", HANDLER).env("NOTIFY_SOCKET", &manager.address).spawn(&["run"]);
    assert!(manager.heard().await.starts_with("READY=1\n"));
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_is_not_there_keeps_nothing_from_running() {
    let database = TestDatabase::create().await;
    let relay = Binary::relay(database.url(), HANDLER).env("NOTIFY_SOCKET", "/nonexistent/notify").spawn(&["run"]);
    relay.wait_for_output("could not reach the service manager").await;
    relay.wait_for_output("relay started").await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}
