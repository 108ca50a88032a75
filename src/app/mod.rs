//! The only place that wires: joins the configuration, which knows no handler kind, with the kinds, which know no configuration.

mod adopted;
mod channels;
mod console;
mod embed;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod kept_cursors;
mod reload;
mod serve;
mod service_manager;
mod use_writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::channels::channel_kind;
use crate::config::{
    self, COMMON, Config, ConfigError, Database, Draft, Environment, HandlerConfig, Kinds, Outbox, Overrides, ProcessEnvironment,
    ProjectionConfig, handler_path,
};
use crate::handlers::{self, Built, KINDS, OPTIONAL_KINDS, Projected, ProjectionSpec, SqlFunction};
use crate::operations::{Configuration, ReadConfiguration};
use crate::relay;
use crate::settings::{Field, Mistake, Mistakes, Section, format_duration};
use crate::telemetry::chain;

pub use channels::BuiltChannel;
pub use console::{ConsoleError, serve_console};
pub use embed::{EmbeddedRelay, IdleError, RelayBuilder};
pub use reload::{Load, Reloads, Wish};
pub use serve::{ServeError, ServeOptions, connect_options, serve};
pub use service_manager::{STOP_MARGIN, ServiceManager};

/// A checked configuration and its handlers, built but not running.
pub struct Loaded {
    pub config: Config,
    pub handlers: Vec<(HandlerConfig, Built)>,
    pub channels: Vec<BuiltChannel>,
}

/// Reads a file; every mistake in it, of whichever layer, comes out of the one run.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    load_with(path, &Overrides::default())
}

/// [`load`] with some values of the caller's in place of those of the file.
pub fn load_with(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let draft = read(path, overrides)?;
    finish(draft).map_err(|mistakes| ConfigError::Mistakes { path: path.to_owned(), mistakes })
}

/// The configuration where there is no file: every setting at its default, beside what the caller gives.
pub fn without_file(overrides: &Overrides) -> Result<Config, ConfigError> {
    let draft = config::read_with("", overrides, &ProcessEnvironment::of_file(Path::new("")), KIND_FIELDS);
    let draft = draft.map_err(|error| ConfigError::Syntax { path: PathBuf::new(), error })?;
    draft.finish(Vec::new()).map_err(|mistakes| ConfigError::Mistakes { path: PathBuf::new(), mistakes })
}

/// Reads a file as far as it goes.
pub fn read(path: &Path, overrides: &Overrides) -> Result<Draft, ConfigError> {
    config::load(path, overrides, KIND_FIELDS)
}

/// Reads `[database]` and `[outbox]` of a file, whatever is wrong elsewhere in it; how many mistakes that are comes with it.
pub fn load_database(path: &Path) -> Result<(Database, Outbox, usize), ConfigError> {
    config::load_database(path, KIND_FIELDS)
}

/// [`load`] for a text and an environment of the caller's.
pub fn parse(text: &str, environment: &dyn Environment) -> Result<Loaded, Vec<Mistake>> {
    let draft = config::read(text, environment, KIND_FIELDS)
        .map_err(|error| vec![Mistake { path: String::new(), text: error.to_string() }])?;
    finish(draft)
}

/// The configuration as operations take it.
pub fn configuration(loaded: Loaded) -> Configuration {
    let Loaded { config, handlers, .. } = loaded;
    Configuration { cautions: cautions(&config), config, handlers }
}

/// Reads the file anew each time, for operations that need more than the database.
pub fn configuration_reader(path: PathBuf, overrides: Overrides) -> ReadConfiguration {
    Arc::new(move || load_with(&path, &overrides).map(configuration).map_err(|error| chain(&error)))
}

/// Cautions about a configuration that works: path of the setting, and text.
pub fn cautions(config: &Config) -> Vec<(String, String)> {
    let of_handler = |(index, handler): (usize, &HandlerConfig)| {
        let path = handler_path(index, &handler.name);
        handlers::cautions(&handler.kind, &handler.settings).into_iter().map(move |text| (path.clone(), text)).collect::<Vec<_>>()
    };
    few_connections(config).into_iter().chain(config.handlers.iter().enumerate().flat_map(of_handler)).collect()
}

/// Loops read and record at the same time; with little they wait for one another.
fn few_connections(config: &Config) -> Option<(String, String)> {
    let loops: u32 = config.handlers.iter().map(|handler| u32::from(handler.partitions)).sum();
    let (given, enough) = (config.database.max_connections, (loops + 4).min(20));
    let text =
        format!("{given} is little for {loops} handlers (each partition counts), which wait for one another; {enough} are enough");
    (given < enough).then(|| ("database.max_connections".to_owned(), text))
}

/// Checks what belongs to the kinds, and builds every handler. The pairs are in the order of the configuration.
pub fn build_handlers(config: &Config) -> Result<Vec<(HandlerConfig, Built)>, Vec<Mistake>> {
    let (built, mistakes) = build(&config.handlers);
    if mistakes.is_empty() { Ok(built) } else { Err(mistakes) }
}

