//! What the relay holds and burns: its own process, memory while it drains a backlog, processor time while it sleeps.

use std::time::{Duration, Instant};

use super::outbox::{ONE_HANDLER, Server};
use super::report::Figure;
use crate::cli::CliError;

const IDLE: Duration = Duration::from_secs(10);

pub async fn measure(server: &Server, backlog: u64) -> Result<Vec<Figure>, CliError> {
    let outbox = server.outbox().await?;
    outbox.fill(backlog).await?;
    let directory = tempfile::tempdir().map_err(CliError::failed)?;
    let mut relay = outbox.start_relay(directory.path(), "", ONE_HANDLER)?;
    let pid = relay.id().ok_or_else(|| CliError::failed("the relay did not start"))?;
    let mut peak = 0.0_f64;
    let finished = outbox.wait_recorded(backlog);
    tokio::pin!(finished);
    loop {
        tokio::select! {
            ended = &mut finished => break ended?,
            () = tokio::time::sleep(Duration::from_millis(100)) => peak = peak.max(resident_mib(pid).unwrap_or(0.0)),
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, began) = (processor_seconds(pid).unwrap_or(0.0), Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = (processor_seconds(pid).unwrap_or(0.0) - before) / began.elapsed().as_secs_f64() * 100.0;
    relay.kill().await.map_err(CliError::failed)?;
    Ok(vec![
        Figure::new(format!("resident memory, draining {backlog} events"), peak, "MiB").target("under 64"),
        Figure::new("processor time when idle", idle, "% of one processor").target("under 1"),
    ])
}

/// Linux only; elsewhere the figure is missing.
pub(super) fn resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

pub(super) fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
