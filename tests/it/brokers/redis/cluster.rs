//! A Redis Cluster is not supported, and says so at the first event.

use outboxd::domain::{Outcome, Reason};

use super::expect;
use super::server::RedisServer;
use crate::support::{eventually, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_told_apart_from_a_server() {
    // By itself the port for the other servers is 10,000 above, where no port may be or another test have its own.
    let [one_bus, other_bus] = [(); 2].map(|()| free_port().to_string());
    let start = async |bus: &str| {
        RedisServer::start(&["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-port", bus]).await
    };
    let Some(one) = start(&one_bus).await else { return };
    let Some(other) = start(&other_bus).await else { return };
    let handler = one.handler("orders", "");
    let verdict = expect(&*handler, Outcome::BackPressure, Reason::ServerError).await;
    assert!(verdict.detail.contains("CLUSTERDOWN"), "{verdict:?}");
    // Each has half of the slots; one of two names is not of this half.
    one.must(&["cluster", "addslotsrange", "0", "8191"]).await;
    other.must(&["cluster", "addslotsrange", "8192", "16383"]).await;
    one.must(&["cluster", "meet", "127.0.0.1", &other.port().to_string(), &other_bus]).await;
    eventually("the halves know each other", || async {
        one.cli(&["cluster", "info"]).await.contains("cluster_slots_ok:16384").then_some(())
    })
    .await;
    let slot: u32 = one.cli(&["cluster", "keyslot", "orders"]).await.parse().expect("a number");
    let without = if slot < 8192 { &other } else { &one };
    let handler = without.handler("orders", "");
    let verdict = eventually("it redirects", || async {
        let verdict = handler.deliver(&crate::conformance::numbered("a", 1)).await;
        verdict.detail.contains("MOVED").then_some(verdict)
    })
    .await;
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::HandlerFault, Reason::Misconfigured));
    assert!(verdict.detail.contains("part of a Redis Cluster, which this kind does not support"), "{verdict:?}");
}
