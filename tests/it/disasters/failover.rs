//! Failover: a replica that lags behind is promoted, and the old primary comes back. Both are real servers that stream.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::Arc;

use outboxd::launcher::Postgres;
use sqlx::Executor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{change, connect, number, record, relay_at, server_with_outbox, wait_until_ready, wait_until_unready};
use crate::support::{Binary, Recorder, eventually, own_server};

/// The one address of a database whose server changes, as a virtual address or a name is. Connections end when it moves.
struct Address {
    url: String,
    target: Arc<watch::Sender<SocketAddr>>,
    serving: tokio::task::AbortHandle,
}

impl Address {
    async fn of(url: &str, target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let mut url = url::Url::parse(url).expect("an address");
        url.set_port(Some(listener.local_addr().expect("it is bound").port())).expect("it has a host");
        let target = Arc::new(watch::Sender::new(target));
        let targets = Arc::clone(&target);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut target = targets.subscribe();
                connections.spawn(async move {
                    let at = *target.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(at).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = target.changed() => {}
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url: url.into(), target, serving: serving.abort_handle() }
    }

    fn move_to(&self, server: &Postgres) {
        self.target.send_replace(([127, 0, 0, 1], server.port()).into());
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A standby that streams from this server, with its address; the passwords are those of the first.
async fn replicate(primary: Postgres) -> (Postgres, Postgres, String) {
    let replica = change(own_server(&[]).await, Postgres::stop_fast).await;
    let primary = change(primary, Postgres::stop_fast).await;
    let (from, to) = (primary.data_dir(), replica.data_dir());
    fs::remove_dir_all(&to).and_then(|()| copy(&from, &to)).expect("the data is ours");
    let source = primary.url("postgres");
    let stream = format!("primary_conninfo = '{source}'\n");
    let file = to.join("postgresql.auto.conf");
    let settings = fs::read_to_string(&file).expect("it was copied") + &stream;
    fs::write(&file, settings).and_then(|()| fs::write(to.join("standby.signal"), "")).expect("the data is ours");
    let start = |server: &mut Postgres| server.start_again().expect("the server starts again");
    let (primary, replica) = (change(primary, start).await, change(replica, start).await);
    let mut url = url::Url::parse(&source).expect("an address");
    url.set_port(Some(replica.port())).expect("it has a host");
    (primary, replica, url.into())
}

/// Copies a directory with its owners and modes, as a backup does.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let data = fs::metadata(from)?;
    fs::create_dir(to)?;
    fs::set_permissions(to, data.permissions())?;
    chown(to, Some(data.uid()), Some(data.gid()))?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().expect("it was listed").path(), to.join(entry?.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else if from.file_name().is_none_or(|name| name != "postmaster.pid") {
            let data = fs::metadata(&from)?;
            fs::copy(&from, &to)?;
            chown(&to, Some(data.uid()), Some(data.gid()))?;
        }
    }
    Ok(())
}

/// Waits until the replica has everything that the primary has written.
async fn catch_up(primary: &str, replica: &str) {
    let written = number(&mut connect(primary).await, "select (pg_current_wal_flush_lsn() - '0/0')::bigint").await;
    let mut replica = connect(replica).await;
    let replayed = "select coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint";
    let mut last = 0;
    while last < written {
        last = number(&mut replica, replayed).await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Seen: a relay that had followed the failover was led back to the old primary, and took it for its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_replica_that_is_promoted_delivers_all_it_has_and_an_old_primary_that_comes_back_nothing() {
    let (server, first) = server_with_outbox(&[]).await;
    let (primary, replica, second) = replicate(server).await;
    let address = Address::of(&first, ([127, 0, 0, 1], primary.port()).into()).await;
    let recorder = Recorder::new();
    let relay = relay_at(&address.url, &recorder);
    record(&mut connect(&first).await, 1..=20).await;
    recorder.wait_for(20).await;
    catch_up(&first, &second).await;

    // The replica falls behind: what comes now is delivered by the old primary, and lost with it.
    let mut standby = connect(&second).await;
    for statement in ["alter system set primary_conninfo = ''", "select pg_reload_conf()"] {
        standby.execute(statement).await.expect("the setting is known");
    }
    eventually("nothing streams any more", || async {
        (number(&mut connect(&first).await, "select count(*) from pg_stat_replication").await == 0).then_some(())
    })
    .await;
    record(&mut connect(&first).await, 21..=30).await;
    recorder.wait_for(30).await;
    let primary = change(primary, Postgres::kill).await;

    // The address leads to the standby before that is promoted: the relay waits.
    address.move_to(&replica);
    wait_until_unready(&relay).await;
    assert_eq!(number(&mut connect(&second).await, "select count(*) from outbox.events").await, 20);
    sqlx::raw_sql("select pg_promote()").execute(&mut connect(&second).await).await.expect("it is promoted");
    wait_until_ready(&relay).await;
    // The numbers and transactions of what was lost are given out again, to other events.
    record(&mut connect(&second).await, 101..=130).await;
    eventually("all that the new primary has is delivered", || async {
        let numbers = recorder.numbers();
        (101..=130).all(|number| numbers.contains(&number)).then_some(())
    })
    .await;

    let primary = change(primary, |server| server.start_again().expect("the server starts again")).await;
    record(&mut connect(&first).await, 201..=210).await;
    address.move_to(&primary);
    wait_until_unready(&relay).await;
    address.move_to(&replica);
    wait_until_ready(&relay).await;
    record(&mut connect(&second).await, 131..=135).await;
    eventually("the new primary goes on", || async { recorder.numbers().contains(&135).then_some(()) }).await;
    relay.stop().await.expect("the relay stops");

    let numbers = recorder.numbers();
    assert!(numbers.iter().all(|number| *number <= 200), "delivered from the old primary: {numbers:?}");
    let after: Vec<i64> = numbers.into_iter().filter(|number| *number > 100).collect();
    assert_eq!(after, (101..=135).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_starts_at_a_standby_delivers_nothing_there_and_everything_once_it_is_promoted() {
    let (server, url) = server_with_outbox(&[]).await;
    record(&mut connect(&url).await, 1..=10).await;
    let server = change(server, |server| {
        std::fs::write(server.data_dir().join("standby.signal"), "").expect("the data is ours");
        server.restart().expect("it starts again");
    })
    .await;
    let binary = Binary::relay(&url, "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n");
    let running = binary.spawn(&["run"]);
    running.wait_for_output("standby").await;
    sqlx::raw_sql("select pg_promote()").execute(&mut connect(&url).await).await.expect("it is promoted");
    eventually("everything is delivered", || async {
        let delivered = number(&mut connect(&url).await, "select count(*) from outbox.deliveries where state = 'delivered'").await;
        (delivered == 10).then_some(())
    })
    .await;
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    drop(server);
}
