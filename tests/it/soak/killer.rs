//! What happens to the relays of the soak: killed, frozen past their lease, cut off from the database, stopped, started again.
//! Remembers what it did and when, because duplicates are allowed around it and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use sqlx::PgPool;

use crate::support::{Binary, Running};

/// What was done to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Killed,
    Frozen,
    CutOff,
    /// The only one after which nothing may arrive twice.
    Stopped,
}

/// One act, and how long it lasted.
#[derive(Debug, Clone)]
pub struct Disturbance {
    pub act: Act,
    pub began: Instant,
    pub ended: Instant,
}

/// The instances and what happened to them.
pub struct Killer {
    binary: Binary,
    pool: PgPool,
    rng: Rng,
    instances: Vec<Option<Running>>,
    pub disturbances: Vec<Disturbance>,
    /// What the instances that have ended had to say.
    pub logs: Vec<String>,
    pub complaints: Vec<String>,
}

impl Killer {
    /// Starts that many instances.
    pub fn start(binary: Binary, pool: PgPool, seed: u64, instances: usize) -> Self {
        let instances = (0..instances).map(|_| Some(binary.spawn(&["run"]))).collect();
        let rng = Rng::with_seed(seed ^ 0x6b69_6c6c);
        Self { binary, pool, rng, instances, disturbances: Vec::new(), logs: Vec::new(), complaints: Vec::new() }
    }

    /// Goes on until told to stop; all instances run then.
    pub async fn disturb(mut self, stop: Arc<AtomicBool>) -> Self {
        // The first act comes when there is something to disturb.
        self.pause(1_500..2_500).await;
        while !stop.load(Ordering::Relaxed) {
            let victim = self.rng.usize(0..self.instances.len());
            let act = match self.rng.u32(0..100) {
                0..=34 => Act::Killed,
                35..=49 => Act::Frozen,
                50..=74 => Act::CutOff,
                _ => Act::Stopped,
            };
            let began = Instant::now();
            match act {
                Act::Killed => self.kill(victim).await,
                Act::Frozen => self.freeze(victim).await,
                Act::CutOff => self.cut_off().await,
                Act::Stopped => self.stop(victim).await,
            }
            self.disturbances.push(Disturbance { act, began, ended: Instant::now() });
            if self.instances[victim].is_none() {
                self.pause(0..1_500).await;
                self.instances[victim] = Some(self.binary.spawn(&["run"]));
            }
            self.pause(300..2_500).await;
        }
        self
    }

    async fn kill(&mut self, victim: usize) {
        let running = self.instances[victim].take().expect("every instance runs between two acts");
        self.logs.push(running.stderr());
        running.kill().await;
    }

    async fn freeze(&mut self, victim: usize) {
        self.running(victim).freeze();
        self.pause(3_300..6_000).await;
        if self.rng.bool() {
            self.cut_off().await;
        }
        self.running(victim).thaw();
        self.pause(0..1_000).await;
    }

    async fn cut_off(&mut self) {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and application_name like 'outboxd%' and application_name <> 'outboxd test'";
        sqlx::query(sql).execute(&self.pool).await.expect("the test role may end sessions");
    }

    async fn stop(&mut self, victim: usize) {
        let running = self.instances[victim].take().expect("every instance runs between two acts");
        running.terminate();
        let finished = running.finish().await;
        if finished.code != Some(0) {
            self.complaints.push(format!("a stopped instance ended with {:?}", finished.code));
        }
        self.logs.push(finished.stderr);
    }

    /// Stops all instances.
    pub async fn stop_all(&mut self) {
        for victim in 0..self.instances.len() {
            self.stop(victim).await;
        }
    }

    /// The logs so far, of those that run, too.
    pub fn all_logs(&self) -> Vec<String> {
        let running = self.instances.iter().flatten().map(Running::stderr);
        self.logs.iter().cloned().chain(running).collect()
    }

    pub fn count(&self, act: Act) -> usize {
        self.disturbances.iter().filter(|disturbance| disturbance.act == act).count()
    }

    fn running(&self, victim: usize) -> &Running {
        self.instances[victim].as_ref().expect("every instance runs between two acts")
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(millis))).await;
    }
}
