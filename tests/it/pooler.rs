//! Behind a real PgBouncer: a pooler that gives every client a session of its own serves, wake-ups included; one that shares
//! sessions between transactions is noticed and refused, with what to do.

use std::path::PathBuf;
use std::process::Stdio;

use outboxd::store;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};
use tokio::process::{Child, Command};

use crate::support::{Binary, DEADLINE, NewRow, TestDatabase, eventually, find_program, get};

/// A PgBouncer of the test's own; ends with its value.
pub struct PgBouncer {
    pub url: String,
    _child: Child,
    _directory: tempfile::TempDir,
}

pub async fn pgbouncer() -> Option<PathBuf> {
    find_program(&["pgbouncer", "/usr/sbin/pgbouncer"], &["--version"]).await
}

impl PgBouncer {
    /// In front of a database, in this mode; `more` are further settings.
    async fn start(program: &std::path::Path, database: &TestDatabase, mode: &str, more: &str) -> Self {
        Self::start_to(program, database.url(), mode, more).await
    }

    /// The same for an address, which names the role of its sessions at the server.
    pub async fn start_to(program: &std::path::Path, url: &str, mode: &str, more: &str) -> Self {
        let target: url::Url = url.parse().expect("an address");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let name = target.path().trim_start_matches('/');
        // It cannot be given port 0, so another process may be faster to take the free one: then the next is tried.
        for _ in 0..10 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
            let port = listener.local_addr().expect("a bound socket has an address").port();
            drop(listener);
            let config = format!(
                "[databases]\n{name} = host={} port={} dbname={name} user={} password={}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
                 pool_mode = {mode}\ndefault_pool_size = 30\nmax_client_conn = 200\n{more}\n",
                target.host_str().expect("a host"),
                target.port().expect("a port"),
                target.username(),
                target.password().unwrap_or_default(),
            );
            let file = directory.path().join("pgbouncer.ini");
            std::fs::write(&file, config).expect("the directory is ours");
            let mut command = Command::new(program);
            // SAFETY: asks for a number.
            if unsafe { libc::geteuid() } == 0 {
                // It will not run as root; whoever it becomes must be able to read its configuration.
                open_up(directory.path(), 0o755);
                open_up(&file, 0o644);
                command.args(["--user", "nobody"]);
            }
            command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            let mut child = command.spawn().expect("it was just found");
            let address = format!("127.0.0.1:{port}");
            let is_up = eventually("PgBouncer listens or is gone", || {
                let is_gone = child.try_wait().expect("the process is our child").is_some();
                let address = address.clone();
                async move {
                    let listens = tokio::net::TcpStream::connect(address).await.is_ok();
                    if is_gone { Some(false) } else { listens.then_some(true) }
                }
            })
            .await;
            if is_up {
                let url = format!("postgres://app@{address}/{name}");
                return Self { url, _child: child, _directory: directory };
            }
        }
        panic!("PgBouncer does not start");
    }
}

fn open_up(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the directory is ours");
}

const DISCARD: &str = "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_refused_with_what_to_do_and_nothing_is_touched() {
    let Some(program) = pgbouncer().await else { return };
    let modes = [
        ("transaction", ""),
        ("transaction", "ignore_startup_parameters = options,extra_float_digits"),
        ("transaction", "server_round_robin = 1"),
        ("statement", ""),
    ];
    for (mode, more) in modes {
        let database = TestDatabase::empty().await;
        let pooler = PgBouncer::start(&program, &database, mode, more).await;
        for wake_up in ["listen", "poll"] {
            let text =
                format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n[relay]\nwake_up = \"{wake_up}\"\n{DISCARD}", pooler.url);
            let finished = Binary::with_config(&text).run(&["run"]).await;
            assert_eq!(finished.code, Some(75), "{more} {wake_up}: {}", finished.stderr);
            assert!(finished.stderr.contains("pool_mode = session"), "{}", finished.stderr);
        }
        for arguments in [&["migrate"][..], &["status"], &["check", "--connect"], &["doctor"]] {
            let finished = Binary::relay(&pooler.url, DISCARD).run(arguments).await;
            assert_ne!(finished.code, Some(0), "{arguments:?}");
            let said = finished.stderr + &finished.stdout;
            assert!(said.contains("pool_mode = session"), "{arguments:?}: {said}");
        }
        assert_eq!(database.count("pg_namespace where nspname = 'outbox'").await, 0);
        // The sessions that others are given next are as they were.
        let options = pooler.url.parse::<PgConnectOptions>().expect("an address").extra_float_digits(None);
        let mut connection = PgConnection::connect_with(&options).await.expect("the pooler takes connections");
        let row = connection.fetch_one("show search_path").await.expect("it answers");
        assert_eq!(row.get::<String, _>(0), "\"$user\", public");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_in_session_mode_everything_works_and_the_bell_rings() {
    let Some(program) = pgbouncer().await else { return };
    for more in ["", "ignore_startup_parameters = options,extra_float_digits"] {
        let database = TestDatabase::empty().await;
        let pooler = PgBouncer::start(&program, &database, "session", more).await;
        let binary = Binary::relay_with_http(&pooler.url, DISCARD);
        let (running, address) = binary.serve().await;
        running.wait_for_output("relay started").await;

        let bell = || async {
            let text = get(&address, "/metrics").await.ok()?.1;
            text.lines().find_map(|line| line.strip_prefix("outboxd_wake_ups_total{source=\"bell\"} ")?.parse::<f64>().ok())
        };
        eventually("the relay sleeps and the bell wakes it", || async {
            // Not before it sleeps, or it would be kept awake for ever.
            if database.has_sleeping_relay().await {
                database.insert_event(NewRow::new("a")).await;
            }
            (bell().await? > 0.0).then_some(())
        })
        .await;
        eventually("everything is delivered", || async {
            (database.count("events").await == database.count("deliveries").await).then_some(())
        })
        .await;
        let settings = "pg_stat_activity where datname = current_database() and application_name = 'outboxd relay'";
        assert!(database.count(settings).await >= 2);
        let status = binary.run(&["status"]).await;
        assert_eq!(status.code, Some(0), "{}{}", status.stdout, status.stderr);
        running.terminate();
        assert_eq!(running.finish().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_connection_takes_its_settings_at_its_start_and_a_pooled_one_after_it() {
    let database = TestDatabase::empty().await;
    let source = async |url: &str| {
        let options = store::Options {
            url,
            schema: "outbox",
            application_name: "outboxd test",
            max_connections: 1,
            connect_timeout: DEADLINE,
            statement_timeout: DEADLINE,
            lock_timeout: DEADLINE,
        };
        let pool = store::connect(&options).await.expect("it can be reached");
        let settings = "select setting || ' by ' || source from pg_settings where name in ('search_path', 'jit') order by name";
        sqlx::query_scalar::<_, String>(settings).fetch_all(&pool).await.expect("the settings can be read")
    };
    assert_eq!(source(database.url()).await, ["off by client", "\"outbox\", pg_catalog, public, pg_temp by client"]);

    let Some(program) = pgbouncer().await else { return };
    let pooler = PgBouncer::start(&program, &database, "session", "").await;
    assert_eq!(source(&pooler.url).await, ["off by session", "\"outbox\", pg_catalog, public, pg_temp by session"]);
}