/// The settings of every kind of handler and channel.
pub const KIND_FIELDS: Kinds = Kinds {
    handlers: |name| handlers::kind(name).map(|kind| kind.fields),
    channels: |name| channel_kind(name).map(|kind| kind.fields),
};

fn finish(draft: Draft) -> Result<Loaded, Vec<Mistake>> {
    let (handlers, mut mistakes) = build(draft.handlers());
    let (channels, more) = channels::build_channels(draft.channels());
    mistakes.extend(more);
    let config = draft.finish(mistakes)?;
    Ok(Loaded { config, handlers, channels }.with_feed())
}

impl Loaded {
    /// With the subscription of the feed among the handlers, if there is a feed.
    fn with_feed(mut self) -> Self {
        if let Some(feed) = self.config.feed_handler() {
            self.config.handlers.push(feed.clone());
            self.handlers.push((feed, Built::Publisher));
        }
        self
    }
}

fn build(configs: &[HandlerConfig]) -> (Vec<(HandlerConfig, Built)>, Vec<Mistake>) {
    let mistakes = Mistakes::default();
    let built = configs.iter().enumerate().filter_map(|(index, config)| {
        let built = build_one(&handler_path(index, &config.name), config, &mistakes)?;
        Some((config.clone(), relay::with_contracts(built, config)))
    });
    (built.collect(), mistakes.into_vec())
}

fn build_one(path: &str, config: &HandlerConfig, mistakes: &Mistakes) -> Option<Built> {
    // A missing kind was reported by the configuration, with what a kind is.
    if config.kind.is_empty() {
        return None;
    }
    // Made by `[feed]`; written as a handler it was reported by the configuration.
    if config.kind == config::FEED {
        return Some(Built::Publisher);
    }
    // Written as a handler it was reported by the configuration.
    if config.kind == config::PROJECTION_KIND {
        return config.projection.as_ref().map(|projection| Built::Projection(Box::new(projection_spec(projection))));
    }
    let Some(kind) = handlers::kind(&config.kind) else {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        mistakes.add(format!("{path}.kind"), unknown_kind(&config.kind, &names));
        return None;
    };
    // The one setting of every handler that a kind has to know: none of its own waits may outlast it.
    let mut settings = config.settings.clone();
    settings.insert("timeout".to_owned(), format_duration(config.timeout).into());
    build_from(path, (kind.name, kind.fields), &settings, COMMON, kind.build, mistakes)
}

/// A version of a projection that is a function in the database.
fn projection_spec(config: &ProjectionConfig) -> ProjectionSpec {
    let function = SqlFunction {
        function: config.function.clone(),
        statement_timeout: config.statement_timeout,
        lock_timeout: config.lock_timeout,
        role: config.role.clone(),
    };
    ProjectionSpec {
        name: config.name.clone(),
        version: config.version,
        target: config.target.clone(),
        view: config.view.clone(),
        projected: Projected::Function(function),
    }
}

