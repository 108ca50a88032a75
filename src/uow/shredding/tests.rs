//! Shredded values without a database: what goes into a payload comes out of it, and whatever was done to it in between is an error that says what.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::crypt::KeyBytes;
use super::keyring::Held;
use super::*;
use crate::domain::NewEvent;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Registered {
    number: i64,
    email: Shredded<String>,
    #[serde(rename = "known_as")]
    name: Shredded<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<Shredded<String>>,
    addresses: Vec<Address>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Name {
    first: String,
    last: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address {
    city: Shredded<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rest {
    born: Shredded<Option<u32>>,
}

fn registered(subject: &str, text: &str) -> Registered {
    Registered {
        number: 7,
        email: Shredded::new(subject, text.to_owned()),
        name: Shredded::new(subject, Name { first: text.to_owned(), last: None }),
        phone: Some(Shredded::new(subject, format!("{text}1"))),
        addresses: vec![
            Address { city: Shredded::new(subject, format!("{text}2")) },
            Address { city: Shredded::new("b", "x".to_owned()) },
        ],
        rest: Rest { born: Shredded::new(subject, Some(1970)) },
    }
}

fn living() -> Held {
    Held::Living { key: Uuid::new_v4(), bytes: Ok(KeyBytes::random().expect("random")) }
}

fn keyring(subjects: &[&str]) -> Keyring {
    let mut keyring = Keyring::default();
    subjects.iter().for_each(|subject| keyring.set(subject, living()));
    keyring
}

fn destroy(keyring: &mut Keyring, subject: &str) {
    let Some(Held::Living { key, .. }) = keyring.of(subject) else { panic!("{subject} has a key") };
    let key = *key;
    keyring.set(subject, Held::Destroyed { key, at: "today".to_owned() });
}

fn written<T: Serialize>(value: &T) -> NewEvent {
    let (payload, shredded) = collect(|| serde_json::to_value(value));
    let mut event = NewEvent::new("customer.registered", payload.expect("it is written")).expect("an object");
    event.shredded = shredded;
    event
}

/// Id and payload of the recorded event.
fn sealed<T: Serialize>(value: &T, keyring: &Keyring) -> (Uuid, Value) {
    let mut event = written(value);
    seal_event(&mut event, keyring).expect("there are keys");
    (event.id, event.payload)
}

fn opened<T: serde::de::DeserializeOwned>(id: Uuid, payload: &Value, keyring: &Keyring) -> Result<T, ShredError> {
    let text = payload.to_string();
    let opened = open(&text, &Place::event(id, "customer.registered"), keyring);
    read(opened, || serde_json::from_str(&text)).map(|read| read.unwrap_or_else(|error| panic!("{error}: {text}")))
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_as_it_was(text in any::<String>(), subject in "[a-z/0-9é\"$.]{1,30}") {
        let keyring = keyring(&[&subject, "b"]);
        let value = registered(&subject, &text);
        let (id, payload) = sealed(&value, &keyring);
        prop_assert_eq!(opened::<Registered>(id, &payload, &keyring), Ok(value));
    }

    #[test]
    fn no_changed_byte_of_an_envelope_opens(place in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let keyring = keyring(&["a", "b"]);
        let (id, payload) = sealed(&json!({ "email": 1 }), &keyring);
        prop_assert_eq!(opened::<Value>(id, &payload, &keyring), Ok(json!({ "email": 1 })));
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct One { email: Shredded<String> }
        let (id, payload) = sealed(&One { email: Shredded::new("a", "ann@example.com".to_owned()) }, &keyring);
        let envelope = payload["email"].to_string();
        let mut bytes = envelope.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        let Ok(changed) = String::from_utf8(bytes) else { return Ok(()) };
        let text = format!("{{\"email\":{changed}}}");
        let parsed = serde_json::from_str::<Value>(&text);
        let result = read(open(&text, &Place::event(id, "customer.registered"), &keyring), || serde_json::from_str::<One>(&text));
        // Neither Base64 nor the id of the key has a second form here; the same JSON is the same value.
        if let Ok(Ok(_)) = result {
            prop_assert!(parsed.is_ok_and(|parsed| parsed["email"] == payload["email"]), "{} opens", text);
        }
    }
}

#[test]
fn a_payload_holds_no_byte_of_a_value_and_only_the_forgotten_subject_is_forgotten() {
    let mut keyring = keyring(&["a", "b"]);
    let (id, payload) = sealed(&registered("a", "MARKER"), &keyring);
    assert!(!payload.to_string().contains("MARKER"), "{payload}");
    destroy(&mut keyring, "a");
    let read: Registered = opened(id, &payload, &keyring).expect("the rest can be read");
    // Nested, optional, renamed, flattened and listed ones: each says so itself, and none is null, missing or its default.
    assert!(read.email.is_forgotten() && read.name.is_forgotten() && read.addresses[0].city.is_forgotten(), "{read:?}");
    assert!(read.rest.born.is_forgotten() && read.phone.as_ref().is_some_and(Shredded::is_forgotten), "{read:?}");
    assert_eq!(read.email.read().map_err(|forgotten| forgotten.to_string()), Err("subject a was forgotten".to_owned()));
    assert_eq!(read.addresses[1].city.read().map(String::as_str), Ok("x"));
    assert_eq!(format!("{:?}", read.email), "Shredded(a, forgotten)");
}

#[test]
fn every_fault_is_an_error_of_its_own_and_none_is_forgotten() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        email: Shredded<String>,
        name: Shredded<String>,
    }
    let ring = keyring(&["a", "b"]);
    let value = Two { email: Shredded::new("a", "e".to_owned()), name: Shredded::new("a", "n".to_owned()) };
    let (id, payload) = sealed(&value, &ring);
    let fault = |change: &dyn Fn(&mut Value), ring: &Keyring| {
        let mut changed = payload.clone();
        change(&mut changed);
        opened::<Two>(id, &changed, ring).expect_err("it does not open").to_string()
    };
    let inner = |payload: &mut Value, name: &str, to: Value| payload["email"]["$shredded"][name] = to;
    let swap = |payload: &mut Value| {
        let (email, name) = (payload["email"].clone(), payload["name"].clone());
        (payload["email"], payload["name"]) = (name, email);
    };
    let forged = json!({ "$shredded": { "v": 1, "subject": "a", "forgotten": true } });
    for (words, change) in [
        ("was sealed for /name", &swap as &dyn Fn(&mut Value)),
        ("was altered, or was copied", &|payload| inner(payload, "nonce", json!("AAAAAAAAAAAAAAAA"))),
        ("was altered, or was copied", &|payload| inner(payload, "data", json!("AAAA"))),
        ("no base64", &|payload| inner(payload, "data", json!("?"))),
        ("was sealed under the key", &|payload| inner(payload, "subject", json!("b"))),
        ("there is no key of subject c", &|payload| inner(payload, "subject", json!("c"))),
        ("its version is 2", &|payload| inner(payload, "v", json!(2))),
        ("lacks key, field", &|payload| drop(payload["email"]["$shredded"].as_object_mut().map(|inner| inner.remove("key")))),
        ("says that subject a was forgotten, which is not so", &|payload| payload["email"] = forged.clone()),
        ("it is forgotten and has data", &|payload| inner(payload, "forgotten", json!(true))),
        ("is no envelope", &|payload| payload["email"] = json!("clear")),
        ("is no envelope", &|payload| payload["email"] = Value::Null),
    ] {
        let error = fault(change, &ring);
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = opened::<Two>(Uuid::new_v4(), &payload, &ring).expect_err("another event").to_string();
    assert!(error.contains("copied from another event"), "{error}");
    // Under a destroyed key the same holds as far as it can be known: an envelope that names another key, or none, is not forgotten.
    let mut gone = keyring(&["a", "b"]);
    destroy(&mut gone, "a");
    let error = fault(&|_| {}, &gone);
    assert!(error.contains("was sealed under the key"), "{error}");
    let error = fault(&|payload| swap(payload), &gone);
    assert!(error.contains("was sealed for /name"), "{error}");

    let mut wrong = Keyring::default();
    let other = ShredError::OtherMasterKey { subject: "a".to_owned(), wrapped_by: "1".to_owned(), known: vec!["2".to_owned()] };
    wrong.set(
        "a",
        match ring.of("a") {
            Some(Held::Living { key, .. }) => Held::Living { key: *key, bytes: Err(other.clone()) },
            _ => panic!("it has a key"),
        },
    );
    assert_eq!(opened::<Two>(id, &payload, &wrong), Err(other));
    assert_eq!(opened::<Two>(id, &payload, &Keyring::default()), Err(ShredError::NoKey { subject: "a".to_owned() }));
}

#[test]
fn an_error_comes_out_also_where_the_program_swallows_it() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Sealed(Shredded<String>),
        Anything(Value),
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Event {
        email: Lenient,
    }
    let ring = keyring(&["a"]);
    let (id, payload) = sealed(&Event { email: Lenient::Sealed(Shredded::new("a", "e".to_owned())) }, &ring);
    let read: Event = opened(id, &payload, &ring).expect("it opens");
    assert!(matches!(&read.email, Lenient::Sealed(email) if email.read().is_ok()), "{read:?}");
    let error = opened::<Event>(id, &payload, &Keyring::default()).expect_err("it does not open");
    assert_eq!(error, ShredError::NoKey { subject: "a".to_owned() });
    let number = sealed(&Event { email: Lenient::Sealed(Shredded::new("a", "5".to_owned())) }, &ring);
    #[derive(Debug, Deserialize)]
    struct Number {
        #[serde(rename = "email")]
        _email: Shredded<u64>,
    }
    let error = opened::<Number>(number.0, &number.1, &ring).expect_err("a text is no number").to_string();
    assert_eq!(error, "/email of subject a is not of its type");
}

#[test]
fn what_a_stranger_puts_beside_a_value_is_left_as_it_is() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Event {
        email: Shredded<String>,
        free: BTreeMap<String, Value>,
    }
    let ring = keyring(&["a"]);
    let strange = [
        json!({ "$shredded": { "waiting": "0/0" } }),
        json!({ "$shredded": { "v": 1, "subject": "z", "key": Uuid::nil(), "field": "/free/1", "nonce": "", "data": "" } }),
        json!({ "$shredded": null }),
        json!("{\"$shredded\":{}}"),
    ];
    let free = strange.into_iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect();
    let value = Event { email: Shredded::new("a", "{\"$shredded\":1}".to_owned()), free };
    let (id, payload) = sealed(&value, &ring);
    assert_eq!(opened::<Event>(id, &payload, &ring), Ok(value));
}

