//! The barrier: an entry counts as delivered when the configured replicas or the disk have it, too. One wait answers for all
//! entries that were added before it, because the server executes nothing else of a connection while it waits. So the deliveries
//! of a connection wait together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};

/// Where an entry must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// In the memory of the server.
    Memory,
    /// In the memory of so many replicas, too.
    Replicas(u32),
    /// In the append-only file of the server, and in those of so many replicas.
    Disk { replicas: u32 },
}

/// The copies to wait for, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub safety: Safety,
    pub timeout: Duration,
}

/// Why an entry does not pass.
#[derive(Debug)]
pub enum Halt {
    /// The server answered in time, but fewer have the entry than should, or could have it; the text says how many.
    Short(String),
    Failed(RedisError),
}

/// The barrier of one connection.
pub struct Barrier {
    waiting: Waiting,
    /// How many entries have asked to pass.
    asked: AtomicU64,
    answered: tokio::sync::Mutex<Answered>,
}

/// The last answer, which holds for the first `entries` that asked.
struct Answered {
    entries: u64,
    shortfall: Option<String>,
}

impl Safety {
    /// The command that waits. `None`: there is nothing to wait for.
    pub fn command(self, timeout: Duration) -> Option<Cmd> {
        // Zero would be for ever.
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        match self {
            Self::Memory => None,
            Self::Replicas(replicas) => Some(redis::cmd("WAIT").arg(replicas).arg(millis).to_owned()),
            Self::Disk { replicas } => Some(redis::cmd("WAITAOF").arg(1).arg(replicas).arg(millis).to_owned()),
        }
    }

    const fn replicas(self) -> u32 {
        match self {
            Self::Memory => 0,
            Self::Replicas(replicas) | Self::Disk { replicas } => replicas,
        }
    }

    /// Where the entry is, as the command's answer says. `None`: it is no answer to the command.
    fn read(self, answer: &Value) -> Option<Holders> {
        match (self, answer) {
            (Self::Replicas(_), Value::Int(replicas)) => Some(Holders { disk: true, replicas: *replicas }),
            (Self::Disk { .. }, Value::Array(counts)) => match counts.as_slice() {
                [Value::Int(disk), Value::Int(replicas)] => Some(Holders { disk: *disk > 0, replicas: *replicas }),
                _ => None,
            },
            _ => None,
        }
    }

    fn lacks_replicas(self, holders: &Holders) -> bool {
        holders.replicas < i64::from(self.replicas())
    }

    /// The missing copies, in words.
    fn shortfall(self, holders: &Holders) -> Option<String> {
        if !holders.disk {
            return Some("the server's disk does not have it".to_owned());
        }
        self.lacks_replicas(holders).then(|| format!("{} of {} replicas have it", holders.replicas, self.replicas()))
    }
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holders {
    /// The server's own, if that was asked for.
    disk: bool,
    replicas: i64,
}

impl Barrier {
    pub fn new(waiting: Waiting) -> Self {
        let answered = tokio::sync::Mutex::new(Answered { entries: 0, shortfall: None });
        Self { waiting, asked: AtomicU64::new(0), answered }
    }

    /// Asks before there is an entry, so that a server which cannot wait, does not let us or has no replicas says so before one is
    /// added in vain, and again with every attempt.
    pub async fn try_out(&self, commands: &MultiplexedConnection) -> Result<(), Halt> {
        let safety = self.waiting.safety;
        let Some(command) = safety.command(Duration::from_millis(1)) else { return Ok(()) };
        let holders = self.ask(&command, commands).await?;
        match safety.lacks_replicas(&holders) {
            true => Err(Halt::Short(format!("{} of {} replicas are connected", holders.replicas, safety.replicas()))),
            false => Ok(()),
        }
    }

    /// Waits until the entry that was added before this call is where it must be. Safe to be dropped: the next one asks.
    pub async fn pass(&self, commands: &MultiplexedConnection) -> Result<(), Halt> {
        let Some(command) = self.waiting.safety.command(self.waiting.timeout) else { return Ok(()) };
        let place = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut answered = self.answered.lock().await;
        // Another delivery may have asked in the meantime. A later answer holds for earlier entries as well.
        if place > answered.entries {
            let entries = self.asked.load(Ordering::SeqCst);
            let holders = self.ask(&command, commands).await?;
            *answered = Answered { entries, shortfall: self.waiting.safety.shortfall(&holders) };
        }
        match &answered.shortfall {
            None => Ok(()),
            Some(text) => Err(Halt::Short(format!("{text} after {:?}", self.waiting.timeout))),
        }
    }

    async fn ask(&self, command: &Cmd, commands: &MultiplexedConnection) -> Result<Holders, Halt> {
        let answer = command.query_async::<Value>(&mut commands.clone()).await.map_err(Halt::Failed)?;
        self.waiting.safety.read(&answer).ok_or_else(|| {
            Halt::Failed(RedisError::from((redis::ErrorKind::UnexpectedReturnType, "this does not say who has the entry")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(safety: Safety) -> Option<String> {
        let command = safety.command(Duration::from_secs(2))?;
        let words = command.args_iter().map(|argument| match argument {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => panic!("no other kind of argument is used"),
        });
        Some(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_must_be_waited_for_is_one_command() {
        for (safety, want) in [
            (Safety::Memory, None),
            (Safety::Replicas(2), Some("WAIT 2 2000")),
            (Safety::Disk { replicas: 0 }, Some("WAITAOF 1 0 2000")),
            (Safety::Disk { replicas: 1 }, Some("WAITAOF 1 1 2000")),
        ] {
            assert_eq!(packed(safety).as_deref(), want);
        }
    }

    #[test]
    fn an_answer_says_who_has_the_entry() {
        let both = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        for (safety, answer, want) in [
            (Safety::Replicas(1), Value::Int(1), Some(None)),
            (Safety::Replicas(1), Value::Int(3), Some(None)),
            (Safety::Replicas(2), Value::Int(1), Some(Some("1 of 2 replicas have it"))),
            (Safety::Disk { replicas: 0 }, both(1, 0), Some(None)),
            (Safety::Disk { replicas: 0 }, both(0, 5), Some(Some("the server's disk does not have it"))),
            (Safety::Disk { replicas: 1 }, both(1, 0), Some(Some("0 of 1 replicas have it"))),
            (Safety::Disk { replicas: 1 }, Value::Int(1), None),
            (Safety::Replicas(1), Value::Okay, None),
        ] {
            let got = safety.read(&answer).map(|holders| safety.shortfall(&holders));
            assert_eq!(got.as_ref().map(|text| text.as_deref()), want, "{safety:?} {answer:?}");
        }
    }
}
