//! Starting: on a thread of its own that lives as long as this process, so that Linux can end a program when the relay is killed.
//! Never starts two at once; the caller waits as a task does and may give up at any point.

use std::io;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::group::Group;

/// A program that runs, alone in its process group, and our ends of its pipes.
pub struct Started {
    pub group: Group,
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

type Order = Box<dyn FnOnce() + Send>;

/// Linux sends the parent-death signal when the *thread* that started a program ends, not when the process does. The threads of a
/// runtime come and go (one that blocks is replaced, one that idles ends), and with them healthy programs would die; this thread does not.
static STARTER: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);

/// Starts a program. If the caller has gone, its group is ended.
pub async fn start(mut command: Command, kill_after: Duration) -> io::Result<Started> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    #[cfg(target_os = "linux")]
    end_with_us(&mut command);
    let (answer, started) = oneshot::channel();
    let runtime = Handle::current();
    give(Box::new(move || {
        let _entered = runtime.enter();
        // Without a receiver the answer is dropped here, and a group that is dropped is ended.
        let _ = answer.send(begin(command, kill_after, &runtime));
    }))?;
    started.await.unwrap_or_else(|_| Err(io::Error::other("the thread that starts programs is gone")))
}

fn begin(mut command: Command, kill_after: Duration, runtime: &Handle) -> io::Result<Started> {
    let mut leader = command.spawn()?;
    let pipes = (leader.stdin.take(), leader.stdout.take(), leader.stderr.take());
    let group = Group::new(leader, kill_after, runtime.clone());
    match pipes {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok(Started { group, stdin, stdout, stderr }),
        _ => Err(io::Error::other("the program has no pipes")),
    }
}

fn give(order: Order) -> io::Result<()> {
    // The guarded state is whole at any moment.
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match starter.as_ref() {
        Some(sender) => sender,
        None => starter.insert(start_thread()?),
    };
    sender.send(order).map_err(|_| {
        *starter = None; // the next caller gets another thread
        io::Error::other("the thread that starts programs is gone")
    })
}

fn start_thread() -> io::Result<mpsc::Sender<Order>> {
    let (sender, orders) = mpsc::channel::<Order>();
    thread::Builder::new().name("outboxd-exec".to_owned()).spawn(move || orders.into_iter().for_each(|order| order()))?;
    Ok(sender)
}

/// Has the kernel kill the program when this process is gone, however it went. Reaches the program itself, not what it starts in turn, and
/// not one that changes its user: those end when they read the end of their input.
#[cfg(target_os = "linux")]
fn end_with_us(command: &mut Command) {
    let us = std::process::id();
    let before_exec = move || {
        // SAFETY: takes two numbers.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // A parent that died before the call sends no signal any more.
        if std::os::unix::process::parent_id() != us {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is safe in a signal handler may be called: these are two system calls, and the errors
    // are made of a number, without memory being asked for.
    unsafe { command.pre_exec(before_exec) };
}
