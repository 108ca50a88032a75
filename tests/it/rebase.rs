//! What happens to an outbox that was moved to another server: refused, explained, and rebased without a loss and without
//! delivering again what has an outcome. Every move is a real one, between real servers.
//! A long file: all moves begin from the same used outbox and end in the same take-over.

use std::collections::BTreeSet;
use std::process::Stdio;

use outboxd::launcher::Postgres;
use outboxd::{EmbeddedRelay, Reason, RelayBuilder, Verdict};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio::process::Command;

use crate::support::{Binary, Finished, Recorder, eventually, own_server, quick, quick_handler};

/// One server with an outbox in its database `postgres`.
struct Place {
    server: Postgres,
    pool: PgPool,
    url: String,
}

impl Place {
    async fn start() -> Self {
        let server = own_server(&[]).await;
        let url = server.url("postgres");
        Self { pool: pool(&url), server, url }
    }

    async fn with_outbox() -> Self {
        let place = Self::start().await;
        outboxd::store::migrate(&place.pool, "outbox", None).await.expect("the migrations apply");
        place
    }

    async fn execute(&self, sql: &str) {
        self.pool.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Uses up transaction numbers, as years of work would.
    async fn burn(&self, transactions: u32) {
        let sql = format!("do $$ begin for i in 1..{transactions} loop perform pg_current_xact_id(); commit; end loop; end $$");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.expect("transactions are cheap");
    }

    async fn next_transaction(&self) -> i64 {
        self.number("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await
    }

    /// Records the numbers, each in a transaction of its own, every third inside a savepoint.
    async fn record(&self, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            let insert = insert(number);
            match number % 3 {
                0 => self.execute(&format!("begin; savepoint s; {insert}; release savepoint s; commit")).await,
                _ => self.execute(&insert).await,
            }
        }
    }

    fn relay(&self, all: &Recorder, few: &Recorder) -> EmbeddedRelay {
        RelayBuilder::new(&self.url)
            .configure(|config| {
                quick(config);
                config.relay.drain_timeout = std::time::Duration::from_millis(300);
            })
            .configured_handler("all", all.handler(), |config| {
                quick_handler(config);
                config.retry.max_attempts = 3;
            })
            .configured_handler("few", few.handler(), |config| {
                quick_handler(config);
                config.record = outboxd::domain::Record::Failures;
            })
            .start()
            .expect("the relay starts")
    }

    async fn outboxd(&self, arguments: &[&str]) -> Finished {
        Binary::with_config("").run(&[arguments, &["--database-url", &self.url]].concat()).await
    }

    async fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let finished = self.outboxd(&[arguments, &["--json"]].concat()).await;
        let document = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        (finished.code, document)
    }
}

fn pool(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("an address");
    let options = options.options([("search_path", "outbox,pg_catalog,public")]);
    PgPoolOptions::new().max_connections(5).connect_lazy_with(options)
}

fn insert(number: i64) -> String {
    format!(
        "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', '{}', '{{\"n\":{number}}}')",
        number % 7
    )
}

