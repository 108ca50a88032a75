//! The ledger: a file outside of the database with a line for each destroyed key. A backup of the database that is restored brings keys back; the ledger says which of
//! them must not live. Lines are appended and flushed to the disk before the transaction that destroys a key commits, and never changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::store::subjects::DestroyedKey;

/// The version of a line.
const VERSION: u32 = 1;

/// A ledger that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("could not {action} the erasure ledger {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "line {line} of the erasure ledger {path} is damaged: {reason}; put a copy of the file back, or remove the line and run `outboxd forget` for its subject again"
    )]
    Damaged { path: PathBuf, line: usize, reason: &'static str },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    v: u32,
    subject: String,
    key: Uuid,
    /// RFC 3339, by the clock of the database.
    at: String,
    /// Of the line without it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sum: String,
}

impl Line {
    fn of(key: &DestroyedKey) -> Self {
        let mut line = Self { v: VERSION, subject: key.subject.clone(), key: key.key, at: key.at.to_string(), sum: String::new() };
        line.sum = line.checksum();
        line
    }

    fn checksum(&self) -> String {
        let bare = Self { v: self.v, subject: self.subject.clone(), key: self.key, at: self.at.clone(), sum: String::new() };
        let text = serde_json::to_string(&bare).expect("a line has a JSON form");
        Sha256::digest(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The subjects that a ledger names, each with the id of its key. No file: none.
pub fn read(path: &Path) -> Result<Vec<(String, Uuid)>, LedgerError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(LedgerError::File { action: "read", path: path.to_owned(), cause }),
    };
    parse(whole_lines(&text), path)
}

/// Appends lines for these keys, unless they are there, and flushes them to the disk.
pub fn append(path: &Path, keys: &[DestroyedKey]) -> Result<(), LedgerError> {
    let failed = |action| move |cause| LedgerError::File { action, path: path.to_owned(), cause };
    let is_new = !path.exists();
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed("open"))?;
    // Two commands at once write one after the other; the lock ends with the file.
    file.lock().map_err(failed("lock"))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed("read"))?;
    let whole = whole_lines(&text);
    let known = parse(whole, path)?;
    // A line without its end was being written when the process or the machine died; its transaction was not committed.
    file.set_len(whole.len() as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed("write"))?;
    let new = keys.iter().filter(|key| !known.contains(&(key.subject.clone(), key.key)));
    let lines: String = new.map(|key| serde_json::to_string(&Line::of(key)).expect("a line has a JSON form") + "\n").collect();
    file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    if is_new {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write the folder of"))?;
    }
    Ok(())
}

fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |end| end + 1)]
}

fn parse(text: &str, path: &Path) -> Result<Vec<(String, Uuid)>, LedgerError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(place, line)| {
        let damaged = |reason| LedgerError::Damaged { path: path.to_owned(), line: place + 1, reason };
        let line: Line = serde_json::from_str(line).map_err(|_| damaged("it is no line of a ledger"))?;
        match line {
            Line { v, .. } if v != VERSION => Err(damaged("its version is not known to this outboxd")),
            line if line.sum != line.checksum() => Err(damaged("its checksum is another")),
            line => Ok((line.subject, line.key)),
        }
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn key(subject: &str) -> DestroyedKey {
        DestroyedKey { subject: subject.to_owned(), key: Uuid::new_v4(), at: Timestamp::from_micros(1_700_000_000_000_000) }
    }

    fn names(path: &Path) -> Vec<String> {
        read(path).expect("it can be read").into_iter().map(|(subject, _)| subject).collect()
    }

    #[test]
    fn lines_are_appended_once_and_read_as_they_were() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        assert!(names(&path).is_empty(), "no file, no line");
        let (one, other) = (key("customer/1"), key("a \"strange\"\\ é"));
        append(&path, std::slice::from_ref(&one)).expect("it is written");
        append(&path, &[one.clone(), other.clone()]).expect("it is written");
        append(&path, &[other]).expect("it is written");
        assert_eq!(names(&path), ["customer/1", "a \"strange\"\\ é"]);
    }

    #[test]
    fn a_torn_end_is_no_line_and_a_damaged_line_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        append(&path, &[key("customer/1"), key("customer/2")]).expect("it is written");
        let whole = std::fs::read_to_string(&path).expect("a text");
        std::fs::write(&path, format!("{whole}{}", &whole[..30])).expect("it is ours");
        assert_eq!(names(&path), ["customer/1", "customer/2"]);
        append(&path, &[key("customer/3")]).expect("it is written");
        assert_eq!(names(&path), ["customer/1", "customer/2", "customer/3"]);

        for (changed, words) in [
            (whole.replace("customer/2", "customer/9"), "line 2 of the erasure ledger"),
            (whole.replace("customer/2", "customer/9"), "its checksum is another"),
            (whole.replacen("\"v\":1", "\"v\":2", 1), "its version is not known"),
            (format!("\n{}\n{whole}", &whole[..30]), "line 2 of the erasure ledger"),
        ] {
            std::fs::write(&path, changed).expect("it is ours");
            let error = read(&path).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
            assert!(append(&path, &[key("customer/4")]).is_err(), "nothing is written behind a damaged line");
        }
    }
}
