//! The kind without a cluster: its settings and their mistakes, what goes into librdkafka, and what leaves no process.
//! `tests/it/brokers/kafka` has the kind with clusters.

use toml::Table;

use super::settings::FIELDS;
use super::*;
use crate::domain::{Outcome, Reason};
use crate::settings::Mistakes;

const BASE: &str = "brokers = [\"127.0.0.1:1\"]\ntopic = \"orders\"\n";

fn read(settings: &str) -> Result<Settings, Vec<String>> {
    let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
    let read = settings::read(&Section::open("handlers.test", &table, FIELDS, super::super::waits::COMMON, &mistakes));
    let mistakes: Vec<String> = mistakes.into_vec().iter().map(ToString::to_string).collect();
    read.filter(|_| mistakes.is_empty()).ok_or(mistakes)
}

fn mistakes_of(settings: &str) -> Vec<String> {
    read(settings).err().unwrap_or_default()
}

fn handler(settings: &str) -> Kafka {
    Kafka::new(read(&format!("{BASE}{settings}")).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
}

#[test]
fn every_mistake_is_reported_in_one_run() {
    assert_eq!(
        mistakes_of(
            "brokers = [\"kafka.internal\", \"kafka://a:1\", \"a:0\"]\ntopic = \"or ders.{type}\"\npartition_key = \"same\"\n\
             ca = \"x\"\nsasl_mechanism = \"PLAIN\"\nusername = \"u\"\nconfirm_timeout = \"1ms\"\nconnect_timeout = \"0s\"\n\
             [properties]\nacks = \"1\"\n\"linger.ms\" = \"1\"\nnonsense = \"s3cret\"\n\"batch.size\" = \"many\"\n"
        ),
        [
            "handlers.test.brokers: got \"kafka.internal\", expected host and port such as \"kafka-1.example.org:9092\"",
            "handlers.test.brokers: got \"kafka://a:1\", expected host and port such as \"kafka-1.example.org:9092\"",
            "handlers.test.brokers: got \"a:0\", expected host and port such as \"kafka-1.example.org:9092\"",
            "handlers.test.topic: got \"or ders.{type}\": ' ' cannot be in the name of a topic, expected letters, digits, \".\", \"_\" and \"-\"",
            "handlers.test.partition_key: got the same for every event, which would put all of them into one partition",
            "handlers.test.ca: expected certificates in PEM (\"-----BEGIN CERTIFICATE-----\")",
            "handlers.test.ca: has no effect without tls = true",
            "handlers.test.password: is missing: sasl_mechanism needs it",
            "handlers.test.connect_timeout: got \"0s\", expected at least \"1ms\"",
            "handlers.test.confirm_timeout: expected at least \"1s\"",
            "handlers.test.properties.acks: cannot be set: it would count an event as delivered that is not",
            "handlers.test.properties.batch.size: Invalid value for configuration property \"batch.size\"",
            "handlers.test.properties.linger.ms: cannot be set: it is what the setting linger is for",
            "handlers.test.properties.nonsense: No such configuration property: \"nonsense\"",
        ]
    );
    assert_eq!(mistakes_of("").len(), 2, "brokers and topic are needed");
    assert_eq!(mistakes_of("brokers = []\ntopic = \"\"").len(), 2);
    assert_eq!(mistakes_of(&format!("{BASE}username = \"u\"")), ["handlers.test.username: has no effect without sasl_mechanism"]);
}

#[test]
fn the_promise_is_in_what_librdkafka_is_told() {
    let kafka = handler("linger = \"20ms\"\nmax_payload = \"4MiB\"\n[properties]\n\"batch.size\" = \"65536\"");
    for (name, want) in [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("allow.auto.create.topics", "false"),
        ("message.timeout.ms", "8000"),
        ("partitioner", "murmur2_random"),
        ("linger.ms", "20"),
        ("message.max.bytes", "4259840"),
        ("batch.size", "65536"),
        ("security.protocol", "plaintext"),
    ] {
        assert_eq!(kafka.config.get(name), Some(want), "{name}");
    }
    assert!(kafka.config.create_native_config().is_ok(), "librdkafka takes all of them");
}

#[test]
fn security_follows_from_tls_and_log_in() {
    let log_in = "sasl_mechanism = \"SCRAM-SHA-256\"\nusername = \"u\"\npassword = \"p4ssword\"\n";
    for (settings, want) in [
        (String::new(), "plaintext"),
        ("tls = true".to_owned(), "ssl"),
        (log_in.to_owned(), "sasl_plaintext"),
        (format!("{log_in}tls = true"), "sasl_ssl"),
    ] {
        let kafka = handler(&settings);
        assert_eq!(kafka.config.get("security.protocol"), Some(want));
        assert!(!format!("{kafka:?}").contains("p4ssword"));
    }
}

#[tokio::test]
async fn an_event_that_makes_no_topic_or_key_is_a_dead_letter_and_needs_no_cluster() {
    for (settings, event) in [
        ("topic = \"{header:tenant}\"", "{}"),
        ("topic = \"{header:tenant}\"", r#"{"tenant":"a b"}"#),
        ("topic = \"{header:tenant}\"", r#"{"tenant":""}"#),
        ("topic = \"t\"\npartition_key = \"{header:tenant}\"", "{}"),
    ] {
        let settings = read(&format!("brokers = [\"127.0.0.1:1\"]\n{settings}")).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let event = Notification { headers: event.to_owned(), ..Notification::sample("order.placed", "{}") };
        let verdict = Kafka::new(settings).publish(&event).await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable), "{verdict:?}");
    }
}

#[tokio::test]
async fn what_librdkafka_refuses_at_its_start_is_a_fault_that_says_so() {
    let verdict = handler("[properties]\n\"reconnect.backoff.ms\" = \"5000\"").publish(&Notification::sample("t", "{}")).await;
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::HandlerFault, Reason::Misconfigured));
    assert!(verdict.detail.contains("`reconnect.backoff.max.ms` must be >= `reconnect.backoff.ms`"), "{verdict:?}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_told_as_such() {
    let settings =
        read("brokers = [\"nowhere.invalid:9092\"]\ntopic = \"orders\"").unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let verdict = Kafka::new(settings).publish(&Notification::sample("t", "{}")).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, Reason::Dns, false), "{verdict:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_handler_that_is_dropped_leaves_no_thread() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = silent.local_addr().expect("a bound socket has an address");
    for brokers in ["127.0.0.1:1".to_owned(), address.to_string()] {
        let settings =
            read(&format!("brokers = [\"{brokers}\"]\ntopic = \"orders\"")).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let handler = Kafka::new(settings);
        for _ in 0..3 {
            let event = Notification::sample("t", "{}");
            let _ = tokio::time::timeout(Duration::from_millis(200), handler.publish(&event)).await;
        }
    }
    // Other tests of the kind have threads, too, but none for long.
    let gone = async {
        while threads_of_the_kind() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("every thread ends");
}

#[cfg(target_os = "linux")]
fn threads_of_the_kind() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("rdk:") || name.trim() == "kafka").count()
}

#[test]
fn a_partitioner_gives_each_key_one_partition() {
    let settings =
        |partitioner: &str| format!("brokers = [\"h:9092\"]\ntopic = \"t\"\nproperties = {{ partitioner = \"{partitioner}\" }}");
    for random in ["random", "Random", " random ", "nonsense"] {
        let mistakes = mistakes_of(&settings(random));
        assert!(
            mistakes.len() == 1 && mistakes[0].contains("properties.partitioner: got a partitioner that would lose the order"),
            "{mistakes:?}"
        );
    }
    for fine in ["murmur2_random", "consistent_random", "fnv1a"] {
        assert_eq!(mistakes_of(&settings(fine)), [""; 0], "{fine}");
    }
}
