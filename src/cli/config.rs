//! `outboxd config`: the configuration as outboxd reads it, the reference of all settings, and a schema for editors.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::print::print;
use super::{CliError, Global};
use crate::app;
use crate::channels::CHANNELS;
use crate::config::{self, REFERENCE, describe_fields};
use crate::handlers::KINDS;
use crate::settings::Field;

#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its meaning and default
    Reference,
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Print the configuration as outboxd reads it, with secrets masked
    Show,
}

pub async fn run(args: ConfigArgs, global: &Global) -> Result<ExitCode, CliError> {
    let text = match args.command {
        ConfigCommand::Reference => reference(),
        ConfigCommand::Schema => format!("{:#}\n", schema()),
        ConfigCommand::Show if global.json => format!("{:#}\n", as_json(&show(global)?)),
        ConfigCommand::Show => show(global)?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The reference file, followed by the settings of each kind of handler and channel.
fn reference() -> String {
    let handlers: String = KINDS.iter().map(|kind| describe_kind(kind.name, kind.summary, kind.example, kind.fields)).collect();
    let channels: String = CHANNELS.iter().map(|kind| describe_kind(kind.name, kind.summary, kind.example, kind.fields)).collect();
    format!(
        "{REFERENCE}\n# The kinds of handlers: an example of each, and its settings with their defaults.\n{handlers}\
         \n# The kinds of alert channels: an example of each, and its settings with their defaults.\n{channels}"
    )
}

fn describe_kind(name: &str, summary: &str, example: &str, fields: &[Field]) -> String {
    let example: String = example.lines().map(|line| format!("#   {line}\n")).collect();
    let fields = match fields {
        [] => "# This kind has no settings of its own.\n".to_owned(),
        fields => describe_fields(fields, ""),
    };
    format!("\n# ---- kind = \"{name}\": {summary}\n#\n{example}#\n{fields}")
}

fn schema() -> Value {
    let handlers: Vec<_> = KINDS.iter().map(|kind| (kind.name, kind.summary, kind.fields)).collect();
    let channels: Vec<_> = CHANNELS.iter().map(|kind| (kind.name, kind.summary, kind.fields)).collect();
    config::schema(&handlers, &channels)
}

fn show(global: &Global) -> Result<String, CliError> {
    // Checked first: otherwise an invalid document would be shown as if it were valid.
    global.load()?;
    let draft = global.read()?;
    Ok(config::show(draft.resolved(), app::KIND_FIELDS))
}

fn as_json(shown: &str) -> Value {
    let document: toml::Table = shown.parse().expect("the printed configuration is valid TOML");
    serde_json::to_value(document).expect("a TOML document without dates is a JSON value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeEnvironment;

    #[test]
    fn the_printed_reference_is_a_configuration_that_can_be_used() {
        assert!(app::parse(&reference(), &FakeEnvironment::with_database()).is_ok());
    }

    #[test]
    fn the_reference_and_the_schema_know_every_setting_of_every_kind() {
        let (reference, schema) = (reference(), schema().to_string());
        let handlers = KINDS.iter().map(|kind| (kind.name, kind.fields));
        for (kind, fields) in handlers.chain(CHANNELS.iter().map(|kind| (kind.name, kind.fields))) {
            assert!(reference.contains(&format!("kind = \"{kind}\"")));
            assert!(schema.contains(&format!("\"const\":\"{kind}\"")));
            for field in fields {
                assert!(reference.contains(&format!("# {}", field.name)), "{kind}.{}", field.name);
                assert!(schema.contains(&format!("\"{}\":{{", field.name)), "{kind}.{}", field.name);
            }
        }
    }

    #[test]
    fn what_is_shown_can_be_had_as_json() {
        let draft = config::read("", &FakeEnvironment::with_database(), app::KIND_FIELDS).expect("valid TOML");
        let json = as_json(&config::show(draft.resolved(), app::KIND_FIELDS));
        assert_eq!(json["database"]["url"], "postgres://app:***@localhost/app");
        assert_eq!(json["relay"]["durability_gate"], true);
    }
}
