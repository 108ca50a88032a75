//! `outboxd check`: checks the configuration; with `--connect` it also checks that the database and every receiver answer.
//! Delivers nothing and changes nothing.

use std::process::ExitCode;

use futures_util::future::join_all;
use serde::Serialize;
use sqlx::PgPool;

use super::print::print;
use super::text::plain_table;
use super::{CliError, EXIT_CONFIG, EXIT_DATABASE, EXIT_OK, Global, chain};
use crate::app::{self, Loaded};
use crate::config::{Config, ConfigError, HandlerConfig, adoption_path};
use crate::domain::Ordering;
use crate::handlers::{Built, Projected, ProjectionSpec};
use crate::registration::{self, Consequence};
use crate::settings::describe_duration;
use crate::store::adoption::{AdoptionState, InspectedAdoption, inspect_adoption};
use crate::store::blind_spots::find_blind_spots;
use crate::store::{self, Server, StoreError};

/// The oldest server version that the relay supports.
const OLDEST_MAJOR: i32 = 14;

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Also connect to the database and probe every handler
    #[arg(long)]
    pub connect: bool,
}

/// One probe of `--connect`.
#[derive(Debug, Serialize)]
struct Probe {
    /// `database`, `handlers.<name>` or `adopt.<table>`.
    what: String,
    ok: bool,
    /// The probe succeeded, but the operator should know this before a relay runs with this configuration.
    note: bool,
    text: String,
}

#[derive(Debug, Serialize)]
struct HandlerSummary {
    name: String,
    kind: String,
    events: Vec<String>,
    order: String,
    retries: String,
}

