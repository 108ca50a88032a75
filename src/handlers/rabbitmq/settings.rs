//! The settings of the kind: declared once, read into values that work or into mistakes that say what to write instead.

use std::time::Duration;

use lapin::ExchangeKind;

use super::super::template::Template;
use super::super::waits::{self, Waits};
use super::super::{envelope, tls};
use super::address::Address;
use super::publication::{LONGEST_NAME, Recipe};
use crate::settings::{Field, FieldType, Section};

pub const FIELDS: &[Field] = &[
    Field::required(
        "url",
        FieldType::Secret,
        "Address of the broker: an amqp or amqps URL with user, password, host, port and virtual host.",
    ),
    Field::required(
        "exchange",
        FieldType::Text,
        "Exchange to publish to; \"\" is the default exchange, whose routing keys are names of queues.",
    ),
    Field::new("routing_key", FieldType::Text, "{type}", "Routing key, a template such as \"{type}.{header:region}\"."),
    Field::new(
        "unroutable",
        FieldType::Choice(&["fault", "accept"]),
        "fault",
        "If no queue takes an event: hold events until a queue is bound, or count the event as delivered.",
    ),
    Field::new("persistent", FieldType::Boolean, "true", "Durable queues store each event on disk (delivery mode 2)."),
    Field::new(
        "declare_exchange",
        FieldType::Choice(&["no", "direct", "fanout", "topic", "headers"]),
        "no",
        "Declare the exchange, durable and of this type, instead of only checking that it exists.",
    ),
    envelope::FORMAT,
    envelope::SOURCE,
    envelope::SUBJECT,
    envelope::HEADERS,
    envelope::FORWARD_HEADERS,
    envelope::MAX_PAYLOAD,
    waits::CONNECT_TIMEOUT,
    waits::CONFIRM_TIMEOUT,
    tls::CA,
    tls::CLIENT_CERTIFICATE,
    tls::CLIENT_KEY,
    tls::SKIP_VERIFY,
];

/// Settings that work.
pub struct Settings {
    pub address: Address,
    pub recipe: Recipe,
    pub declared: Declared,
    pub unroutable: Unroutable,
    pub tls: rustls::ClientConfig,
    pub connection_name: String,
    pub connect_timeout: Duration,
    pub confirm_timeout: Duration,
}

/// The party that makes the exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// Another program; the handler only checks.
    Elsewhere,
    /// We, whenever we connect.
    Here(ExchangeKind),
}

/// The outcome when the broker found no queue for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unroutable {
    Fault,
    Accept,
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let address = Address::read(section);
    let (exchange, routing_key) = (read_exchange(section), read_routing_key(section));
    let layout = envelope::Layout::read(section, |name| name.coloned);
    let (names_fit, waits) = (header_names_fit(section), Waits::read(section));
    let tls = tls::read(section, b"", address.as_ref().is_some_and(Address::is_encrypted));
    if !names_fit {
        return None;
    }
    Some(Settings {
        address: address?,
        recipe: Recipe::new(exchange?, routing_key?, layout?, section.boolean("persistent")),
        declared: declared(section),
        unroutable: if section.text("unroutable") == "accept" { Unroutable::Accept } else { Unroutable::Fault },
        tls: tls?,
        connection_name: format!("outboxd {}", section.path().trim_start_matches("handlers.")),
        connect_timeout: waits?.connect,
        confirm_timeout: waits?.confirm,
    })
}

fn read_exchange(section: &Section<'_>) -> Option<String> {
    let exchange = section.text("exchange");
    if exchange.len() > LONGEST_NAME {
        let got = exchange.len();
        section.mistake("exchange", &format!("got a name of {got} bytes, expected at most {LONGEST_NAME}"));
        return None;
    }
    if exchange.is_empty() && declared(section) != Declared::Elsewhere {
        section.mistake("declare_exchange", "is for an exchange with a name; the default exchange always exists");
        return None;
    }
    Some(exchange)
}

fn read_routing_key(section: &Section<'_>) -> Option<Template> {
    let template = Template::read(section, "routing_key")?;
    let literal: usize = template.literals().map(str::len).sum();
    if literal > LONGEST_NAME {
        section.mistake("routing_key", &format!("got {literal} bytes without any value, expected at most {LONGEST_NAME}"));
        return None;
    }
    Some(template)
}

fn header_names_fit(section: &Section<'_>) -> bool {
    let too_long: Vec<String> = section.text_map("headers").into_keys().filter(|name| name.len() > LONGEST_NAME).collect();
    for name in &too_long {
        section.mistake(&format!("headers.{name}"), &format!("is longer than the {LONGEST_NAME} bytes that AMQP allows"));
    }
    too_long.is_empty()
}

fn declared(section: &Section<'_>) -> Declared {
    match section.text("declare_exchange").as_str() {
        "direct" => Declared::Here(ExchangeKind::Direct),
        "fanout" => Declared::Here(ExchangeKind::Fanout),
        "topic" => Declared::Here(ExchangeKind::Topic),
        "headers" => Declared::Here(ExchangeKind::Headers),
        _ => Declared::Elsewhere,
    }
}
