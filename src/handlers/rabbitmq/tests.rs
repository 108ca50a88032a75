//! The kind without a broker: what its settings say, and what goes out of an event.

use lapin::types::AMQPValue;
use toml::Table;

use super::publication::Publication;
use super::*;
use crate::domain::{Outcome, Reason, Timestamp};
use crate::settings::{Field, FieldType, Mistakes};

const COMMON: &[Field] = &[Field::new("timeout", FieldType::Duration, "30s", "Longest that a delivery may take.")];
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn read(settings: &str) -> Result<Settings, Vec<String>> {
    let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
    let section = Section::open("handlers.orders", &table, KIND.fields, COMMON, &mistakes);
    settings::read(&section).ok_or_else(|| mistakes.into_vec().iter().map(ToString::to_string).collect())
}

fn mistakes_of(settings: &str) -> Vec<String> {
    read(settings).map(|settings| settings.connection_name).expect_err(settings)
}

fn recipe(settings: &str) -> Recipe {
    read(&format!("url = \"amqp://rabbit\"\n{settings}")).unwrap_or_else(|mistakes| panic!("{mistakes:?}")).recipe
}

fn headers(publication: &Publication) -> Vec<String> {
    let table = publication.properties.headers().as_ref().expect("there are always some");
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    table.inner().iter().map(|(name, value)| format!("{name}={}", text(value))).collect()
}

#[test]
fn what_is_not_said_has_a_default() {
    let settings = read("url = \"amqp://rabbit\"\nexchange = \"orders\"").unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!((settings.declared, settings.unroutable), (Declared::Elsewhere, Unroutable::Fault));
    assert_eq!((settings.connect_timeout, settings.confirm_timeout), (Duration::from_secs(5), Duration::from_secs(8)));
    assert_eq!(settings.connection_name, "outboxd orders");
}

#[test]
fn every_mistake_is_told_in_one_run() {
    let long = "n".repeat(256);
    let settings = format!(
        "url = \"http://rabbit\"\nexchange = \"\"\ndeclare_exchange = \"topic\"\nrouting_key = \"{long}{{type}}\"\n\
         headers = {{ a = \"{{b}}\", {long} = \"x\" }}\nconnect_timeout = \"0s\"\nconfirm_timeout = \"30s\"\nclient_key = \"k\"\n\
         unroutable = \"drop\""
    );
    let told = mistakes_of(&settings);
    for want in [
        "handlers.orders.unroutable: got \"drop\", expected \"fault\" or \"accept\"",
        "handlers.orders.url: got the scheme \"http\", expected an amqp or amqps URL",
        "handlers.orders.declare_exchange: is for an exchange with a name",
        "handlers.orders.routing_key: got 256 bytes without any value, expected at most 255",
        "handlers.orders.headers.a: {b} names no value",
        &format!("handlers.orders.headers.{long}: is longer than the 255 bytes that AMQP allows"),
        "handlers.orders.connect_timeout: got \"0s\", expected at least \"1ms\"",
        "handlers.orders.confirm_timeout: got \"30s\", expected less than the handler's timeout, \"30s\"",
        "handlers.orders.client_certificate: is missing",
    ] {
        assert_eq!(told.iter().filter(|mistake| mistake.starts_with(want)).count(), 1, "{want}: {told:#?}");
    }
    assert_eq!(told.len(), 9, "{told:#?}");
    assert!(mistakes_of(&format!("url = \"amqp://rabbit\"\nexchange = \"{long}\""))[0].ends_with("expected at most 255"));
}

#[test]
fn an_event_has_its_properties() {
    let recipe = recipe("exchange = \"orders\"\nrouting_key = \"{aggregate_type}.{header:region}\"");
    let event = Notification { headers: r#"{"region":"eu"}"#.to_owned(), ..Notification::sample("order.placed", "{\"n\":1}") };
    let publication = recipe.publication(&event).expect("it can be sent");
    let properties = &publication.properties;
    assert_eq!((publication.exchange.as_str(), publication.routing_key.as_str()), ("orders", "order.eu"));
    assert_eq!(publication.body, b"{\"n\":1}");
    let text = |property: &Option<lapin::types::ShortString>| property.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.message_id()).as_deref(), Some("018f0000-0000-7000-8000-000000000001"));
    assert_eq!(text(properties.kind()).as_deref(), Some("order.placed"));
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/json"));
    assert_eq!(text(properties.app_id()).as_deref(), Some("outboxd"));
    assert_eq!((*properties.delivery_mode(), *properties.timestamp()), (Some(2), Some(1_700_000_000)));
    assert!(headers(&publication).contains(&"event-key=order/42".to_owned()), "{:?}", headers(&publication));
}

#[test]
fn a_binary_cloud_event_has_the_names_of_its_binding() {
    let recipe = recipe("exchange = \"x\"\nformat = \"cloudevents-binary\"\npersistent = false\nsource = \"shop\"");
    let event = Notification { headers: format!(r#"{{"traceparent":"{PARENT}"}}"#), ..Notification::sample("order.placed", "{}") };
    let publication = recipe.publication(&event).expect("it can be sent");
    let headers = headers(&publication);
    for want in
        ["cloudEvents:specversion=1.0", "cloudEvents:source=shop", "cloudEvents:subject=42", &format!("traceparent={PARENT}")]
    {
        assert!(headers.contains(&want.to_owned()), "{want}: {headers:?}");
    }
    assert_eq!(*publication.properties.delivery_mode(), Some(1));
}

#[test]
fn what_amqp_has_no_room_for_is_a_dead_letter() {
    let long = Notification { key: Some("k".repeat(256)), ..Notification::sample("t", "{}") };
    let verdict = recipe("exchange = \"x\"\nrouting_key = \"{key}\"").publication(&long).expect_err("too long");
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable));
    assert_eq!(verdict.detail, "the routing key has 256 bytes, AMQP allows 255");
    let verdict = recipe("exchange = \"x\"\nrouting_key = \"{header:a}\"").publication(&long).expect_err("no such header");
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Unaddressable));

    let large = Notification { key: Some("k".repeat(5_000)), ..Notification::sample("t", "{}") };
    let publication = recipe("exchange = \"x\"").publication(&large).expect("its key is a header");
    assert_eq!(publication.too_large_for(131_072), None);
    let verdict = publication.too_large_for(4_096).expect("too large for a small frame");
    assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::TooLarge));
}

#[test]
fn a_type_or_a_time_that_amqp_does_not_know_is_left_out() {
    let odd = Notification { occurred_at: Timestamp::from_micros(-1), ..Notification::sample(&"t".repeat(256), "{}") };
    let properties = recipe("exchange = \"x\"\nrouting_key = \"a\"").publication(&odd).expect("it can be sent").properties;
    assert_eq!((properties.kind(), properties.timestamp()), (&None, &None));
}

#[test]
fn a_handler_does_not_print_its_password() {
    let settings = read("url = \"amqp://u:s3cr3t@rabbit\"\nexchange = \"x\"").unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!(format!("{:?}", RabbitMq::new(settings)), "RabbitMq { target: \"rabbit:5672\", exchange: \"x\" }");
}
