//! Classification: from a delivery report to a verdict. Pure: one table for the errors of librdkafka and of the broker. Whether
//! the event may have been stored is not guessed: librdkafka knows whether its request was sent.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::trouble::Trouble;
use crate::domain::{Reason, Verdict};

/// The final report of librdkafka about one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `None`: all in-sync replicas have it.
    pub error: Option<Code>,
    /// The broker's words, for display.
    pub text: String,
    /// A request with it went out, and its fate is unknown.
    pub may_be_stored: bool,
    pub partition: i32,
    pub offset: i64,
}

/// The verdict for a report. `trouble`: the trouble of the brokers since the last event that was stored.
pub fn reported(report: &Report, trouble: Option<&Trouble>) -> Verdict {
    let Some(code) = report.error else { return Verdict::delivered() };
    let verdict = match trouble {
        // No broker was reached; the trouble of the brokers says why.
        Some(trouble) if is_about_connections(code) && !report.may_be_stored => trouble.verdict(),
        _ => answered(code, report.text.clone()),
    };
    if report.may_be_stored { verdict.ambiguous() } else { verdict }
}

fn is_about_connections(code: Code) -> bool {
    matches!(code, Code::MessageTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown | Code::TimedOutQueue)
}

fn answered(code: Code, detail: String) -> Verdict {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => Verdict::permanent(Reason::TooLarge, detail),
        Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation => Verdict::permanent(Reason::ClientError, detail),
        // Another event of the same request was refused, and this one with it.
        Code::InvalidDifferentRecord => Verdict::retry(Reason::Nacked, detail).of_another(),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic | Code::UnknownTopicId => {
            Verdict::handler_fault(Reason::NotFound, detail).of_destination()
        }
        Code::TopicAuthorizationFailed => Verdict::handler_fault(Reason::Unauthorized, detail).of_destination(),
        Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => Verdict::handler_fault(Reason::Unauthorized, detail),
        Code::UnsupportedCompressionType
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InvalidRequiredAcks
        | Code::InvalidArgument => Verdict::handler_fault(Reason::Misconfigured, detail),
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend | Code::ISRInsufficient => {
            Verdict::back_pressure(Reason::Nacked, None, detail).of_destination()
        }
        Code::ThrottlingQuotaExceeded => Verdict::back_pressure(Reason::Throttled, None, detail),
        Code::QueueFull => Verdict::back_pressure(Reason::Full, None, detail),
        Code::MessageTimedOut | Code::RequestTimedOut | Code::OperationTimedOut | Code::TimedOutQueue => {
            Verdict::retry(Reason::Timeout, detail)
        }
        Code::BrokerTransportFailure | Code::NetworkException | Code::AllBrokersDown | Code::PurgeInflight => {
            Verdict::retry(Reason::ConnectionReset, detail)
        }
        Code::BadMessage | Code::Underflow => Verdict::retry(Reason::InvalidAnswer, detail),
        // The leader moves, a disk fails, the producer has to begin anew: another attempt finds another state.
        _ => Verdict::retry(Reason::ServerError, detail),
    }
}

/// librdkafka did not even take the event.
pub fn not_taken(error: &KafkaError) -> Report {
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    Report { error: Some(code), text: text_of(code), may_be_stored: false, partition: -1, offset: -1 }
}

/// librdkafka refuses its configuration.
pub fn not_created(error: &KafkaError) -> Verdict {
    let text = match error {
        KafkaError::ClientCreation(text) => text.clone(),
        KafkaError::ClientConfig(_, text, ..) => text.clone(),
        other => other.to_string(),
    };
    Verdict::handler_fault(Reason::Misconfigured, format!("librdkafka refused its configuration: {text}"))
}

/// The name of an error in librdkafka, without that of the Rust library.
pub fn text_of(code: Code) -> String {
    let text = code.to_string();
    text.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome::{BackPressure, Delivered, HandlerFault, Permanent, Retry};

    fn report(error: Option<Code>, may_be_stored: bool) -> Report {
        Report { error, text: "said".to_owned(), may_be_stored, partition: 0, offset: 7 }
    }

    #[test]
    fn every_error_has_one_meaning() {
        for (code, outcome, reason) in [
            (Code::MessageSizeTooLarge, Permanent, Reason::TooLarge),
            (Code::MessageBatchTooLarge, Permanent, Reason::TooLarge),
            (Code::InvalidRecord, Permanent, Reason::ClientError),
            (Code::InvalidDifferentRecord, Retry, Reason::Nacked),
            (Code::UnknownTopic, HandlerFault, Reason::NotFound),
            (Code::UnknownTopicOrPartition, HandlerFault, Reason::NotFound),
            (Code::TopicAuthorizationFailed, HandlerFault, Reason::Unauthorized),
            (Code::ClusterAuthorizationFailed, HandlerFault, Reason::Unauthorized),
            (Code::UnsupportedCompressionType, HandlerFault, Reason::Misconfigured),
            (Code::NotEnoughReplicas, BackPressure, Reason::Nacked),
            (Code::NotEnoughReplicasAfterAppend, BackPressure, Reason::Nacked),
            (Code::ThrottlingQuotaExceeded, BackPressure, Reason::Throttled),
            (Code::QueueFull, BackPressure, Reason::Full),
            (Code::MessageTimedOut, Retry, Reason::Timeout),
            (Code::RequestTimedOut, Retry, Reason::Timeout),
            (Code::BrokerTransportFailure, Retry, Reason::ConnectionReset),
            (Code::NotLeaderForPartition, Retry, Reason::ServerError),
            (Code::KafkaStorageError, Retry, Reason::ServerError),
            (Code::Fatal, Retry, Reason::ServerError),
            (Code::OutOfOrderSequenceNumber, Retry, Reason::ServerError),
        ] {
            for may_be_stored in [false, true] {
                let verdict = reported(&report(Some(code), may_be_stored), None);
                assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, may_be_stored), "{code:?}");
            }
        }
        assert_eq!(reported(&report(None, false), None).outcome, Delivered);
    }

    #[test]
    fn an_event_that_never_left_has_the_reason_of_the_brokers() {
        let refused = Trouble::new(Code::BrokerTransportFailure, "b:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        let verdict = |code, may_be_stored| reported(&report(Some(code), may_be_stored), Some(&refused));
        assert_eq!(verdict(Code::MessageTimedOut, false).reason, Reason::ConnectionRefused);
        assert!(!verdict(Code::MessageTimedOut, false).ambiguous);
        assert_eq!(
            (verdict(Code::MessageTimedOut, true).reason, verdict(Code::MessageTimedOut, true).ambiguous),
            (Reason::Timeout, true)
        );
        // What a broker answered is not covered up by what another one is in trouble for.
        assert_eq!(verdict(Code::NotEnoughReplicas, false).reason, Reason::Nacked);
    }

    #[test]
    fn no_error_of_librdkafka_is_a_success_or_a_dead_letter_by_default() {
        for number in (-200..200).filter(|number| *number != 0) {
            let Ok(native) = rdkafka::types::RDKafkaRespErr::try_from(number) else { continue };
            let verdict = reported(&report(Some(native.into()), false), None);
            assert!(!verdict.is_delivered(), "{number}");
            let is_of_the_event = matches!(number, 10 | 18 | 32 | 44 | 87);
            assert_eq!(verdict.outcome == Permanent, is_of_the_event, "{number}: {verdict:?}");
        }
    }
}
