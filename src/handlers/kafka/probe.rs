//! Probing: connects and logs in as a delivery would, and requests the topic and the leaders of its partitions, because the usual
//! mistake is a cluster that answers at one address and advertises another that cannot be reached. Publishes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};
use tokio::time::timeout;

use super::Kafka;
use super::classify;
use super::producer::{Asked, ask};

/// The topic that is requested where every event has its own topic. No topic has this name; the cluster answers all the same.
const NO_TOPIC: &str = "outboxd-probe";

impl Kafka {
    pub(super) async fn look(&self) -> Result<String, String> {
        let constant = self.topic.constant().map(str::to_owned);
        let name = constant.clone().unwrap_or_else(|| NO_TOPIC.to_owned());
        let patience = self.link.timeout();
        let asked = ask(&self.config, &name, move |asked| match constant {
            Some(topic) => look_at(asked, &topic, patience),
            None => Ok(String::new()),
        });
        let target = self.link.target();
        // Once for the connection and once for the leaders.
        let answer = match timeout(patience * 2, asked).await {
            Err(_) => Err(format!("could not connect to {target} within {:?}", patience * 2)),
            Ok(Err(verdict)) => Err(format!("could not connect: {}", verdict.detail)),
            Ok(Ok(answer)) => answer,
        };
        match answer {
            Ok(said) => Ok(format!("connected to {target}{said}")),
            Err(problem) => Err(self.redaction.excerpt(problem.as_bytes(), false)),
        }
    }
}

fn look_at(asked: &Asked<'_>, name: &str, patience: Duration) -> Result<String, String> {
    let topic = asked.metadata.topics().iter().find(|topic| topic.name() == name);
    let topic = topic.ok_or_else(|| format!("the cluster says nothing about the topic \"{name}\""))?;
    if let Some(error) = topic.error() {
        return Err(objection(name, error));
    }
    let leaders = leaders(topic);
    let patience = patience / u32::try_from(leaders.len().max(1)).unwrap_or(u32::MAX);
    for (leader, partition) in leaders {
        asked.reach_leader(name, partition, patience).map_err(|verdict| {
            format!(
                "could not reach {}, the leader of partition {partition} of \"{name}\": {}",
                address(&asked.metadata, leader),
                verdict.detail
            )
        })?;
    }
    Ok(format!(
        "; the topic \"{name}\" has {}, each on {}",
        counted(topic.partitions().len(), "partition"),
        counted(copies(topic), "broker")
    ))
}

fn objection(name: &str, error: RDKafkaRespErr) -> String {
    match Code::from(error) {
        Code::UnknownTopicOrPartition | Code::UnknownTopic => format!("there is no topic \"{name}\"; outboxd creates none"),
        code => format!("the topic \"{name}\": {}", classify::text_of(code)),
    }
}

/// Each leader, with one partition that it leads.
fn leaders(topic: &MetadataTopic) -> BTreeMap<i32, i32> {
    topic.partitions().iter().map(|partition| (partition.leader(), partition.id())).collect()
}

fn address(metadata: &Metadata, broker: i32) -> String {
    let broker = metadata.brokers().iter().find(|known| known.id() == broker);
    broker
        .map_or_else(|| "a broker that the cluster does not name".to_owned(), |known| format!("{}:{}", known.host(), known.port()))
}

/// On how few brokers a partition lies.
fn copies(topic: &MetadataTopic) -> usize {
    topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default()
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("one {what}") } else { format!("{number} {what}s") }
}
