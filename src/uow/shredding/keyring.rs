//! The keyring: keys of subjects that a unit of work or a reader has fetched. `lock` creates and locks keys to write with; `learn` reads keys, without a lock, to
//! read with.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::crypt::KeyBytes;
use super::{MasterKeys, ShredError, WrappedKey};
use crate::domain::ClearValue;
use crate::uow::Error;

/// Keys of subjects, by their names.
#[derive(Default, Clone)]
pub(in crate::uow) struct Keyring {
    held: BTreeMap<String, Held>,
    /// Those that the transaction has locked, so that they cannot be destroyed before it ends.
    locked: BTreeSet<String>,
}

/// What is known of a subject. A name that is not in the keyring has no row.
#[derive(Clone)]
pub(super) enum Held {
    Living {
        key: Uuid,
        bytes: Result<KeyBytes, ShredError>,
    },
    /// With the id that the key had, and the moment, for display.
    Destroyed {
        key: Uuid,
        at: String,
    },
    NoRow,
}

impl Keyring {
    pub(super) fn of(&self, subject: &str) -> Option<&Held> {
        self.held.get(subject)
    }

    /// The savepoint behind which a key was created or locked is undone: nothing is known for certain any more.
    pub(in crate::uow) fn forget(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self, row: &PgRow, keys: Option<&MasterKeys>) -> Result<String, sqlx::Error> {
        let (subject, key): (String, Uuid) = (row.try_get("subject")?, row.try_get("key")?);
        let (wrapped, master): (Option<Vec<u8>>, Option<String>) = (row.try_get("wrapped")?, row.try_get("master")?);
        let held = match wrapped.zip(master) {
            None => Held::Destroyed { key, at: row.try_get::<Option<String>, _>("destroyed_at")?.unwrap_or_default() },
            Some((wrapped, master)) => {
                let bytes = match keys {
                    Some(keys) => keys.unwrap(&subject, &WrappedKey { key, wrapped, master }),
                    None => Err(ShredError::NoMasterKeys { subject: subject.clone() }),
                };
                Held::Living { key, bytes }
            }
        };
        self.held.insert(subject.clone(), held);
        Ok(subject)
    }

    /// Keys that exist nowhere else, for tests without a database.
    pub(in crate::uow) fn for_a_test(values: &[ClearValue]) -> Self {
        let held = |value: &ClearValue| match value.clear {
            Some(_) => Held::Living { key: Uuid::new_v4(), bytes: Ok(KeyBytes::random().expect("the system has random bytes")) },
            None => Held::Destroyed { key: Uuid::new_v4(), at: String::new() },
        };
        Self { held: values.iter().map(|value| (value.subject.clone(), held(value))).collect(), locked: BTreeSet::new() }
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, subject: &str, held: Held) {
        self.held.insert(subject.to_owned(), held);
    }
}

/// Creates the keys that are missing and locks all of them until the transaction ends, so that what is sealed under them is committed before they
/// can be destroyed.
pub(in crate::uow) async fn lock(
    keyring: &mut Keyring,
    subjects: BTreeSet<String>,
    keys: Option<&MasterKeys>,
    sql: String,
    connection: &mut PgConnection,
) -> Result<(), Error> {
    let wanted: Vec<String> = subjects.into_iter().filter(|subject| !keyring.locked.contains(subject)).collect();
    let Some(first) = wanted.first() else { return Ok(()) };
    let keys = keys.ok_or_else(|| ShredError::NoMasterKeys { subject: first.clone() })?;
    if let Some(subject) = wanted.iter().find(|subject| !is_name(subject)) {
        return Err(ShredError::InvalidSubject { bytes: subject.len() }.into());
    }
    let new = wanted.iter().map(|subject| keys.new_key(subject)).collect::<Result<Vec<_>, _>>()?;
    let (ids, wrapped): (Vec<Uuid>, Vec<Vec<u8>>) = new.into_iter().map(|new| (new.key, new.wrapped)).unzip();
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&wanted)
        .bind(ids)
        .bind(wrapped)
        .bind(keys.fingerprints().swap_remove(0))
        .fetch_all(connection)
        .await?;
    for row in &rows {
        let subject = keyring.take(row, Some(keys))?;
        keyring.locked.insert(subject);
    }
    Ok(())
}

/// Reads the keys of these subjects, unless they are known.
pub(in crate::uow) async fn learn(
    keyring: &mut Keyring,
    subjects: BTreeSet<String>,
    keys: Option<&MasterKeys>,
    sql: String,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let wanted: Vec<String> = subjects.into_iter().filter(|subject| !keyring.held.contains_key(subject)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    for row in &sqlx::query(AssertSqlSafe(sql)).bind(&wanted).fetch_all(connection).await? {
        keyring.take(row, keys)?;
    }
    for subject in wanted {
        keyring.held.entry(subject).or_insert(Held::NoRow);
    }
    Ok(())
}

fn is_name(subject: &str) -> bool {
    (1..=1000).contains(&subject.len()) && !subject.chars().any(char::is_control)
}
