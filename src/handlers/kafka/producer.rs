//! The producer: librdkafka with its threads and sockets. One thread of ours owns it: it starts the producer, polls its reports,
//! and ends it when no handler holds it any more. Starting, asking and ending wait for the network, so no thread of the runtime
//! does that, and a stop waits for none of it.
//!
//! librdkafka reconnects by itself as long as one broker is left. When none is, the producer is given up; a delivery that still
//! waits for a report keeps it until then. Its log goes to ours, at `debug`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::bindings::{rd_kafka_message_produce_errstr, rd_kafka_message_status, rd_kafka_msg_status_t};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, ClientContext, Message};
use tokio::sync::oneshot;

use super::classify::{self, Report};
use super::trouble::Trouble;
use crate::domain::{Reason, Verdict};

/// How long the thread waits for reports before it checks whether the producer is still used.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for one answer while connecting, at first; doubles, so that slow networks get theirs.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);

type Native = BaseProducer<Watch>;
/// One event on its way into librdkafka.
pub type Record<'r> = BaseRecord<'r, [u8], [u8], Box<oneshot::Sender<Report>>>;

/// A producer that has reached its cluster. Clones are the same one; with the last of them it ends, and what it has not sent is not
/// sent any more.
#[derive(Clone)]
pub struct Producer(Arc<Native>);

impl Producer {
    /// Starts one and waits until a broker answers. Dropping the future ends it.
    pub async fn start(config: &ClientConfig, topic: &str) -> Result<Self, Verdict> {
        let (config, topic) = (config.clone(), topic.to_owned());
        on_a_thread(move |waiting| run(&config, &topic, waiting)).await.unwrap_or_else(|| Err(ended()))
    }

    /// Gives an event to librdkafka, which will report exactly once. Does not wait.
    pub fn send(&self, record: Record<'_>) -> Result<(), KafkaError> {
        let awaited = &self.0.context().awaited;
        awaited.fetch_add(1, Ordering::AcqRel);
        self.0.send(record).map_err(|(error, _)| {
            awaited.fetch_sub(1, Ordering::AcqRel);
            error
        })
    }

    /// A report with the reason in it, if librdkafka gave up altogether and says only that it has.
    pub fn explained(&self, report: Report) -> Report {
        match (report.error, self.0.client().fatal_error()) {
            (Some(Code::Fatal | Code::PurgeQueue), Some((code, text))) => Report { error: Some(code), text, ..report },
            _ => report,
        }
    }

    /// No event is on its way, not even one whose delivery was broken off.
    pub fn is_idle(&self) -> bool {
        self.0.context().awaited.load(Ordering::Acquire) == 0
    }

    /// A broker is left, and librdkafka can still report which events were stored.
    pub fn is_usable(&self) -> bool {
        self.0.context().is_usable()
    }

    pub fn trouble(&self) -> Option<Trouble> {
        self.0.context().trouble()
    }
}

/// Starts a producer for questions only, asks with it, and ends it. Dropping the future ends it, too.
pub async fn ask<T: Send + 'static>(
    config: &ClientConfig,
    topic: &str,
    question: impl FnOnce(&Asked<'_>) -> T + Send + 'static,
) -> Result<T, Verdict> {
    let (config, topic) = (config.clone(), topic.to_owned());
    let answer = on_a_thread(move |waiting| {
        let answer = match start(&config, &topic, &waiting) {
            Some(Ok((producer, metadata))) => Ok(question(&Asked { producer: &producer, metadata })),
            Some(Err(verdict)) => Err(verdict),
            None => return,
        };
        let _ = waiting.send(answer);
    });
    answer.await.unwrap_or_else(|| Err(ended()))
}

/// A cluster that has answered.
pub struct Asked<'p> {
    producer: &'p Native,
    /// The facts of the cluster and of the topic.
    pub metadata: Metadata,
}

impl Asked<'_> {
    /// Asks the leader of a partition, which has to be reached for that at the address that the cluster gives.
    pub fn reach_leader(&self, topic: &str, partition: i32, patience: Duration) -> Result<(), Verdict> {
        let answer = self.producer.client().fetch_watermarks(topic, partition, patience);
        self.producer.poll(LOOK_EVERY);
        match (answer, self.producer.context().trouble()) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(trouble)) => Err(trouble.verdict()),
            (Err(error), None) => Err(classify::reported(&classify::not_taken(&error), None)),
        }
    }
}

/// Runs something that waits for the network and sends its answer. No caller waits for the thread: it ends when librdkafka
/// has closed its sockets, at most a name look-up after the last interest in it.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce(oneshot::Sender<T>) + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let started = thread::Builder::new().name("kafka".to_owned()).spawn(move || work(sender));
    started.ok()?;
    receiver.await.ok()
}

