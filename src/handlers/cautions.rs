//! Cautions: settings that work, but that an operator should know of: credentials that travel unencrypted. Examines the settings
//! alike for every kind; refuses nothing.

use std::net::IpAddr;

use toml::{Table, Value};
use url::{Host, Url};

/// The schemes that send everything as it is, and what to write instead.
const PLAIN: &[(&str, &str)] = &[("http", "https"), ("amqp", "amqps"), ("nats", "tls"), ("redis", "rediss"), ("mqtt", "mqtts")];

/// Settings that hold a credential. A signature or an NKey is not sent, so `secrets` and `nkey` are none.
const CREDENTIALS: &[&str] = &["password", "token"];

/// Parts of the names of headers whose values are credentials.
const CREDENTIAL_HEADERS: &[&str] = &["auth", "cookie", "key", "token", "secret", "password"];

/// The cautions for a handler with these settings; `kind` decides only the meaning of `tls`.
pub fn cautions(kind: &str, settings: &Table) -> Vec<String> {
    let mut addresses = texts(settings.get("url"));
    addresses.extend(texts(settings.get("servers")));
    let mut found: Vec<String> = addresses.iter().filter_map(|text| of_address(text, settings)).collect();
    found.extend((kind == "kafka").then(|| of_kafka(settings)).flatten());
    found
}

fn of_address(text: &str, settings: &Table) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let (_, instead) = PLAIN.iter().find(|(scheme, _)| *scheme == url.scheme())?;
    let what = credentials(&url, settings)?;
    if is_local(url.host()?) {
        return None;
    }
    let (scheme, host) = (url.scheme(), url.host()?);
    Some(format!("sends {what} unencrypted to {host}: {scheme} encrypts nothing, write {instead}://"))
}

/// Which credential goes out with every request, or at the log-in. Never its value.
fn credentials(url: &Url, settings: &Table) -> Option<String> {
    if url.password().is_some_and(|password| !password.is_empty()) {
        return Some("the password of the url".to_owned());
    }
    let is_set = |name: &&&str| settings.get(**name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if let Some(name) = CREDENTIALS.iter().find(is_set) {
        return Some(format!("the {name}"));
    }
    let headers = settings.get("headers").and_then(Value::as_table).into_iter().flat_map(Table::keys);
    let forwarded = settings.get("forward_headers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut names = headers.map(String::as_str).chain(forwarded);
    let is_credential = |name: &&str| CREDENTIAL_HEADERS.iter().any(|part| name.to_ascii_lowercase().contains(part));
    names.find(is_credential).map(|name| format!("the header {name}"))
}

/// PLAIN sends the password itself; SCRAM proves that it is known.
fn of_kafka(settings: &Table) -> Option<String> {
    let is_plain = settings.get("sasl_mechanism").and_then(Value::as_str) == Some("PLAIN");
    let is_encrypted = settings.get("tls").and_then(Value::as_bool) == Some(true);
    let is_elsewhere = |broker: &String| {
        let host = broker.rsplit_once(':').map_or(broker.as_str(), |(host, _)| host);
        Host::parse(host).is_ok_and(|host| !is_local(host))
    };
    let broker = texts(settings.get("brokers")).into_iter().find(is_elsewhere)?;
    (is_plain && !is_encrypted)
        .then(|| format!("sends the password unencrypted to {broker}: PLAIN sends it as it is, write tls = true or use SCRAM"))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Nothing leaves the machine.
fn is_local<S: AsRef<str>>(host: Host<S>) -> bool {
    let address = match host {
        Host::Domain(name) => {
            let name = name.as_ref().trim_matches(['[', ']']);
            return name == "localhost"
                || name.ends_with(".localhost")
                || name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        }
        Host::Ipv4(address) => IpAddr::from(address),
        Host::Ipv6(address) => IpAddr::from(address),
    };
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, settings: &str) -> String {
        cautions(kind, &settings.parse().expect("TOML")).join("; ")
    }

    #[test]
    fn credentials_that_travel_unencrypted_are_told_without_their_value() {
        for (kind, settings, want) in [
            (
                "webhook",
                "url = 'http://h/x'\nheaders = { Authorization = 'Bearer s3cret' }",
                "sends the header Authorization unencrypted to h: ",
            ),
            ("webhook", "url = 'http://h/x'\nheaders = { X-Api-Key = 's3cret' }", "sends the header X-Api-Key unencrypted to h: "),
            (
                "webhook",
                "url = 'http://u:s3cret@h/x'",
                "sends the password of the url unencrypted to h: http encrypts nothing, write https://",
            ),
            (
                "webhook",
                "url = 'http://h/x'\nforward_headers = ['authorization']",
                "sends the header authorization unencrypted to h: ",
            ),
            ("rabbitmq", "url = 'amqp://u:s3cret@[2001:db8::1]/v'", "sends the password of the url unencrypted to [2001:db8::1]: "),
            ("redis", "url = 'redis://:s3cret@10.0.0.1'", "sends the password of the url unencrypted to 10.0.0.1: "),
            (
                "nats",
                "servers = ['tls://a', 'nats://b']\ntoken = 's3cret'",
                "sends the token unencrypted to b: nats encrypts nothing, write tls://",
            ),
            ("mqtt", "url = 'mqtt://h'\npassword = 's3cret'", "sends the password unencrypted to h: "),
            (
                "kafka",
                "brokers = ['localhost:1', 'k:9092']\nsasl_mechanism = 'PLAIN'\npassword = 's3cret'",
                "sends the password unencrypted to k:9092: ",
            ),
        ] {
            let told = told(kind, settings);
            assert!(told.starts_with(want) && !told.contains("s3cret"), "{settings}: {told}");
        }
    }

    #[test]
    fn what_is_encrypted_local_or_no_credential_is_not_told() {
        for (kind, settings) in [
            ("webhook", "url = 'https://h/x'\nheaders = { authorization = 's' }"),
            ("webhook", "url = 'http://h/x'\nsecrets = ['whsec_x']\nheaders = { x-tenant = 'blue' }"),
            ("webhook", "url = 'http://127.0.0.1:1/x'\nheaders = { authorization = 's' }"),
            ("webhook", "url = 'http://[::1]:1/x'\nheaders = { authorization = 's' }"),
            ("webhook", "url = 'http://localhost/x'\nheaders = { authorization = 's' }"),
            ("kafka", "brokers = ['[::1]:9092']\nsasl_mechanism = 'PLAIN'"),
            ("kafka", "brokers = ['k:9092']\nsasl_mechanism = 'SCRAM-SHA-512'\npassword = 's'"),
            ("stdout", ""),
        ] {
            assert_eq!(told(kind, settings), "", "{settings}");
        }
    }
}