#[test]
fn a_value_is_written_and_read_nowhere_else() {
    let value = Shredded::new("a", "MARKER".to_owned());
    let error = serde_json::to_string(&value).expect_err("outside of a unit of work").to_string();
    assert!(error.contains("only by a unit of work") && !error.contains("MARKER"), "{error}");
    let ring = keyring(&["a"]);
    #[derive(Serialize)]
    struct Event {
        email: Shredded<String>,
    }
    let (_, payload) = sealed(&Event { email: value.clone() }, &ring);
    let error = serde_json::from_value::<Shredded<String>>(payload["email"].clone()).expect_err("outside of a load").to_string();
    assert!(error.contains("read only by Root::load"), "{error}");
    // As a text inside of a text it could not be found again.
    #[derive(Serialize)]
    struct Hidden {
        text: String,
    }
    let (hidden, values) = collect(|| Hidden { text: serde_json::to_string(&value).expect("inside of a scope") });
    let mut event = written(&hidden);
    event.shredded = values;
    assert_eq!(seal_event(&mut event, &ring), Err(ShredError::NotWritten { subject: "a".to_owned() }));
    assert!(!format!("{event:?}{value:?}").contains("MARKER"));
}

#[test]
fn a_repeated_event_has_the_same_bytes_and_another_event_has_others() {
    let ring = keyring(&["a", "b"]);
    let seal = |id: Uuid| {
        let mut event = written(&registered("a", "x")).with_id(id);
        seal_event(&mut event, &ring).expect("there are keys");
        event.payload.to_string()
    };
    let id = Uuid::new_v4();
    assert_eq!(seal(id), seal(id));
    assert_ne!(seal(id), seal(Uuid::new_v4()));
}

