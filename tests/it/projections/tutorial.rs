//! The projection of docs/event-sourcing.md, as it stands there.

use super::{command, number, wait_until_in_the_present};
use crate::docs::{block, blocks, page};
use crate::support::{Binary, NewRow, TestDatabase, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_projection_of_the_tutorial_works_as_it_stands_there() {
    let database = TestDatabase::create().await;
    database.execute(&block("docs/event-sourcing.md", "sql projections")).await;
    let entries: Vec<String> =
        blocks(&page("docs/event-sourcing.md"), "toml").into_iter().filter(|block| block.contains("[[projections]]")).collect();
    let [entry] = entries.as_slice() else { panic!("one configuration is shown") };
    let binary = Binary::relay(database.url(), entry);
    let running = binary.spawn(&["run"]);
    wait_until_in_the_present(&database, 1).await;
    command(&binary, &["check", "--connect"]).await;
    command(&binary, &["projections", "switch", "sales", "1", "--yes"]).await;
    let order = |total: f64| NewRow::new("order.placed").of("order", total).payload(serde_json::json!({ "total": total }));
    database.insert_events([order(99.5), order(0.5)]).await;
    eventually("the view has both", || async {
        let sum = "select coalesce(sum(orders * 1000 + total), 0)::bigint from app.sales";
        (number(&database, sum).await == 2_100).then_some(())
    })
    .await;
    super::stop(running).await;
}