pub async fn run(args: CheckArgs, global: &Global) -> Result<ExitCode, CliError> {
    let loaded = match app::load_with(&global.config, &global.overrides()) {
        Ok(loaded) => loaded,
        Err(error) if global.json => {
            print(&error_as_json(&error))?;
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
        Err(error) => return Err(CliError::new(EXIT_CONFIG, error)),
    };
    let summaries: Vec<HandlerSummary> = loaded.handlers.iter().map(|(config, _)| summarise(config)).collect();
    if !global.json {
        // Before the probes, which may be slow.
        print(&describe_summaries(&global.config.display().to_string(), &summaries))?;
    }
    loaded.handlers.iter().flat_map(|(config, _)| older_settings(config)).for_each(|note| eprintln!("note: {note}"));
    let probes = if args.connect { probe_all(&loaded).await } else { Vec::new() };
    let notes = notes(&loaded, args.connect).await;
    let ok = probes.iter().all(|probe| probe.ok);
    print(&match global.json {
        true => format!("{:#}\n", serde_json::json!({ "ok": ok, "handlers": summaries, "probes": probes, "notes": notes })),
        false => describe_probes(&probes) + &describe_notes(&notes),
    })?;
    Ok(ExitCode::from(if ok { EXIT_OK } else { EXIT_DATABASE }))
}

/// Settings that still work under an old name.
fn older_settings(config: &HandlerConfig) -> Vec<String> {
    let newer =
        [("conflict", "answers = { \"409\" = \"duplicate\" }"), ("retry_client_errors", "answers = { \"4xx\" = \"retry\" }")];
    let is_set = |name: &str| config.kind == "webhook" && config.settings.contains_key(name);
    let note = |(name, newer): &(&str, &str)| format!("handlers.{}.{name} still works; the newer way is {newer}", config.name);
    newer.iter().filter(|(name, _)| is_set(name)).map(note).collect()
}

/// Notes on settings that work. They do not change the exit code.
#[derive(Debug, Serialize)]
struct Note {
    what: String,
    text: String,
}

async fn notes(loaded: &Loaded, connects: bool) -> Vec<Note> {
    let mut notes: Vec<Note> = app::cautions(&loaded.config).into_iter().map(|(what, text)| Note { what, text }).collect();
    if connects {
        // The probe has reported an invalid address already.
        let told = store::unencrypted(&options(&loaded.config)).await.ok().flatten();
        notes.extend(told.map(|text| Note { what: "database".to_owned(), text }));
    }
    notes
}

fn describe_notes(notes: &[Note]) -> String {
    let gap = if notes.is_empty() { "" } else { "\n" };
    gap.to_owned() + &notes.iter().map(|note| format!("note    {}: {}\n", note.what, note.text)).collect::<String>()
}

fn error_as_json(error: &ConfigError) -> String {
    format!("{:#}\n", serde_json::json!({ "ok": false, "error": chain(error), "mistakes": error.mistakes() }))
}

fn summarise(config: &HandlerConfig) -> HandlerSummary {
    HandlerSummary {
        name: config.name.clone(),
        kind: config.kind.clone(),
        events: config.pins.iter().map(described).collect(),
        order: match &config.ordering {
            Ordering::Aggregate => "aggregate".to_owned(),
            Ordering::Header(name) => format!("header:{name}"),
            Ordering::Payload(path) => format!("payload:{}", path.join(".")),
            Ordering::None => "none".to_owned(),
        },
        retries: describe_retries(config),
    }
}

/// As the configuration writes it: a type, and the version that it pins.
fn described((glob, version): &(String, Option<u32>)) -> String {
    version.map_or_else(|| glob.clone(), |version| format!("{glob}@{version}"))
}

/// For example `12 attempts over 22h 33m`: the backoff as an operator needs it.
fn describe_retries(config: &HandlerConfig) -> String {
    let attempts = config.retry.max_attempts;
    if attempts == 1 {
        return "1 attempt".to_owned();
    }
    let span = config.retry.backoff.span(attempts);
    match config.retry.max_age.filter(|max_age| *max_age < span) {
        Some(max_age) => format!("at most {attempts} attempts, none after {}", describe_duration(max_age)),
        None => format!("{attempts} attempts over {}", describe_duration(span)),
    }
}

fn describe_summaries(path: &str, summaries: &[HandlerSummary]) -> String {
    let plural = match summaries.len() {
        0 => return format!("{path} is valid, but has no handlers: nothing would be delivered. Add a [[handlers]] entry.\n"),
        1 => "",
        _ => "s",
    };
    let mut table = plain_table(&["HANDLER", "KIND", "EVENTS", "ORDER", "RETRIES"]);
    for handler in summaries {
        let events = if handler.events.is_empty() { "every type".to_owned() } else { handler.events.join(", ") };
        table.add_row([&handler.name, &handler.kind, &events, &handler.order, &handler.retries]);
    }
    format!("{path} is valid: {} handler{plural}\n\n{}\n", summaries.len(), table.trim_fmt())
}

fn describe_probes(probes: &[Probe]) -> String {
    let line = |probe: &Probe| {
        let verdict = match probe {
            Probe { ok: false, .. } => "FAILED",
            Probe { note: true, .. } => "note  ",
            Probe { .. } => "ok    ",
        };
        format!("{verdict}  {}: {}\n", probe.what, probe.text)
    };
    let gap = if probes.is_empty() { "" } else { "\n" };
    gap.to_owned() + &probes.iter().map(line).collect::<String>()
}

async fn probe_all(loaded: &Loaded) -> Vec<Probe> {
    let pool = connect(&loaded.config).await;
    let database = probe_database(&pool, &loaded.config.outbox.schema).await;
    let handlers = join_all(loaded.handlers.iter().map(|(config, built)| probe_handler(config, built, &pool))).await;
    let adopted = probe_adoptions(&loaded.config, &pool).await;
    let last = adopted.into_iter().chain(probe_ledger(loaded, &pool).await);
    [database].into_iter().chain(handlers).chain(probe_registration(loaded, &pool).await).chain(last).collect()
}

/// Whether a restored backup has keys of persons who were forgotten. Nothing before there is an outbox.
async fn probe_ledger(loaded: &Loaded, pool: &Result<PgPool, StoreError>) -> Option<Probe> {
    let (ledger, pool) = (loaded.config.erasure.ledger.as_ref()?, pool.as_ref().ok()?);
    store::check_schema(pool, &loaded.config.outbox.schema).await.ok()?;
    let checked = crate::forgetting::check_ledger(pool, ledger).await.map_err(|error| chain(&error));
    Some(Probe::new("erasure.ledger".to_owned(), checked.map(|()| format!("no subject of {} has a key", ledger.display()))))
}

/// What a relay with this configuration would change for pending events. Empty if there is no outbox; `probe_database` reports that.
async fn probe_registration(loaded: &Loaded, pool: &Result<PgPool, StoreError>) -> Vec<Probe> {
    let Ok(pool) = pool else { return Vec::new() };
    if store::check_schema(pool, &loaded.config.outbox.schema).await.is_err() {
        return Vec::new();
    }
    let configs: Vec<&HandlerConfig> = loaded.handlers.iter().map(|(config, _)| config).collect();
    match registration::foresee(pool, &configs).await {
        Ok(found) => found.into_iter().map(Probe::consequence).collect(),
        Err(error) => vec![Probe::new("registration".to_owned(), Err(chain(&error)))],
    }
}

async fn probe_adoptions(config: &Config, pool: &Result<PgPool, StoreError>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for adoption in &config.adopt {
        let result = match pool {
            Ok(pool) => match inspect_adoption(pool, &config.outbox.schema, adoption).await {
                Ok(found) if found.state == AdoptionState::AsConfigured => Ok("rows inserted into it become events".to_owned()),
                Ok(InspectedAdoption { state: AdoptionState::Failing { error, .. }, .. }) => {
                    Err(format!("every insert of the application fails: {error}; `outboxd doctor` says what to do"))
                }
                Ok(InspectedAdoption { state: AdoptionState::Refused(reasons), .. }) => Err(reasons.join("; ")),
                Ok(_) => Err(format!("is not adopted, or not as configured; run `outboxd adopt {}`", adoption.table)),
                Err(error) => Err(chain(&error)),
            },
            Err(_) => Err("could not be checked without the database".to_owned()),
        };
        probes.push(Probe::new(adoption_path(&adoption.table), result));
    }
    probes
}

async fn connect(config: &Config) -> Result<PgPool, StoreError> {
    store::connect_thoroughly(&options(config)).await
}

fn options(config: &Config) -> store::Options<'_> {
    let database = &config.database;
    store::Options {
        url: database.url.expose(),
        schema: &config.outbox.schema,
        application_name: "outboxd check",
        max_connections: 1,
        connect_timeout: database.connect_timeout,
        statement_timeout: database.statement_timeout,
        lock_timeout: database.lock_timeout,
    }
}

