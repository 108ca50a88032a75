//! What a broker can answer to one request, injected into the mock cluster of librdkafka: it speaks the protocol over real sockets.

use std::time::Duration;

use futures_util::future::join_all;
use outboxd::handlers::Handler;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};
use serde_json::{Value, json};

use super::{handler, id, told};
use crate::conformance::numbered;
use crate::support::{eventually, read_topic};

/// Requests of one event before librdkafka passes the answer on: the first and three more.
const REQUESTS: usize = 4;

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn start(brokers: i32) -> Self {
        let cluster = MockCluster::new(brokers).expect("a mock cluster starts");
        cluster.create_topic("orders", 1, brokers).expect("a topic can be made");
        Self(cluster)
    }

    fn handler(&self) -> std::sync::Arc<dyn Handler> {
        handler(&format!("{}\ntopic = \"orders\"\nconfirm_timeout = \"2s\"\nconnect_timeout = \"3s\"", self.brokers()))
    }

    fn brokers(&self) -> String {
        let all = self.0.bootstrap_servers();
        let listed: Vec<String> = all.split(',').map(|broker| format!("\"{broker}\"")).collect();
        format!("brokers = [{}]", listed.join(", "))
    }

    /// The next requests to publish are answered like this.
    fn answers(&self, errors: &[Error]) {
        self.0.request_errors(RDKafkaApiKey::Produce, errors);
    }

    fn is_itself_again(&self) {
        self.0.clear_request_errors(RDKafkaApiKey::Produce);
    }

    async fn records(&self) -> Vec<Value> {
        read_topic(&self.0.bootstrap_servers(), "orders", &json!({})).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_broker_has_its_outcome_and_what_was_refused_arrives_later() {
    use Error::*;
    let cases = [
        (RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, REQUESTS, ("back_pressure", "nacked", false)),
        (RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, REQUESTS, ("back_pressure", "nacked", true)),
        (RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, 1, ("back_pressure", "throttled", false)),
        (RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1, ("handler_fault", "unauthorized", false)),
        (RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, 1, ("handler_fault", "unauthorized", false)),
        (RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, 1, ("handler_fault", "misconfigured", false)),
        (RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 2, ("permanent", "too_large", false)),
        (RD_KAFKA_RESP_ERR_INVALID_RECORD, 2, ("permanent", "client_error", false)),
        (RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, REQUESTS, ("retry", "timeout", true)),
        (RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, REQUESTS, ("retry", "server_error", false)),
        (RD_KAFKA_RESP_ERR__TRANSPORT, REQUESTS, ("retry", "connection_reset", true)),
        // librdkafka takes it for the end of what it can tell: the producer is made anew.
        (RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1, ("retry", "server_error", true)),
        // These it settles by itself.
        (RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 3, ("delivered", "ok", false)),
        (RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 2, ("delivered", "ok", false)),
        (RD_KAFKA_RESP_ERR__TRANSPORT, 1, ("delivered", "ok", false)),
    ];
    join_all(cases.map(|(error, times, want)| answered(error, times, want))).await;
}

async fn answered(error: Error, times: usize, want: (&str, &str, bool)) {
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    cluster.answers(&vec![error; times]);
    let event = numbered("a", 1);
    let verdict = handler.deliver(&event).await;
    assert_eq!(told(&verdict), want, "{error:?}: {verdict:?}");
    cluster.is_itself_again();
    if !verdict.is_delivered() {
        let again = handler.deliver(&event).await;
        assert!(again.is_delivered(), "{error:?}: the same handler goes on: {again:?}");
    }
    let records = cluster.records().await;
    assert_eq!(records.iter().filter(|record| id(record) == event.id.to_string()).count(), 1, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_holds_everything_wherever_the_broker_says_so() {
    let event = numbered("a", 1);
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    cluster.0.topic_error("orders", Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).expect("a topic has errors");
    let verdict = handler.deliver(&event).await;
    assert_eq!(told(&verdict), ("handler_fault", "unauthorized", false), "{verdict:?}");
    assert_eq!(handler.probe().await, Err("the topic \"orders\": Broker: Topic authorization failed".to_owned()));
    cluster.0.topic_error("orders", Error::RD_KAFKA_RESP_ERR_NO_ERROR).expect("a topic has none");
    let verdict = handler.deliver(&event).await;
    assert!(verdict.is_delivered(), "{verdict:?}");

    // Before Kafka 2.8 an idempotent producer needed a right of its own.
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    cluster.0.request_errors(RDKafkaApiKey::InitProducerId, &[Error::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED]);
    let verdict = handler.deliver(&event).await;
    assert_eq!(told(&verdict), ("handler_fault", "unauthorized", false), "{verdict:?}");
    let verdict = handler.deliver(&event).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_although_the_answer_was_lost_counts_once() {
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    cluster.answers(&[Error::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER]);
    assert_eq!(told(&handler.deliver(&numbered("a", 1)).await), ("delivered", "ok", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_does_not_pay_for_the_size_of_its_company() {
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    // The broker refuses one request, whoever is in it.
    cluster.answers(&[Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let events: Vec<_> = (1..=20).map(|number| numbered(&number.to_string(), number)).collect();
    let verdicts = join_all(events.iter().map(|event| handler.deliver(event))).await;
    assert!(verdicts.iter().all(|verdict| verdict.is_delivered()), "{verdicts:?}");
    assert_eq!(cluster.records().await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_told_at_once_and_forgotten_when_it_is_back() {
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    cluster.0.broker_down(-1).expect("a broker can be taken down");
    let verdict = eventually("nobody is reached", || async {
        let verdict = handler.deliver(&numbered("a", 1)).await;
        verdict.reason.is_unreachable().then_some(verdict)
    })
    .await;
    assert_eq!(told(&verdict), ("retry", "connection_refused", false), "{verdict:?}");
    cluster.0.broker_up(-1).expect("a broker can be brought up");
    eventually("it is delivered", || async { handler.deliver(&numbered("a", 2)).await.is_delivered().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_less_is_no_outage() {
    let cluster = Cluster::start(3);
    let handler = cluster.handler();
    cluster.0.partition_leader("orders", 0, Some(1)).expect("a leader can be chosen");
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    cluster.0.broker_down(1).expect("a broker can be taken down");
    let event = numbered("a", 1);
    let (verdict, ()) = tokio::join!(handler.deliver(&event), async {
        cluster.0.partition_leader("orders", 0, Some(2)).expect("a leader can be chosen");
    });
    assert!(verdict.is_delivered(), "{verdict:?}");
    assert_eq!(cluster.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_too_long_leaves_doubt() {
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    cluster.0.broker_round_trip_time(-1, Duration::from_secs(60)).expect("a broker can be slowed down");
    let verdict = handler.deliver(&numbered("a", 1)).await;
    assert_eq!(told(&verdict), ("retry", "timeout", true), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_not_sent_any_more() {
    let cluster = Cluster::start(1);
    let handler = cluster.handler();
    assert!(handler.deliver(&numbered("a", 0)).await.is_delivered());
    // An answer to which librdkafka tries again until the time is up.
    cluster.answers(&[Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 1_000]);
    let given_up = numbered("a", 1);
    let verdict = handler.deliver(&given_up).await;
    assert_eq!(told(&verdict), ("retry", "timeout", false), "{verdict:?}");
    cluster.is_itself_again();
    let verdict = handler.deliver(&numbered("a", 2)).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
    let records = cluster.records().await;
    assert!(!records.iter().any(|record| id(record) == given_up.id.to_string()), "{records:?}");
}
