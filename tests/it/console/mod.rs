//! The console as browsers, programs and attackers meet it: by raw HTTP, so that every header is the test's own.

mod browser;
mod edits;
mod hostile;
mod pages;
mod security;
mod visitor;

use outboxd::domain::Role;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::support::{Answer, Binary, NewRow, Receiver, Running, TestDatabase, eventually};

pub use visitor::Visitor;

/// Tokens of the configuration that [`tokens`] makes.
pub const READER: &str = "token-of-the-reader-012345";
pub const OPERATOR: &str = "token-of-the-operator-0123";
pub const ADMIN: &str = "token-of-the-admin-01234567";

/// A console, beside a relay or by itself.
pub struct Served {
    pub running: Running,
    pub address: String,
    pub binary: Binary,
}

impl Served {
    /// A relay with a console; `settings` are what follows in `[console]`, and the rest of the file.
    pub async fn relay(database: &TestDatabase, settings: &str) -> Self {
        let binary = Binary::relay(database.url(), &format!("[console]\nlisten = \"127.0.0.1:0\"\n{settings}"));
        let served = Self::of(binary, &["run"]).await;
        eventually("the handlers are registered", || async { (database.count("subscriptions").await > 0).then_some(()) }).await;
        served
    }

    /// A console without a relay.
    pub async fn alone(database: &TestDatabase, settings: &str) -> Self {
        let binary = Binary::relay(database.url(), &format!("[console]\nlisten = \"127.0.0.1:0\"\n{settings}"));
        Self::of(binary, &["console"]).await
    }

    async fn of(binary: Binary, command: &[&str]) -> Self {
        let running = binary.spawn(command);
        let line = running.wait_for_output("serving the console").await;
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        Self { running, address, binary }
    }

    /// Somebody without any token.
    pub fn stranger(&self) -> Visitor {
        Visitor::new(&self.address)
    }

    /// A program with this token.
    pub fn bearer(&self, token: &str) -> Visitor {
        self.stranger().with("authorization", &format!("Bearer {token}"))
    }

    /// A browser that is logged in with this token.
    pub async fn browser(&self, token: &str) -> Visitor {
        let visit = self.stranger().same_origin().post("/login", &[("token", token)]).await;
        assert_eq!(visit.status, 303, "{visit:?}");
        let cookie = visit.header("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie");
        self.stranger().with("cookie", cookie)
    }

    pub async fn stop(self) {
        self.running.terminate();
        let finished = self.running.finish().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
}

/// Entries for a reader, an operator and an administrator; only the last may see payloads.
pub fn tokens() -> String {
    entry("reader", READER, Role::Read, false)
        + &entry("operator", OPERATOR, Role::Operate, false)
        + &entry("admin", ADMIN, Role::Admin, true)
}

pub fn entry(name: &str, token: &str, role: Role, payload: bool) -> String {
    let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[console.tokens]]\nname = \"{name}\"\nrole = \"{}\"\npayload = {payload}\nsha256 = \"{digest}\"\n", role.name())
}

/// A webhook that gives up at once.
pub fn webhook(receiver: &Receiver) -> String {
    format!(
        "[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nevents = [\"order.*\"]\nurl = \"{}\"\nretry = {{ max_attempts = 1 }}\n\
         circuit = {{ minimum = 1000 }}\n",
        receiver.url()
    )
}

/// Records so many orders, each of an aggregate of its own, and waits until each is a dead letter.
pub async fn dead_letters(database: &TestDatabase, count: usize) -> Vec<Uuid> {
    let before = database.count("deliveries where state = 'dead'").await;
    let orders = (0..count)
        .map(|n| NewRow::new("order.placed").of("order", n).payload(json!({ "n": n, "customer": { "email": "ann@example.org" } })));
    let ids = database.insert_events(orders).await;
    let wanted = before + i64::try_from(count).expect("few");
    eventually("they are dead letters", || async {
        (database.count("deliveries where state = 'dead'").await >= wanted).then_some(())
    })
    .await;
    ids
}

/// A receiver that takes nothing.
pub async fn on_fire() -> Receiver {
    Receiver::answering(|_| Answer::status(422).body("the receiver is on fire")).await
}