#[test]
fn a_forgotten_value_is_written_as_one_and_a_new_value_of_its_subject_is_refused() {
    let mut ring = keyring(&["a", "b"]);
    destroy(&mut ring, "a");
    let mut event = written(&registered("a", "x"));
    assert_eq!(
        seal_event(&mut event, &ring),
        Err(ShredError::SubjectForgotten { subject: "a".to_owned(), at: "today".to_owned() })
    );
    let value = Address { city: Shredded::forgotten("a") };
    let (id, payload) = sealed(&value, &ring);
    assert_eq!(opened::<Address>(id, &payload, &ring), Ok(value));
}

#[test]
fn a_kept_state_keeps_its_numbers_and_is_bound_to_its_stream_and_version() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct State {
        large: u128,
        email: Option<Shredded<String>>,
    }
    let ring = keyring(&["a"]);
    let state = State { large: u128::MAX, email: Some(Shredded::new("a", "MARKER".to_owned())) };
    let (text, values) = collect(|| serde_json::to_string(&state));
    let place = |version| Place::state("account", "ann", 1, version);
    let text = seal_text(text.expect("it is written"), &values, &place(9), &ring).expect("there is a key");
    assert!(!text.contains("MARKER") && text.contains(&u128::MAX.to_string()), "{text}");
    let take = |version| read(open(&text, &place(version), &ring), || serde_json::from_str::<State>(&text));
    assert_eq!(take(9).map(Result::ok), Ok(Some(state)));
    assert!(matches!(take(10), Err(ShredError::Altered { .. })));
}