fn ended() -> Verdict {
    Verdict::retry(Reason::Failed, "the thread of librdkafka did not start, or ended without an answer")
}

/// The life of a producer.
fn run(config: &ClientConfig, topic: &str, waiting: oneshot::Sender<Result<Producer, Verdict>>) {
    let producer = match start(config, topic, &waiting) {
        Some(Ok((producer, _))) => producer,
        Some(Err(verdict)) => {
            let _ = waiting.send(Err(verdict));
            return;
        }
        None => return,
    };
    let _ = waiting.send(Ok(Producer(Arc::clone(&producer))));
    // Only this thread is left with one: no other clone can be made of it.
    while Arc::strong_count(&producer) > 1 {
        producer.poll(LOOK_EVERY);
    }
    // Its end forgets what is queued and in flight, closes the sockets and waits for the threads of librdkafka.
}

/// A producer whose cluster has answered. `None`: no delivery waits for it any more.
fn start<T>(config: &ClientConfig, topic: &str, waiting: &oneshot::Sender<T>) -> Option<Result<(Arc<Native>, Metadata), Verdict>> {
    let producer = match Native::from_config_and_context(config, Watch::default()) {
        Ok(producer) => Arc::new(producer),
        Err(error) => return Some(Err(classify::not_created(&error))),
    };
    let mut patience = FIRST_PATIENCE;
    while !waiting.is_closed() {
        if let Ok(metadata) = producer.client().fetch_metadata(Some(topic), patience) {
            return Some(Ok((producer, metadata)));
        }
        producer.poll(LOOK_EVERY);
        if let Some(verdict) = producer.context().failure() {
            return Some(Err(verdict));
        }
        patience *= 2;
    }
    None
}

/// Callbacks of librdkafka: reports of events, and the state of the brokers.
#[derive(Default)]
struct Watch {
    trouble: Mutex<Option<Trouble>>,
    /// Not one broker is connected.
    is_down: AtomicBool,
    /// It cannot report any more which events were stored, and takes no further event.
    is_broken: AtomicBool,
    /// Reports that are still to come.
    awaited: AtomicUsize,
}

impl Watch {
    fn is_usable(&self) -> bool {
        !self.is_down.load(Ordering::Acquire) && !self.is_broken.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<Trouble> {
        self.lock().clone()
    }

    /// Why no broker could be reached. `None`: one may still be.
    fn failure(&self) -> Option<Verdict> {
        let without_reason = || Trouble::new(Code::AllBrokersDown, "no broker could be reached");
        (!self.is_usable()).then(|| self.trouble().unwrap_or_else(without_reason).verdict())
    }

    fn remember(&self, code: Code, text: &str) {
        *self.lock() = Some(Trouble::new(code, text));
    }

    // Nothing can panic while it is held; and if it could, the trouble would still be one.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Watch {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, text, "librdkafka said");
        // A connection that the other side closes is reported in the log only.
        if facility == "FAIL" {
            self.remember(Code::BrokerTransportFailure, text);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::debug!(statistics = %String::from_utf8_lossy(statistics), "librdkafka counted");
    }

    fn error(&self, error: KafkaError, text: &str) {
        tracing::debug!(%error, text, "librdkafka reported trouble");
        match error.rdkafka_error_code() {
            // Its text is a number; the report before it says why.
            Some(Code::AllBrokersDown) => self.is_down.store(true, Ordering::Release),
            Some(Code::Fatal) => self.is_broken.store(true, Ordering::Release),
            Some(code) => self.remember(code, text),
            None => {}
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Watch {
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let report = match result {
            Ok(message) => {
                *self.lock() = None;
                Report {
                    error: None,
                    text: String::new(),
                    may_be_stored: true,
                    partition: message.partition(),
                    offset: message.offset(),
                }
            }
            Err((error, message)) => failed(error.rdkafka_error_code().unwrap_or(Code::Fail), message),
        };
        // Before the report: its receiver may check whether it was the last.
        self.awaited.fetch_sub(1, Ordering::AcqRel);
        // An error means that the delivery was broken off.
        let _ = waiting.send(report);
    }
}

fn failed(code: Code, message: &BorrowedMessage<'_>) -> Report {
    // SAFETY: both only read the message, which lives until this call returns; the text is copied before that.
    let (status, text) = unsafe {
        let text = rd_kafka_message_produce_errstr(message.ptr());
        let text = if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) };
        (rd_kafka_message_status(message.ptr()), text)
    };
    Report {
        error: Some(code),
        text: text.unwrap_or_else(|| classify::text_of(code)),
        may_be_stored: status != rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
        partition: message.partition(),
        offset: -1,
    }
}
