//! Telemetry: metrics, logs, health. Knows the domain and nothing above it; never decides anything, and works without a listener.

mod alert_metrics;
mod console_metrics;
mod contract_use;
mod errors;
mod feed_metrics;
mod handler_metrics;
mod health;
pub mod logging;
pub mod metrics;
mod progress;
mod recorder;
mod relay_metrics;
mod trace_context;

pub use alert_metrics::{AlertMetrics, ChannelMetrics};
pub use console_metrics::{ConsoleAnswer, ConsoleMetrics, Login};
pub use contract_use::{ContractUse, ReceiverUse, UseKey, Used};
pub use errors::chain;
pub use feed_metrics::{ClientMetrics, CursorMetrics, FeedAnswer, FeedMetrics, FeedTailMetrics, HubEnd, HubMetrics};
pub use handler_metrics::{Backlog, HandlerMetrics, ReplayOutcome};
pub use health::{Health, HealthReport, Report};
pub use logging::{LogFormat, LoggingError};
pub use progress::{Failing, Failure, is_stuck};
pub use recorder::{InstallError, Telemetry, describe};
pub use relay_metrics::{DatabaseOperation, RelayMetrics, WakeUpSource};
pub use trace_context::TraceContext;

#[cfg(test)]
pub(crate) use recorder::tests::local as local_telemetry;