async fn probe_database(pool: &Result<PgPool, StoreError>, schema: &str) -> Probe {
    let result = match pool {
        Ok(pool) => {
            match store::describe_server(pool, schema)
                .await
                .map_err(|error| chain(&error))
                .and_then(|server| judge(&server, schema))
            {
                Ok(text) => find_severe(pool, schema).await.map(|()| text),
                Err(text) => Err(text),
            }
        }
        Err(error) => Err(chain(error)),
    };
    Probe::new("database".to_owned(), result)
}

/// Conditions that could hide committed events from the relay.
async fn find_severe(pool: &PgPool, schema: &str) -> Result<(), String> {
    let found = find_blind_spots(pool, schema).await.map_err(|error| chain(&error))?;
    let severe: Vec<String> = found.iter().filter(|spot| spot.is_severe()).map(ToString::to_string).collect();
    if severe.is_empty() { Ok(()) } else { Err(severe.join("\n        ")) }
}

fn judge(server: &Server, schema: &str) -> Result<String, String> {
    let Server { major, version, is_in_recovery, database, encoding, has_outbox } = server;
    if *major < OLDEST_MAJOR {
        return Err(format!("PostgreSQL {version} is too old; outboxd needs {OLDEST_MAJOR} or newer"));
    }
    if *is_in_recovery {
        return Err("the server is a standby; outboxd reads from the primary only: set database.url to the primary".to_owned());
    }
    if let Some(refusal) = store::encoding_refusal(database, encoding) {
        return Err(refusal);
    }
    if !has_outbox {
        return Err(format!("there is no outbox in schema \"{schema}\"; `outboxd migrate` creates it"));
    }
    Ok(format!("PostgreSQL {version}, outbox in schema \"{schema}\""))
}

async fn probe_handler(config: &HandlerConfig, built: &Built, pool: &Result<PgPool, StoreError>) -> Probe {
    let result = match built {
        // A receiver that accepts a connection and never answers must not block the check.
        Built::Handler(handler) => match tokio::time::timeout(config.timeout, handler.probe()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {}", describe_duration(config.timeout))),
        },
        Built::Function(function) => probe_function(&function.function, pool).await,
        Built::Projection(projection) => probe_projection(projection, pool).await,
        Built::Publisher => Ok("assigns places to events; nothing to connect to".to_owned()),
    };
    Probe::new(format!("handlers.{}", config.name), result)
}

async fn probe_function(name: &str, pool: &Result<PgPool, StoreError>) -> Result<String, String> {
    let Ok(pool) = pool else { return Err("could not be checked without the database".to_owned()) };
    match store::has_function(pool, name).await {
        Ok(true) => Ok(format!("function {name} exists")),
        Ok(false) => Err(format!("there is no function {name}(uuid, text, text, jsonb, jsonb)")),
        Err(error) => Err(chain(&error)),
    }
}

