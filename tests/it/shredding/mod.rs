//! Shredded values: encrypted in the log, clear in the program, and unreadable once their person is forgotten.

mod forgetting;
mod person;
mod restored;
mod spread;
mod values;

use std::sync::Arc;

use outboxd::uow::shredding::MasterKeys;
use outboxd::uow::sourcing::Root;
use outboxd::uow::{Error, Options, Registry, UnitOfWork};
use serde_json::Value;
use sqlx::PgPool;

use crate::support::{Binary, Finished};

use person::{Person, Register, moved};

/// Stands for everything personal of the subject that is forgotten.
const MARKER: &str = "MARKER7f3e";

fn master() -> MasterKeys {
    MasterKeys::parse("outboxd_master_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key")
}

async fn begin(pool: &PgPool) -> UnitOfWork {
    UnitOfWork::begin_with(pool, &Arc::new(Registry::new()), &Options::new().master_keys(master())).await.expect("it begins")
}

async fn load(pool: &PgPool, key: &str) -> Result<Root<Person>, Error> {
    Root::load(key, &mut begin(pool).await).await
}

/// A person with this id: registered, then moved so often, each in a transaction of its own.
async fn person(pool: &PgPool, id: i64, text: &str, moves: usize) {
    let mut work = begin(pool).await;
    let mut root = Root::<Person>::new(id.to_string());
    root.record(Register { id, text: text.to_owned() }.event());
    root.save(&mut work).await.expect("it is saved");
    work.commit().await.expect("it is committed");
    for number in 0..moves {
        let mut work = begin(pool).await;
        let mut root = Root::<Person>::load(id.to_string(), &mut work).await.expect("it is loaded");
        root.record(moved(id, &format!("{text} city {number}")));
        root.save(&mut work).await.expect("it is saved");
        work.commit().await.expect("it is committed");
    }
}

/// Runs a command on this database and reads what it prints.
async fn outboxd(binary: &Binary, url: &str, arguments: &[&str]) -> (Finished, Value) {
    let finished = binary.run(&[arguments, &["--json", "--database-url", url]].concat()).await;
    let document = serde_json::from_str(&finished.stdout).unwrap_or(Value::Null);
    (finished, document)
}
