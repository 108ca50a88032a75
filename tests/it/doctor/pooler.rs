//! A real PgBouncer in transaction mode: LISTEN is swallowed there, and what a connection asks for at its start is dropped.
//! Where it is not installed the test says so and passes, unless OUTBOXD_TEST_REQUIRE_ALL is set.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use outboxd::launcher::Postgres;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{findings, fix, found, json, paste};
use crate::support::{Binary, eventually, own_server};

/// The pooler. Killed when it is dropped.
struct Pooler {
    _process: Child,
    _directory: TempDir,
    url: String,
}

async fn start(server: &Postgres) -> Option<Pooler> {
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(program) = program else {
        assert!(std::env::var_os("OUTBOXD_TEST_REQUIRE_ALL").is_none(), "there is no pgbouncer; make install-tools");
        eprintln!("there is no pgbouncer here: nothing was tested");
        return None;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let address: url::Url = server.url("postgres").parse().expect("an address");
    let file = directory.path().join("pgbouncer.ini");
    // From 1.21 on it can follow prepared statements, and from 1.22 on it does unless told otherwise.
    let version = Command::new(program).arg("--version").output().await.expect("it was just found").stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let minor = version.split("PgBouncer 1.").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    let forgetting = if minor.is_some_and(|minor| minor >= 21) { "max_prepared_statements = 0\n" } else { "" };
    let text = format!(
        "[databases]\npostgres = host=127.0.0.1 port={} user=postgres password={}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n\
         ignore_startup_parameters = extra_float_digits,options\nunix_socket_dir =\n{forgetting}",
        server.port(),
        address.password().expect("the launcher sets one"),
    );
    std::fs::write(&file, text).expect("the directory is ours");
    let mut command = Command::new(program);
    // It refuses to run as root.
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.args(["-u", "nobody"]);
    }
    let process =
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("pgbouncer starts");
    eventually("the pooler takes connections", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
    Some(Pooler {
        _process: process,
        _directory: directory,
        url: format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_swallows_listen_is_found_and_polling_is_the_way_out() {
    let server = own_server(&[]).await;
    let direct = server.url("postgres");
    let Some(pooler) = start(&server).await else { return };
    let migrated = Binary::with_config("").run(&["migrate", "--database-url", &direct]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");

    // What the connection asked for is dropped, so the outbox would not be found; what the role has by default is not.
    let finding = found(&pooler.url, "search_path", "although it asked for outbox").await;
    paste(&direct, fix(&finding).1).await;
    eventually("sessions of before are gone", || async {
        // The pooler keeps server sessions, and they their search path.
        paste(&direct, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend';").await;
        findings(&super::report(&pooler.url).await, "search_path", "").is_empty().then_some(())
    })
    .await;

    let config =
        |relay: &str| Binary::with_config(&format!("[database]\nurl = \"{}\"\n{relay}\n[http]\nlisten = \"\"\n", pooler.url));
    let report = json(&config("").run(&["doctor", "--json"]).await);
    let swallowed = findings(&report, "wake_up", "LISTEN is swallowed");
    assert_eq!(swallowed.len(), 1, "{report:#}");
    assert!(
        swallowed[0]["what"].as_str().is_some_and(|what| what.contains("changes the server process between transactions")),
        "{report:#}"
    );
    let (place, lines) = fix(swallowed[0]);
    assert_eq!(place, "config");
    let polling = json(&config(lines).run(&["doctor", "--json"]).await);
    assert!(findings(&polling, "wake_up", "swallowed").is_empty(), "{polling:#}");
    // This version of PgBouncer, or this configuration of a newer one, does not follow prepared statements; the server itself does.
    assert_eq!(findings(&polling, "prepared_statements", "").len(), 1, "{polling:#}");
    let direct_config = Binary::with_config(&format!("[database]\nurl = \"{direct}\"\n[http]\nlisten = \"\"\n"));
    let mended = json(&direct_config.run(&["doctor", "--json"]).await);
    for check in ["prepared_statements", "wake_up", "search_path"] {
        assert!(findings(&mended, check, "").is_empty(), "{mended:#}");
    }
    // Everything else is looked at all the same.
    let left_out = report["left_out"].as_array().expect("a list");
    assert!(left_out.is_empty(), "{report:#}");
}
