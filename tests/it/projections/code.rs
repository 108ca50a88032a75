//! Projections in Rust inside a program: the same promises as functions in the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outboxd::store::Actor;
use outboxd::store::projections::{self, Switch, Switched};
use outboxd::{ProjectedEvent, Projection, ProjectionError, RelayBuilder};
use sqlx::PgConnection;

use super::{assert_equals_the_log, database, number, row, wait_for_events, wait_until_in_the_present, write_concurrently};
use crate::support::{TestDatabase, eventually};

/// Writes app.sales_N as the functions of the other tests do. At the key "bad" it fails in one of its ways while it is told to.
struct Sales {
    version: i32,
    fails: Arc<AtomicBool>,
}

impl Projection for Sales {
    fn events(&self) -> Vec<String> {
        vec!["order.*".to_owned()]
    }

    fn target(&self) -> Option<String> {
        Some(format!("app.sales_{}", self.version))
    }

    fn view(&self) -> Option<String> {
        Some("app.sales".to_owned())
    }

    async fn project(&self, event: ProjectedEvent<'_>, connection: &mut PgConnection) -> Result<(), ProjectionError> {
        let payload: serde_json::Value = serde_json::from_str(&event.payload)?;
        let n = payload["n"].as_i64().ok_or("the event has no number")?;
        let version = self.version;
        let sql = format!(
            "insert into app.sales_{version} as s (key, total, events) values ($1, $2, 1)
             on conflict (key) do update set total = s.total + excluded.total, events = s.events + 1"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&event.key).bind(n).execute(&mut *connection).await?;
        sqlx::query("insert into app.applied (version, event, key, n, replayed) values ($1, $2, $3, $4, $5)")
            .bind(version)
            .bind(event.id)
            .bind(&event.key)
            .bind(n)
            .bind(event.is_replaying)
            .execute(&mut *connection)
            .await?;
        if event.aggregate_id.as_deref() == Some("bad") && self.fails.load(Ordering::Relaxed) {
            match n {
                1 => return Err("not now".into()),
                2 => panic!("it panics"),
                _ => sqlx::query("select 1 / 0").execute(&mut *connection).await?,
            };
        }
        if !event.is_replaying {
            sqlx::query("insert into app.effects values ($1, $2)").bind(event.id).bind(version).execute(connection).await?;
        }
        Ok(())
    }
}

fn builder(database: &TestDatabase, versions: &[(i32, &Arc<AtomicBool>)]) -> RelayBuilder {
    versions.iter().fold(RelayBuilder::new(database.url()), |builder, (version, fails)| {
        let version_number = u32::try_from(*version).expect("a small number");
        builder.projection("sales", version_number, Sales { version: *version, fails: Arc::clone(fails) })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_in_rust_is_exactly_once_stops_at_what_fails_and_is_replaced_like_any_other() {
    let database = database([1, 2]).await;
    let fails = Arc::new(AtomicBool::new(true));
    let relay = builder(&database, &[(1, &fails)]).start().expect("it starts");
    wait_until_in_the_present(&database, 1).await;
    let mut committed = write_concurrently(&database, 4, 20).await;
    wait_for_events(&database, 1, committed).await;

    for (n, want) in [(1, "not now"), (2, "it panics"), (3, "division by zero")] {
        fails.store(true, Ordering::Relaxed);
        database.insert_events([row("good", 5), row("bad", n), row("good", 6)]).await;
        eventually(want, || async {
            let stopped = format!("projections where version = 1 and detail like '%{want}%'");
            (database.count(&stopped).await == 1).then_some(())
        })
        .await;
        // What it wrote before it failed is not there.
        assert_eq!(number(&database, &format!("select count(*) from app.applied where key = 'order/bad' and n = {n}")).await, 0);
        fails.store(false, Ordering::Relaxed);
        outboxd::store::ring_control(database.pool()).await.expect("the relay can be rung");
        committed += 3;
        wait_for_events(&database, 1, committed).await;
    }

    relay.reload(builder(&database, &[(1, &fails), (2, &fails)])).await.expect("no mistake").expect("it runs");
    wait_for_events(&database, 2, committed).await;
    let wish = Switch {
        name: "sales",
        version: 2,
        patience: Duration::from_secs(2),
        accepts_missing: false,
        actor: Actor::cli("test"),
        because: None,
    };
    let switched = projections::switch(database.pool(), &wish).await.expect("the database answers");
    assert_eq!(switched, Switched::Done { from: Some(1), view: Some("app.sales".to_owned()) });
    committed += write_concurrently(&database, 4, 20).await;
    wait_for_events(&database, 2, committed).await;
    relay.stop().await.expect("it stops");
    assert_equals_the_log(&database, 2).await;
    super::assert_each_had_its_effects_once(&database).await;
}

#[tokio::test]
async fn a_projection_with_a_name_or_a_table_that_cannot_be_is_refused_at_the_start() {
    let database = TestDatabase::empty().await;
    let fails = Arc::new(AtomicBool::new(false));
    let sales = || Sales { version: 1, fails: Arc::clone(&fails) };
    let refusal = |builder: RelayBuilder| builder.start().map(drop).expect_err("it is refused").to_string();
    let new = || RelayBuilder::new(database.url());
    assert!(refusal(new().projection("sa@les", 1, sales())).contains("got the name \"sa@les\", expected letters"));
    assert!(refusal(new().projection("sales", 0, sales())).contains("got the version 0"));
    let twice = refusal(new().projection("sales", 1, sales()).projection("sales", 1, sales()));
    assert!(twice.contains("the name is given more than once"), "{twice}");
}
