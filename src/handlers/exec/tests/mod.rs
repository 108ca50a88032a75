//! Real processes, good and bad ones: what becomes of the event, and that nobody is left.

mod once;
mod settings;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use toml::Table;

use super::{Exec, settings as declared};
use crate::domain::{Notification, Verdict};
use crate::handlers::Handler;
use crate::settings::{Field, FieldType, Mistakes, Section};

/// Longer than anything takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The setting that every handler has.
const TIMEOUT: &[Field] = &[Field::new("timeout", FieldType::Duration, "30s", "")];

/// A handler with these settings, or what is wrong with them.
fn read(settings: &str) -> Result<Exec, Vec<String>> {
    let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
    let section = Section::open("handlers.x", &table, declared::FIELDS, TIMEOUT, &mistakes);
    let read = declared::read(&section);
    let mistakes: Vec<String> = mistakes.into_vec().iter().map(ToString::to_string).collect();
    match read {
        Some(settings) if mistakes.is_empty() => Ok(Exec::new(settings)),
        _ => Err(mistakes),
    }
}

/// A folder, and scripts for a shell that is started in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A handler whose program is this script.
    fn handler(&self, script: &str, settings: &str) -> Exec {
        let directory = self.0.path().display();
        let text = format!("command = [\"sh\", \"-c\", '''\n{script}''']\nworking_directory = \"{directory}\"\n{settings}");
        read(&text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits for a file that ends with a line break, and gives what is in it.
    async fn wait_for(&self, name: &str) -> String {
        eventually(name, || Some(self.text(name)).filter(|text| text.ends_with('\n'))).await
    }

    /// Waits until none of the processes is left whose numbers are in the file.
    async fn wait_until_gone(&self, name: &str) {
        for pid in self.wait_for(name).await.split_whitespace() {
            eventually(&format!("process {pid} of {name} is gone"), || (!lives(pid)).then_some(())).await;
        }
    }
}

/// Whether the process does anything. A dead one that its new parent has not waited for does not.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn eventually<T>(claim: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("never became true: {claim}"))
}

fn event(number: u64) -> Notification {
    Notification {
        id: uuid::Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0000 + u128::from(number)),
        ..Notification::sample("order.placed", &format!("{{\"n\":{number}}}"))
    }
}

async fn deliver(handler: &Exec, number: u64) -> Verdict {
    tokio::time::timeout(DEADLINE, handler.deliver(&event(number))).await.expect("a delivery is bounded in time")
}