/// Opens the settings of one entry and lets its kind build from them; reports what helps, and only that.
fn build_from<T>(
    path: &str,
    (name, fields): (&str, &'static [Field]),
    settings: &toml::Table,
    common: &'static [Field],
    build: fn(&Section<'_>) -> Option<T>,
    mistakes: &Mistakes,
) -> Option<T> {
    let found = Mistakes::default();
    let section = Section::open(path, settings, fields, common, &found);
    let at_opening = found.len();
    let built = build(&section);
    if built.is_none() && found.is_empty() {
        found.add(path, format!("the kind \"{name}\" refused its settings without saying why"));
    }
    let missing = fields.iter().filter(|field| field.default.is_none() && !section.is_set(field.name));
    let mut said: Vec<String> = missing.map(|field| format!("{path}.{}", field.name)).collect();
    for (index, mistake) in found.into_vec().into_iter().enumerate() {
        // A setting that is missing or of the wrong type was read as something else; the errors of the kind about it would be useless.
        if index < at_opening {
            said.push(mistake.path.clone());
        } else if mistake.path != path && said.contains(&mistake.path) {
            continue;
        }
        mistakes.add(mistake.path, mistake.text);
    }
    built
}

fn unknown_kind(name: &str, names: &[&str]) -> String {
    match OPTIONAL_KINDS.contains(&name) {
        true => format!("this binary was built without the kind \"{name}\"; build it with the cargo feature \"{name}\""),
        false => nearest_of(name, names),
    }
}

/// The message about a name that is none of these.
fn nearest_of(name: &str, names: &[&str]) -> String {
    let known: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let nearest = names.iter().map(|near| (strsim::jaro_winkler(name, near), near)).max_by(|a, b| a.0.total_cmp(&b.0));
    let suggestion = match nearest {
        Some((likeness, near)) if likeness > 0.75 => format!("; did you mean \"{near}\"?"),
        _ => String::new(),
    };
    format!("got \"{name}\", expected {}{suggestion}", known.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeEnvironment;

    /// Has every variable and every file, so that an example may ask for whatever it likes.
    struct AnyEnvironment;

    impl Environment for AnyEnvironment {
        fn variable(&self, name: &str) -> Option<String> {
            Some(match name {
                "DATABASE_URL" => "postgres://app:pass@localhost/app".to_owned(),
                // The shape that Standard Webhooks wants; any other text setting takes it as well.
                _ => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            })
        }

        fn read_file(&self, _: &Path) -> std::io::Result<String> {
            Ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".to_owned())
        }

        fn directory(&self) -> &Path {
            Path::new("")
        }
    }

    fn files_in(directory: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).expect("the directory is there");
        let paths = entries.map(|entry| entry.expect("a directory can be listed").path());
        let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
        files.sort();
        files
    }

    fn mistakes_of(text: &str) -> Vec<String> {
        match parse(text, &FakeEnvironment::with_database()) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        }
    }

    /// The kinds as a mistake lists them: which there are depends on the features.
    fn all_kinds() -> String {
        KINDS.iter().map(|kind| format!("\"{}\"", kind.name)).collect::<Vec<_>>().join(" or ")
    }

    #[test]
    fn mistakes_of_every_layer_come_out_together() {
        let text = "[relay]\nlease = 15\n[[handlers]]\nname = \"stock\"\nkind = \"sql\"\ntime_out = \"5s\"\nfunktion = \"app.f\"\n\
                    [[handlers]]\nname = \"b\"\nkind = \"discrad\"\nurl = 1\n[[handlers]]\nname = \"b\"\nkind = \"discard\"";
        assert_eq!(
            mistakes_of(text).iter().map(|mistake| mistake.replace(&all_kinds(), "<the kinds>")).collect::<Vec<_>>(),
            [
                "relay.lease: got 15, expected a duration such as \"30s\"",
                "handlers.stock: unknown key \"funktion\"; did you mean \"function\"?",
                "handlers.stock: unknown key \"time_out\"; did you mean \"timeout\"?",
                "handlers.stock: needs \"function\", a text: \
                 Function to call, with its schema: fn(id uuid, type text, key text, payload jsonb, headers jsonb).",
                "handlers.b: the name is given more than once; every handler needs its own",
                "handlers.b.kind: got \"discrad\", expected <the kinds>; did you mean \"discard\"?",
            ]
        );
    }

    #[test]
    fn a_handler_is_built_from_its_own_settings() {
        let text = "[[handlers]]\nname = \"stock\"\nkind = \"sql\"\nfunction = \"app.f\"\ntimeout = \"3s\"";
        let loaded = parse(text, &FakeEnvironment::with_database()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let (config, built) = &loaded.handlers[0];
        assert_eq!((config.name.as_str(), config.timeout.as_secs()), ("stock", 3));
        assert!(matches!(built, Built::Function(function) if function.function == "app.f"));
        assert_eq!(build_handlers(&loaded.config).map(|handlers| handlers.len()).ok(), Some(1));
    }

    #[test]
    fn a_placeholder_is_not_judged_by_the_kind() {
        let text = "[[handlers]]\nname = \"stock\"\nkind = \"sql\"\nfunction_file = \"gone\"\nstatement_timeout = \"${LONG}\"";
        assert_eq!(
            mistakes_of(text),
            [
                "handlers.stock.statement_timeout: the environment variable \"LONG\" is not set",
                "handlers.stock.function_file: could not read /etc/outboxd/gone: No such file or directory (os error 2)",
            ]
        );
    }

    #[test]
    fn a_kind_that_was_left_out_is_told_with_its_cargo_feature() {
        for name in OPTIONAL_KINDS {
            let text = unknown_kind(name, &["webhook"]);
            assert_eq!(
                text,
                format!("this binary was built without the kind \"{name}\"; build it with the cargo feature \"{name}\"")
            );
        }
        assert_eq!(
            unknown_kind("webhok", &["webhook", "sql"]),
            "got \"webhok\", expected \"webhook\" or \"sql\"; did you mean \"webhook\"?"
        );
    }

    #[test]
    fn no_kind_declares_a_setting_that_every_handler_has() {
        for kind in KINDS {
            for field in kind.fields {
                assert!(!COMMON.iter().any(|common| common.name == field.name), "{}.{}", kind.name, field.name);
                assert!(!["name", "kind"].contains(&field.name), "{}.{}", kind.name, field.name);
            }
        }
    }

    #[test]
    fn every_example_is_a_valid_configuration() {
        for path in files_in("config/examples") {
            let text = std::fs::read_to_string(&path).expect("an example can be read");
            let mistakes = parse(&text, &AnyEnvironment).err().unwrap_or_default();
            assert!(mistakes.is_empty(), "{}: {mistakes:?}", path.display());
        }
    }

    /// One snapshot per file: what an operator reads who makes these mistakes.
    #[test]
    fn every_bad_configuration_is_told_everything_at_once() {
        for path in files_in("tests/bad-config") {
            let text = std::fs::read_to_string(&path).expect("a fixture can be read");
            let mistakes = mistakes_of(&text);
            assert!(!mistakes.is_empty(), "{} is not bad", path.display());
            let name = path.file_stem().expect("a fixture has a name").to_string_lossy().into_owned();
            insta::with_settings!({ snapshot_path => "../../tests/bad-config/snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(name, mistakes.join("\n").replace(&all_kinds(), "<the kinds>"));
            });
        }
    }
}
