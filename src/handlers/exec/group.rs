//! A process group: a program and everything it has started. Ending it sends SIGTERM first and SIGKILL later. Dropping it ends
//! it, too, in a task of its own, or at once if the runtime ends meanwhile. Only a process that has left the group on purpose can
//! remain.

use std::io;
use std::process::ExitStatus;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// How often to check whether a process is left when the program itself has gone: there is no notification.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Killing takes no time, but the one who is killed may be in the middle of a read.
const AFTER_KILLING: Duration = Duration::from_secs(1);

/// Longer than programs are asked in vain by default.
const FAREWELL: Duration = Duration::from_secs(10);

/// The tasks that end what was dropped, so that a stop can wait for them.
static ENDINGS: LazyLock<TaskTracker> = LazyLock::new(|| {
    let tracker = TaskTracker::new();
    tracker.close(); // only a closed tracker says that it is empty; it takes further tasks all the same
    tracker
});

/// Waits until every program that a dropped handler has left behind has ended, as far as that happens before anybody asks what takes so
/// long; whoever is left when this process ends is killed.
pub async fn all_ended() {
    let _ = timeout(FAREWELL, ENDINGS.wait()).await;
}

/// A program that runs and everything it has started.
pub struct Group {
    /// `None` only while it is being dropped.
    members: Option<Members>,
    /// How long the program may take to end by itself before it is asked to.
    patience: Duration,
    kill_after: Duration,
    runtime: Handle,
}

impl Group {
    /// `leader` was started as the first of its group.
    pub fn new(leader: Child, kill_after: Duration, runtime: Handle) -> Self {
        let id = leader.id().and_then(|id| libc::pid_t::try_from(id).ok()).expect("a child that was not waited for has an id");
        let members = Members { leader, id, listening: None };
        Self { members: Some(members), patience: Duration::ZERO, kill_after, runtime }
    }

    /// The end of the program itself. May be broken off and called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.members().leader.wait().await
    }

    /// Whether the program itself has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.members().leader.try_wait(), Ok(None))
    }

    /// When it is dropped: how long to wait for the program before it is asked to end.
    pub fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// A task that reads what the program writes; it goes on until the group has ended.
    pub fn listen(&mut self, listening: AbortOnDropHandle<()>) {
        self.members().listening = Some(listening);
    }

    /// Waits until that task has read everything, but not for those who hold the pipe open.
    pub async fn hear_out(&mut self, at_most: Duration) {
        if let Some(listening) = &mut self.members().listening
            && timeout(at_most, &mut *listening).await.is_ok()
        {
            self.members().listening = None;
        }
    }

    /// Ends it now and waits until that is done.
    pub async fn end(mut self) {
        if let Some(members) = self.members.take() {
            members.end(Duration::ZERO, self.kill_after).await;
        }
    }

    fn members(&mut self) -> &mut Members {
        self.members.as_mut().expect("a group has its members until it is dropped")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(members) = self.members.take().filter(|members| !members.are_gone()) {
            let (patience, kill_after) = (self.patience, self.kill_after);
            // One that the program left behind has had its time.
            let patience = if members.has_leader() { patience } else { Duration::ZERO };
            ENDINGS.spawn_on(async move { members.end(patience, kill_after).await }, &self.runtime);
        }
    }
}

/// The processes. Dropped before they are gone, they are killed.
struct Members {
    leader: Child,
    /// Of the leader and of the group.
    id: libc::pid_t,
    listening: Option<AbortOnDropHandle<()>>,
}

impl Members {
    async fn end(mut self, patience: Duration, kill_after: Duration) {
        if self.gone_within(patience).await {
            return;
        }
        self.signal(libc::SIGTERM);
        if self.gone_within(kill_after).await {
            return;
        }
        self.signal(libc::SIGKILL);
        self.gone_within(AFTER_KILLING).await; // if not, then because it waits for a disk, and cannot do anything else
    }

    async fn gone_within(&mut self, time: Duration) -> bool {
        let gone = async {
            let _ = self.leader.wait().await;
            while !self.are_gone() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        timeout(time, gone).await.is_ok()
    }

    /// The leader has not been waited for.
    fn has_leader(&self) -> bool {
        self.leader.id().is_some()
    }

    /// Until the leader is waited for its number, which is that of the group, belongs to nobody else; and as long as there is one member
    /// the number is not given to another group. Only after that could it be, and then it is not asked for any more.
    fn are_gone(&self) -> bool {
        if self.has_leader() {
            return false;
        }
        self.reap();
        !self.signal(0)
    }

    /// A process that a program leaves behind belongs to process 1. In a container that can be us, and then no other process reaps it.
    fn reap(&self) {
        // SAFETY: takes numbers and a null pointer, which asks for no status. The leader was waited for before, so that only processes are
        // met which nobody else waits for.
        while unsafe { libc::waitpid(-self.id, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }

    /// Whether there is a process to get it.
    fn signal(&self, signal: libc::c_int) -> bool {
        // SAFETY: takes two numbers; the group is the one that we made.
        let sent = unsafe { libc::kill(-self.id, signal) };
        sent == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        if !self.are_gone() {
            self.signal(libc::SIGKILL);
        }
    }
}