async fn probe_projection(projection: &ProjectionSpec, pool: &Result<PgPool, StoreError>) -> Result<String, String> {
    let Projected::Function(function) = &projection.projected else { return Ok("is code of the program".to_owned()) };
    let (name, Ok(pool)) = (&function.function, pool) else {
        return Err("could not be checked without the database".to_owned());
    };
    match store::projections::has_function(pool, name).await {
        Ok(true) => Ok(format!("function {name} exists")),
        Ok(false) => Err(format!("there is no function {name}(uuid, text, text, jsonb, jsonb, timestamptz, boolean)")),
        Err(error) => Err(chain(&error)),
    }
}

impl Probe {
    fn new(what: String, result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        Self { what, ok, note: false, text: result.unwrap_or_else(|error| error) }
    }

    fn consequence(found: Consequence) -> Self {
        Self { what: format!("handlers.{}", found.handler), ok: !found.is_refused, note: !found.is_refused, text: found.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeEnvironment;

    fn summary(settings: &str) -> HandlerSummary {
        let text = format!("[[handlers]]\nname = \"x\"\nkind = \"discard\"\n{settings}");
        let loaded = app::parse(&text, &FakeEnvironment::with_database()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        summarise(&loaded.handlers[0].0)
    }

    #[test]
    fn the_retries_are_told_as_a_span() {
        for (settings, want) in [
            ("", "12 attempts over 22h 33m"),
            ("retry = { max_attempts = 1 }", "1 attempt"),
            ("retry = { schedule = [\"100ms\"], max_attempts = 3 }", "3 attempts over 200ms"),
            ("retry = { max_age = \"1d\" }", "12 attempts over 22h 33m"),
            ("retry = { max_age = \"2h\" }", "at most 12 attempts, none after 2h"),
        ] {
            assert_eq!(summary(settings).retries, want, "{settings}");
        }
    }

    #[test]
    fn the_order_is_told_as_it_is_written() {
        for order in ["aggregate", "header:tenant", "payload:a.b"] {
            assert_eq!(summary(&format!("key = \"{order}\"")).order, order);
        }
        assert_eq!(summary("ordering = \"none\"").order, "none");
    }

    #[test]
    fn a_server_that_cannot_be_used_says_what_to_do() {
        let good = Server {
            major: 16,
            version: "16.2".into(),
            is_in_recovery: false,
            database: "shop".into(),
            encoding: "UTF8".into(),
            has_outbox: true,
        };
        assert_eq!(judge(&good, "outbox"), Ok("PostgreSQL 16.2, outbox in schema \"outbox\"".to_owned()));
        for (server, want) in [
            (Server { major: 13, ..good.clone() }, "needs 14"),
            (Server { is_in_recovery: true, ..good.clone() }, "standby"),
            (Server { has_outbox: false, ..good.clone() }, "outboxd migrate"),
            (Server { encoding: "LATIN1".into(), ..good.clone() }, "has the encoding LATIN1; outboxd needs UTF8"),
        ] {
            let error = judge(&server, "outbox").expect_err(want);
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_configuration_without_handlers_is_told_so() {
        assert!(describe_summaries("outboxd.toml", &[]).contains("no handlers"));
        let shown = describe_summaries("outboxd.toml", &[summary("events = [\"a\", \"b\"]")]);
        assert!(shown.starts_with("outboxd.toml is valid: 1 handler\n"), "{shown}");
        assert!(shown.contains(" x        discard  a, b    aggregate  12 attempts over 22h 33m"), "{shown}");
    }

    #[tokio::test]
    async fn an_unreachable_database_is_told_and_the_handlers_are_probed_all_the_same() {
        let text = "[database]\nurl = \"postgres://127.0.0.1:1/x\"\nconnect_timeout = \"1s\"\n\
                    [[handlers]]\nname = \"a\"\nkind = \"discard\"\n[[handlers]]\nname = \"b\"\nkind = \"sql\"\nfunction = \"f\"";
        let loaded = app::parse(text, &FakeEnvironment::default()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let probes = probe_all(&loaded).await;
        assert_eq!(
            probes.iter().map(|probe| (probe.what.as_str(), probe.ok)).collect::<Vec<_>>(),
            [("database", false), ("handlers.a", true), ("handlers.b", false)]
        );
    }
}
