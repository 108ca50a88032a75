//! The configuration, for operations that need more than the database: read anew each time, so that it is the one that `reload` would apply.

use std::sync::Arc;

use crate::config::{Config, HandlerConfig};
use crate::handlers::Built;

/// A checked configuration with its handlers, built but not running.
pub struct Configuration {
    pub config: Config,
    pub handlers: Vec<(HandlerConfig, Built)>,
    /// Notes on settings that work: path of the setting, and text.
    pub cautions: Vec<(String, String)>,
}

/// Reads the configuration; the error is for an operator and names every mistake. The layer that wires gives it, because only that layer
/// knows files and kinds.
pub type ReadConfiguration = Arc<dyn Fn() -> Result<Configuration, String> + Send + Sync>;