/// By `pg_dump` and `psql` of the servers' own version; where only the server programs are installed, table by table.
async fn restore(from: &Place, to: &Place) {
    let (Some(dump), Some(psql)) = (from.server.program("pg_dump"), to.server.program("psql")) else {
        return copy_tables(from, to, true).await;
    };
    let dumped = Command::new(dump).arg("--schema=outbox").arg(&from.url).output().await.expect("pg_dump runs");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("outbox.sql");
    std::fs::write(&file, &dumped.stdout).expect("the directory is ours");
    let arguments = ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file"];
    let restored =
        Command::new(psql).args(arguments).arg(&file).arg(&to.url).stdin(Stdio::null()).output().await.expect("psql runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

/// As logical replication does it, which leaves sequences out.
async fn copy_tables(from: &Place, to: &Place, with_sequences: bool) {
    outboxd::store::migrate(&to.pool, "outbox", None).await.expect("the migrations apply");
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
           from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
          where c.relnamespace = 'outbox'::regnamespace and c.relkind = 'r' and c.relname <> 'migrations'
          group by c.relname order by c.relname",
    )
    .fetch_all(&from.pool)
    .await
    .expect("the tables are there");
    for (table, columns) in tables {
        let mut source = from.pool.acquire().await.expect("a connection");
        let mut rows = source.copy_out_raw(&format!("copy {table} ({columns}) to stdout")).await.expect("the table can be read");
        let mut bytes = Vec::new();
        while let Some(chunk) = futures_util::StreamExt::next(&mut rows).await {
            bytes.extend_from_slice(&chunk.expect("the table can be read"));
        }
        let mut target = to.pool.acquire().await.expect("a connection");
        let mut copy = target.copy_in_raw(&format!("copy {table} ({columns}) from stdin")).await.expect("the table can be written");
        copy.send(bytes).await.expect("the table can be written");
        copy.finish().await.expect("the rows fit");
    }
    if with_sequences {
        let last = from.number("select last_seq()").await;
        to.execute(&format!("select setval('outbox.events_seq_seq', {})", last.max(1))).await;
    }
}

fn numbers(range: impl IntoIterator<Item = i64>) -> BTreeSet<i64> {
    range.into_iter().collect()
}

fn delivered(recorder: &Recorder) -> BTreeSet<i64> {
    recorder.numbers().into_iter().collect()
}

/// An outbox with all that a position can have beyond it: events that were delivered, are retried, are dead, a straggler of a
/// transaction that was in progress when the position was taken, and a backlog.
/// 1 to 20 delivered, 21 dead and 22 retrying in `all`, 23 the straggler, 24 to 40 the backlog.
async fn used(place: &Place) -> (Recorder, Recorder) {
    let all = Recorder::answering(|notification, _| match crate::support::number(notification) {
        21 => Verdict::permanent(Reason::Refused, "never"),
        22 => Verdict::retry(Reason::Failed, "later").not_before(Some(std::time::Duration::from_secs(3600))),
        _ => Verdict::delivered(),
    });
    let few = Recorder::new();
    let relay = place.relay(&all, &few);
    place.record(1..=10).await;
    let mut straggler = PgConnection::connect(&place.url).await.expect("a connection");
    straggler.execute(AssertSqlSafe(format!("begin; {}", insert(23)))).await.expect("an open transaction");
    place.record(11..=22).await;
    all.wait_for(20).await;
    few.wait_for(22).await;
    eventually("the failures are recorded", || async {
        (place.number("select count(*) from deliveries where state in ('dead', 'retrying')").await == 2).then_some(())
    })
    .await;
    // So that the position has passed the others, and the straggler is all that it lists.
    eventually("the positions have passed", || async {
        (place.number("select count(*) from subscriptions where pg_snapshot_xmax(snapshot)::text::bigint > (select max(tx::text::bigint) from events)").await
            == 2)
            .then_some(())
    })
    .await;
    relay.stop().await.expect("the relay stops");
    straggler.execute("commit").await.expect("it commits");
    place.record(24..=40).await;
    (all, few)
}

/// A relay refuses; then the commands say what is pending, and after them it delivers exactly that.
async fn take_over(place: &Place, before: (&Recorder, &Recorder), written_here: BTreeSet<i64>) {
    let refused = place.outboxd(&["verify"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    refuses(place).await;
    let (code, plan) = place.json(&["rebase", "--dry-run"]).await;
    assert_eq!((code, &plan["is_done"], &plan["numbering"]), (Some(0), &json!(false), &json!("began_anew")), "{plan:#}");
    refuses(place).await;

    let pending: BTreeSet<i64> = numbers(23..=40).union(&written_here).copied().collect();
    let (code, done) = place.json(&["rebase", "--yes"]).await;
    assert_eq!((code, &done["is_done"]), (Some(0), &json!(true)), "{done:#}");
    for handler in [&done["handlers"][0], &done["handlers"][1]] {
        assert_eq!(
            (&handler["pending"], &handler["by_snapshot"]),
            (&json!(pending.len()), &plan["handlers"][0]["by_snapshot"]),
            "{done:#}"
        );
    }
    let verified = place.outboxd(&["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert_eq!(place.number("select count(*) from audit where action = 'rebase'").await, 1);
    let again = place.outboxd(&["rebase", "--yes"]).await;
    assert!(again.code == Some(1) && again.stderr.contains("belong to this server already"), "{again:?}");

    let (all, few) = (Recorder::new(), Recorder::new());
    let relay = place.relay(&all, &few);
    place.execute("update deliveries set due_at = clock_timestamp() where state = 'retrying'").await;
    all.wait_for(pending.len() + 1).await;
    few.wait_for(pending.len()).await;
    // Past every number that the old server has given out: nothing of what was restored looks new then.
    let restored = place.number("select count(*) from events where tx::text::bigint = 3").await;
    assert!(restored == 0 || restored >= 34, "{restored}");
    place.burn(30_000).await;
    place.record(2_001..=2_005).await;
    all.wait_for(pending.len() + 6).await;
    few.wait_for(pending.len() + 5).await;
    relay.stop().await.expect("the relay stops");

    let later = numbers(2_001..=2_005);
    let with = |more: &[i64]| pending.union(&later).copied().chain(more.iter().copied()).collect::<BTreeSet<i64>>();
    assert_eq!((delivered(&all), all.calls().len()), (with(&[22]), pending.len() + 6));
    assert_eq!((delivered(&few), few.calls().len()), (with(&[]), pending.len() + 5));
    assert_eq!(delivered(before.0), numbers(1..=20));
    assert_eq!(delivered(before.1), numbers(1..=22));
    assert_eq!(place.number("select count(*) from deliveries where state = 'dead'").await, 1);
}

async fn refuses(place: &Place) {
    let refusing = place.relay(&Recorder::new(), &Recorder::new());
    eventually("the relay refuses", || async { (!refusing.is_running()).then_some(()) }).await;
    let refusal = refusing.stop().await.expect_err("it is another server").to_string();
    assert!(refusal.contains("nothing is dispatched") && refusal.contains("outboxd rebase"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_restored_where_transaction_numbers_are_lower_is_rebased_without_loss_or_repetition() {
    let (old, new) = tokio::join!(Place::with_outbox(), Place::start());
    old.burn(20_000).await;
    let (all, few) = used(&old).await;
    // In progress at the dump, so not part of it: committed there, it has never happened here.
    let mut late = PgConnection::connect(&old.url).await.expect("a connection");
    late.execute(AssertSqlSafe(format!("begin; {}", insert(99)))).await.expect("an open transaction");
    restore(&old, &new).await;
    late.execute("commit").await.expect("it commits");
    assert!(new.next_transaction().await < 20_000 && old.next_transaction().await > 20_000);
    new.record(1_001..=1_009).await;

    take_over(&new, (&all, &few), numbers(1_001..=1_009)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_restored_where_transaction_numbers_are_higher_is_rebased_without_loss_or_repetition() {
    let (old, new) = tokio::join!(Place::with_outbox(), Place::start());
    let (all, few) = used(&old).await;
    new.burn(20_000).await;
    restore(&old, &new).await;
    assert!(new.next_transaction().await > old.next_transaction().await);
    new.record(1_001..=1_009).await;

    take_over(&new, (&all, &few), numbers(1_001..=1_009)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_with_numbers_used_before_is_pending_after_a_copy_without_sequences() {
    let (old, new) = tokio::join!(Place::with_outbox(), Place::start());
    old.burn(20_000).await;
    let (all, few) = used(&old).await;
    // Retention has made room: numbers that the copy gives out again are free.
    old.execute("delete from deliveries where seq <= 6; delete from events where seq <= 6").await;
    copy_tables(&old, &new, false).await;
    new.record(1_001..=1_006).await;
    assert_eq!(new.number("select max(seq) from events where (payload ->> 'n')::int > 1000").await, 6);
    let low = new.outboxd(&["rebase", "--dry-run"]).await;
    assert!(low.stdout.contains("sequence events_seq_seq is at 6"), "{low:?}");

    take_over(&new, (&all, &few), numbers(1_001..=1_006)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_was_open_at_the_dump_goes_on_behind_what_was_delivered() {
    const COUNT: i64 = 700;
    let (old, new) = tokio::join!(Place::with_outbox(), Place::start());
    old.burn(20_000).await;
    let rows = (1..=COUNT).map(|number| format!("('t', 'order', '{number}', '{{\"n\":{number}}}')")).collect::<Vec<_>>().join(", ");
    old.execute(&format!("insert into events (type, aggregate_type, aggregate_id, payload) values {rows}")).await;
    let stuck = || {
        Recorder::answering_later(|notification, _| {
            let number = crate::support::number(notification);
            async move {
                if number > 300 && number % 5 != 0 {
                    std::future::pending::<()>().await;
                }
                Verdict::delivered()
            }
        })
    };
    let (all, few) = (stuck(), stuck());
    let relay = old.relay(&all, &few);
    eventually("both windows are open and partly read", || async {
        (old.number("select count(*) from subscriptions where window_seq >= 256").await == 2).then_some(())
    })
    .await;
    relay.stop().await.expect("the relay stops");
    restore(&old, &new).await;
    let (_, done) = new.json(&["rebase", "--yes"]).await;
    assert_eq!(done["is_done"], json!(true), "{done:#}");

    let after = (Recorder::new(), Recorder::new());
    let relay = new.relay(&after.0, &after.1);
    for (before, after) in [(&all, &after.0), (&few, &after.1)] {
        let open: BTreeSet<i64> = numbers(1..=COUNT).difference(&delivered(before)).copied().collect();
        assert!(open.len() > 100 && open.len() < 450, "{}", open.len());
        after.wait_for(open.len()).await;
    }
    new.record([5_001]).await;
    for (before, after) in [(&all, &after.0), (&few, &after.1)] {
        let open: BTreeSet<i64> = numbers(1..=COUNT).difference(&delivered(before)).copied().chain([5_001]).collect();
        after.wait_for(open.len()).await;
        assert_eq!((delivered(after), after.calls().len()), (open.clone(), open.len()));
    }
    relay.stop().await.expect("the relay stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_on_a_new_timeline_publishes_nothing_until_a_person_says_so_and_keeps_its_positions() {
    let mut place = Place::with_outbox().await;
    let (all, few) = used(&place).await;
    let positions = "select string_agg(snapshot::text || coalesce(window_seq::text, ''), ' ' order by id) from subscriptions";
    let before: String = sqlx::query_scalar(positions).fetch_one(&place.pool).await.expect("positions");
    place.pool.close().await;
    // A standby that is promoted, or a recovery to a moment: the same files, a new timeline.
    std::fs::write(place.server.data_dir().join("standby.signal"), "").expect("the data is ours");
    let mut server = place.server;
    place.server = tokio::task::spawn_blocking(move || {
        server.restart().expect("it starts again");
        server
    })
    .await
    .expect("no panic");
    place.pool = pool(&place.url);
    eventually("it is promoted", || async {
        let promoted: Result<bool, _> = sqlx::query_scalar("select pg_promote()").fetch_one(&place.pool).await;
        promoted.is_ok_and(|promoted| promoted).then_some(())
    })
    .await;

    refuses(&place).await;
    let (code, done) = place.json(&["rebase", "--yes"]).await;
    assert_eq!((code, &done["numbering"], &done["renumbered"]), (Some(0), &json!("continues"), &json!(0)), "{done:#}");
    let after: String = sqlx::query_scalar(positions).fetch_one(&place.pool).await.expect("positions");
    assert_eq!(after, before);
    let verified = place.outboxd(&["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let again = (Recorder::new(), Recorder::new());
    let relay = place.relay(&again.0, &again.1);
    again.1.wait_for(18).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!(delivered(&again.1), numbers(23..=40));
    assert_eq!((delivered(&all).len(), delivered(&few).len()), (20, 22));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_beside_the_first_publishes_nothing_by_itself() {
    let place = Place::with_outbox().await;
    used(&place).await;
    place.pool.close().await;
    let mut admin = PgConnection::connect(&place.server.url("template1")).await.expect("a connection");
    admin.execute("create database staging template postgres").await.expect("a copy");
    let url = place.server.url("staging");
    let staging = Place { pool: pool(&url), url, server: place.server };

    refuses(&staging).await;
    let text = staging.outboxd(&["rebase", "--dry-run"]).await;
    assert!(text.code == Some(0) && text.stdout.contains("every position stays where it is"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_know_more_than_the_server_has_begun_are_refused_and_rebased() {
    let place = Place::with_outbox().await;
    let (all, few) = used(&place).await;
    // What a restore under the same identity looks like: the numbers of the positions are those of another life.
    place
        .execute(
            "select set_config('outboxd.changes_log', 'on', true);
             create function later(x xid8) returns text language sql as 'select (x::text::bigint + 800000)::text';
             update subscriptions
                set snapshot = (later(pg_snapshot_xmin(snapshot)) || ':' || later(pg_snapshot_xmax(snapshot)) || ':'
                                || coalesce((select string_agg(later(x), ',') from pg_snapshot_xip(snapshot) x), ''))::pg_snapshot;
             update events set tx = (tx::text::bigint + 800000)::text::xid8",
        )
        .await;
    let (code, verified) = place.json(&["verify"]).await;
    assert_eq!((code, &verified["is_ours"]), (Some(2), &json!(false)), "{verified:#}");
    refuses(&place).await;
    let (code, done) = place.json(&["rebase", "--yes"]).await;
    assert_eq!((code, &done["numbering"]), (Some(0), &json!("began_anew")), "{done:#}");
    let after = (Recorder::new(), Recorder::new());
    let relay = place.relay(&after.0, &after.1);
    after.0.wait_for(19).await;
    after.1.wait_for(18).await;
    relay.stop().await.expect("the relay stops");
    assert_eq!((delivered(&after.0), delivered(&after.1)), (numbers(22..=40), numbers(23..=40)));
    assert_eq!((delivered(&all).len(), delivered(&few).len()), (20, 22));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebase_is_refused_while_a_relay_is_connected_and_without_a_word() {
    let place = Place::with_outbox().await;
    used(&place).await;
    let fresh = Place::with_outbox().await;
    let nothing = fresh.outboxd(&["rebase", "--yes"]).await;
    assert!(nothing.code == Some(1) && nothing.stderr.contains("no relay has run"), "{nothing:?}");

    let recorder = Recorder::new();
    let relay = place.relay(&recorder, &recorder);
    recorder.wait_for(36).await;
    place.execute("update incarnation set system_identifier = 42").await;
    eventually("the relay notices", || async {
        relay.health().reasons.iter().any(|reason| reason.contains("cluster 42")).then_some(())
    })
    .await;
    let refused = place.outboxd(&["rebase", "--yes"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("a relay is connected"), "{refused:?}");
    relay.stop().await.expect("the relay stops");
    let mut writer = PgConnection::connect(&place.url).await.expect("a connection");
    writer.execute(AssertSqlSafe(format!("begin; {}", insert(41)))).await.expect("an open transaction");
    let waited = place.outboxd(&["rebase", "--yes"]).await;
    assert!(waited.code == Some(75) && waited.stderr.contains("could not lock the events"), "{waited:?}");
    writer.execute("rollback").await.expect("it gives up");
    let unasked = place.outboxd(&["rebase"]).await;
    assert!(unasked.code == Some(64) && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(place.number("select system_identifier from incarnation").await, 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_was_renamed_gets_its_bell_anew() {
    let (old, new) = tokio::join!(Place::with_outbox(), Place::start());
    used(&old).await;
    restore(&old, &new).await;
    new.execute("alter schema outbox rename to events_of_shop").await;
    let url = format!("{}?options=-csearch_path%3Devents_of_shop", new.url);
    let done = Binary::with_config("").run(&["rebase", "--yes", "--schema", "events_of_shop", "--database-url", &new.url]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("the trigger ring_bell does not belong to this schema"), "{done:?}");

    let mut listener = sqlx::postgres::PgListener::connect(&url).await.expect("a connection");
    listener.listen("outboxd_events_of_shop").await.expect("it listens");
    let mut sleeper = PgConnection::connect(&url).await.expect("a connection");
    sleeper.execute("select pg_advisory_lock(hashtextextended('outboxd bell events_of_shop', 0))").await.expect("the bell is free");
    new.execute("insert into events_of_shop.events (type, payload) values ('a', '{}')").await;
    let rung = tokio::time::timeout(crate::support::DEADLINE, listener.recv()).await.expect("it rings").expect("a connection");
    assert_eq!(rung.channel(), "outboxd_events_of_shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_that_write_all_the_while_lose_nothing_in_a_rebase() {
    const WRITERS: i64 = 6;
    let (old, new) = tokio::join!(Place::with_outbox(), Place::start());
    old.burn(20_000).await;
    let (all, few) = used(&old).await;
    restore(&old, &new).await;

    // Transactions that have a number long before they write, savepoints, rollbacks: all that can be in flight around the lock.
    let stop = tokio_util::sync::CancellationToken::new();
    let writers: Vec<_> = (1..=WRITERS)
        .map(|writer| {
            let (url, stop) = (new.url.clone(), stop.clone());
            tokio::spawn(async move {
                let mut connection = PgConnection::connect(&url).await.expect("a connection");
                let mut committed = BTreeSet::new();
                for number in (writer * 1_000_000).. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let end = if number % 7 == 0 { "rollback" } else { "commit" };
                    let early = if number % 2 == 0 { "select pg_current_xact_id(), pg_sleep(0.01); savepoint s;" } else { "" };
                    let sql = format!("begin; {early} {}; {end}", insert(number));
                    connection.execute(AssertSqlSafe(sql)).await.expect("an application writes as ever");
                    if end == "commit" {
                        committed.insert(number);
                    }
                }
                committed
            })
        })
        .collect();
    eventually("they write", || async { (new.number("select count(*) from events").await > 200).then_some(()) }).await;
    let (_, done) = new.json(&["rebase", "--yes"]).await;
    assert_eq!(done["is_done"], json!(true), "{done:#}");
    let after = (Recorder::new(), Recorder::new());
    let relay = new.relay(&after.0, &after.1);
    after.1.wait_for(1_000).await;
    stop.cancel();
    let mut expected = numbers(23..=40);
    for writer in writers {
        expected.extend(writer.await.expect("a writer does not panic"));
    }
    after.1.wait_for(expected.len()).await;
    after.0.wait_for(expected.len() + 1).await;
    relay.stop().await.expect("the relay stops");

    assert_eq!((delivered(&after.1), after.1.calls().len()), (expected.clone(), expected.len()));
    let retried = numbers([22]);
    assert_eq!((delivered(&after.0), after.0.calls().len()), (expected.union(&retried).copied().collect(), expected.len() + 1));
    assert_eq!((delivered(&all).len(), delivered(&few).len()), (20, 22));
}
