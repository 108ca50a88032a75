//! Logs: one subscriber for the process, on standard error, as text or as JSON for collectors. Never prints to standard output,
//! which belongs to the commands and to the `stdout` handler.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;

/// Clients of brokers that log errors that they also return, or even payloads. An outcome has the same error once, with event and handler. A
/// filter that names a client turns its log on.
const UNHEARD: &str = "async_nats=off,lapin=off";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One object per line with `timestamp`, `level`, `target`, `message` and the fields of the event beside them.
    Json,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("log.filter: got {filter:?}, expected a tracing filter such as \"info\" or \"info,outboxd=debug\"")]
    Filter {
        filter: String,
        #[source]
        cause: ParseError,
    },
    /// The filter parses, as the name of a module. Taken so, one typing error in `info` would silence every log.
    #[error("log.filter: unknown level {word:?} in {filter:?}; expected off, error, warn, info, debug, trace or <target>=<level>")]
    Level { filter: String, word: String },
    #[error("could not install the log subscriber; this process has one already")]
    Taken,
}

/// Sends the logs of this process to standard error. Coloured only on a terminal, and not there if `NO_COLOR` is set.
pub fn install(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let subscriber = subscriber(format, parse_filter(filter)?, io::stderr, colours());
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::Taken)
}

/// Reads a filter, for the check of a configuration.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    let words: Vec<&str> = filter.split(',').map(str::trim).collect();
    if let Some(word) = words.iter().find(|word| !filter.contains('[') && !is_directive(word)) {
        return Err(LoggingError::Level { filter: filter.to_owned(), word: (*word).to_owned() });
    }
    // Of two directives for one target the later applies, so a filter can name a client to turn its log on. The parser treats a
    // blank after a comma as a part of the name.
    let directives = format!("{UNHEARD},{}", words.join(","));
    EnvFilter::builder().parse(directives).map_err(|cause| LoggingError::Filter { filter: filter.to_owned(), cause })
}

/// A level, or a target with one, which is left to the parser.
fn is_directive(word: &str) -> bool {
    word.contains('=') || (!word.is_empty() && word.parse::<LevelFilter>().is_ok())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

fn colours() -> Colours {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !refused { Colours::On } else { Colours::Off }
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, writer: W, colours: Colours) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(colours == Colours::On).finish()),
        // One span is context, the list of all of them is a repetition; the fields stand on the top level for the collectors' sake.
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_current_span(true).with_span_list(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What `log` wrote under this format and filter.
    fn written(format: LogFormat, filter: &str, colours: Colours, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(format, parse_filter(filter).unwrap(), move || writer.clone(), colours);
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_is_one_object_per_line_with_stable_keys() {
        let text = written(LogFormat::Json, "info", Colours::Off, || {
            tracing::warn!(handler = "billing", attempt = 2, "delivery failed\nfor a reason");
            tracing::info!("relay started");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        let mut keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["attempt", "handler", "level", "message", "target", "timestamp"]);
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["attempt"], 2);
        assert_eq!(lines[0]["message"], "delivery failed\nfor a reason");
    }

    #[test]
    fn text_is_coloured_only_when_asked() {
        let log = || tracing::info!(handler = "billing", "circuit opened");
        let plain = written(LogFormat::Text, "info", Colours::Off, log);
        assert!(plain.contains("INFO") && plain.contains("circuit opened handler=\"billing\""), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert!(written(LogFormat::Text, "info", Colours::On, log).contains('\u{1b}'));
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        let log = || {
            tracing::debug!(target: "outboxd::relay", "kept");
            tracing::info!(target: "sqlx", "dropped");
        };
        let text = written(LogFormat::Text, "warn, outboxd=debug", Colours::Off, log);
        assert!(text.contains("kept") && !text.contains("dropped"), "{text}");
    }

    #[test]
    fn a_client_is_heard_only_by_its_name() {
        let lapin = || tracing::warn!(target: "lapin::returned_messages", "an event");
        let nats = || tracing::error!(target: "async_nats::connector", "what the verdict says, too");
        for (filter, is_heard) in [("info", false), ("trace", false), ("info,lapin=warn,async_nats=debug", true)] {
            assert_eq!(!written(LogFormat::Text, filter, Colours::Off, lapin).is_empty(), is_heard, "{filter}");
            assert_eq!(!written(LogFormat::Text, filter, Colours::Off, nats).is_empty(), is_heard, "{filter}");
        }
    }

    #[test]
    fn a_bad_filter_says_what_was_expected() {
        for (filter, expected) in [
            ("inof", r#"log.filter: unknown level "inof" in "inof"; expected off, error"#),
            ("info,", r#"log.filter: unknown level "" in "info,""#),
            ("outboxd=loud", r#"log.filter: got "outboxd=loud", expected a tracing filter"#),
            ("=debug=", r#"log.filter: got "=debug=", expected a tracing filter"#),
        ] {
            let error = parse_filter(filter).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{filter}: {error}");
        }
    }

    #[test]
    fn usual_filters_are_accepted() {
        for filter in ["info", "OFF", "debug,sqlx=warn", "outboxd::relay=trace,info", "info,outboxd[{handler=billing}]=debug"] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
    }
}
