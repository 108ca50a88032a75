//! Helpers: the tasks beside the loops: the bell, the tail, the recorder, the observer, retention, and the alerts. They end with
//! the relay. No delivery depends on any of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Outbox, WakeUp};
use crate::relay::alerts::{self, AlertContext};
use crate::relay::observer::{self, Observer};
use crate::relay::{AlertSetup, Shared, recorder, retention, tail, wake_up};

pub(super) struct Helpers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Helpers {
    pub(super) fn start(shared: &Arc<Shared>, outbox: watch::Receiver<Outbox>, alerts: AlertSetup) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if shared.options().wake_up == WakeUp::Listen {
            let bell = Arc::clone(&shared.wake_up);
            let (pool, health) = (shared.connections.keeper.clone(), Arc::clone(&shared.health));
            tasks.spawn(wake_up::serve(bell, pool, stop.clone(), shared.metrics.clone(), health));
        }
        tasks.spawn(tail::serve(Arc::clone(shared), stop.clone()));
        tasks.spawn(recorder::serve(Arc::clone(shared), stop.clone()));
        let log = retention::Log { pool: shared.connections.aside.clone(), patience: shared.answer_timeout };
        tasks.spawn(retention::serve(log, outbox, stop.clone(), shared.metrics.clone()));
        let observer = Observer {
            pool: shared.connections.aside.clone(),
            instance: shared.instance.id.clone(),
            health: Arc::clone(&shared.health),
            metrics: shared.metrics.clone(),
            served: shared.served.subscribe(),
            wake: Arc::clone(&shared.observe),
            wake_up: Arc::clone(&shared.wake_up),
            patience: shared.answer_timeout,
        };
        tasks.spawn(observer::serve(observer, stop.clone()));
        if alerts.config.enabled {
            let context = AlertContext {
                pool: shared.connections.aside.clone(),
                instance: shared.instance.id.clone(),
                relay: shared.options().name.clone(),
                lease: shared.options().lease,
                health: Arc::clone(&shared.health),
                metrics: shared.metrics.clone(),
            };
            tasks.spawn(alerts::serve(context, alerts, stop.clone()));
        }
        Self { stop, tasks }
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(5), all).await.ok(); // what does not end is aborted with the set
    }
}
