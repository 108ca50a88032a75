//! The relays, each in a place of its own: its configuration, its way to the database, and the process that runs there now.
//! What the processes of a place had to say is kept when they have ended.

use std::sync::Mutex;

use crate::clock::{Clock, Moment};
use crate::database::Database;
use crate::plan::{RELAYS, configuration};
use crate::receivers;
use crate::support::{Binary, Proxy, Running, eventually, free_port};

/// Where one relay runs.
pub struct Place {
    pub number: usize,
    binary: Binary,
    /// Address of its feed: the same for every process that runs here.
    pub feed: String,
    /// Between it and the database.
    pub proxy: Proxy,
    /// Empty only while a fault has it down.
    running: tokio::sync::Mutex<Option<Running>>,
    /// What the processes that have ended here had to say.
    lives: Mutex<Vec<String>>,
    complaints: Mutex<Vec<String>>,
}

/// Starts all of them.
pub async fn start(database: &Database, receivers: &[receivers::Place], crowd: usize) -> Vec<Place> {
    let urls: Vec<String> = receivers.iter().map(receivers::Place::url).collect();
    let mut places = Vec::new();
    for number in 0..RELAYS {
        let (proxy, url) = Proxy::in_front_of(&database.relay_url(number)).await;
        let feed = format!("127.0.0.1:{}", free_port());
        let binary = Binary::with_config(&configuration(number, &url, &feed, &urls, crowd));
        let running = tokio::sync::Mutex::new(Some(binary.spawn(&["run"])));
        places.push(Place { number, binary, feed, proxy, running, lives: Mutex::default(), complaints: Mutex::default() });
    }
    places
}

impl Place {
    /// Kills what runs here.
    pub async fn kill(&self) {
        let mut running = self.running.lock().await;
        if let Some(running) = running.take() {
            self.remember(running.stderr());
            running.kill().await;
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(&self) {
        let Some(running) = self.running.lock().await.take() else { return };
        // A signal in its first milliseconds would meet a process that does not listen for it yet.
        eventually("the relay says something", || std::future::ready((!running.stderr().is_empty()).then_some(()))).await;
        running.terminate();
        let finished = running.finish().await;
        if finished.code != Some(0) {
            let complaint = format!("relay {} was asked to stop and ended with {:?}", self.number, finished.code);
            self.complaints.lock().expect("nobody panics while complaining").push(complaint);
        }
        self.remember(finished.stderr);
    }

    /// Starts it, if nothing runs here.
    pub async fn start(&self) {
        self.start_with(None).await;
    }

    /// Starts it with a variable in its environment.
    pub async fn start_with(&self, variable: Option<(&str, &str)>) {
        let mut running = self.running.lock().await;
        let binary = variable.map_or_else(|| self.binary.clone(), |(name, value)| self.binary.clone().env(name, value));
        running.get_or_insert_with(|| binary.spawn(&["run"]));
    }

    pub async fn freeze(&self) {
        if let Some(running) = &*self.running.lock().await {
            running.freeze();
        }
    }

    pub async fn thaw(&self) {
        if let Some(running) = &*self.running.lock().await {
            running.thaw();
        }
    }

    /// Whether it has ended by itself.
    pub async fn has_died(&self) -> bool {
        self.running.lock().await.as_mut().is_none_or(|running| !running.is_running())
    }

    /// Number of a process that has ended and that nobody has taken away.
    pub async fn dead_pid(&self) -> Option<u32> {
        let mut running = self.running.try_lock().ok()?;
        let running = running.as_mut()?;
        let number = running.number();
        (!running.is_running()).then_some(number)
    }

    /// Whether it has stopped its own clock.
    pub async fn has_stopped_itself(&self) -> bool {
        let Some(pid) = self.running.lock().await.as_ref().map(Running::pid) else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// Takes away a process that has ended by itself.
    pub async fn bury(&self) {
        let taken = self.running.lock().await.take();
        if let Some(running) = taken {
            self.remember(running.finish().await.stderr);
        }
    }

    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("nobody panics while complaining").clone()
    }

    /// Everything that was said here, of what runs now, too.
    pub async fn logs(&self) -> Vec<String> {
        let mut logs: Vec<String> = self.lives().clone();
        logs.extend(self.running.lock().await.as_ref().map(Running::stderr));
        logs
    }

    fn remember(&self, log: String) {
        self.lives().push(log);
    }

    fn lives(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lives.lock().expect("nobody panics while remembering")
    }
}

/// One line of a relay's log, with its time on the clock of the run.
pub fn time_of(line: &str, clock: Clock) -> Option<Moment> {
    let text = line.split_whitespace().next()?;
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(clock.at_micros(timestamp.as_microsecond()))
}
