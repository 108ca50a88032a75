//! `outboxd contracts render` and `events show --version`: an event as a receiver of a version gets it, byte for byte.

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::print::print;
use super::super::{CliError, EXIT_OK, Global, session};
use crate::contracts::Registry;
use crate::domain::Notification;
use crate::store::events::{Event, read_history};

#[derive(Debug, Args)]
pub(super) struct RenderArgs {
    /// The event in the log
    #[arg(required_unless_present = "file", conflicts_with_all = ["file", "event_type", "recorded"])]
    id: Option<Uuid>,
    /// The version that the receiver gets
    #[arg(long, value_name = "NUMBER")]
    version: u32,
    /// File with a payload, instead of an event of the log
    #[arg(long, value_name = "FILE", requires = "event_type")]
    file: Option<PathBuf>,
    /// Event type of the payload
    #[arg(long = "type", value_name = "TYPE", requires = "file")]
    event_type: Option<String>,
    /// Version of the payload
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    recorded: u32,
}

/// The input.
struct Recorded {
    event_type: String,
    version: u32,
    payload: String,
}

pub(super) async fn render(args: RenderArgs, registry: &Registry, global: &Global) -> Result<ExitCode, CliError> {
    let wanted = args.version;
    let recorded = recorded(args, global).await?;
    let rendered = registry.render(&recorded.event_type, recorded.version, wanted, &recorded.payload).map_err(CliError::failed)?;
    print(&match global.json {
        true => as_json(&recorded, wanted, &rendered),
        false => format!("{}\n", rendered.trim_end()),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn recorded(args: RenderArgs, global: &Global) -> Result<Recorded, CliError> {
    if let (Some(file), Some(event_type)) = (args.file, args.event_type) {
        let payload = std::fs::read_to_string(&file);
        let payload = payload.map_err(|error| CliError::failed(format!("could not read {}: {error}", file.display())))?;
        if let Err(error) = serde_json::from_str::<&RawValue>(&payload) {
            return Err(CliError::failed(format!("{} is not JSON: {error}", file.display())));
        }
        return Ok(Recorded { event_type, version: args.recorded, payload });
    }
    let id = args.id.expect("without a file there is an id");
    let session = session::open(global).await?;
    let Some(history) = read_history(&session.pool, id, None).await? else {
        return Err(CliError::failed(format!("there is no event {id} in schema \"{}\"", session.schema)));
    };
    let event = history.event;
    if let Some(damage) = &event.damage {
        return Err(CliError::failed(format!("event {id} cannot be read: {damage}")));
    }
    let version = recorded_version(&event)?;
    Ok(Recorded { event_type: event.event_type, version, payload: event.payload.get().to_owned() })
}

fn recorded_version(event: &Event) -> Result<u32, CliError> {
    let notification = Notification { headers: event.headers.get().to_owned(), ..Notification::sample(&event.event_type, "{}") };
    let wrong = || CliError::failed(format!("the header \"version\" of event {} is not a whole number from 1 on", event.id));
    notification.recorded_version().ok_or_else(wrong)
}

/// Replaces the recorded payload with the one that a receiver of this version gets.
pub(in crate::cli) fn show_version(event: &mut Event, version: u32, global: &Global) -> Result<(), CliError> {
    let (contracts, _) = super::load(global)?;
    let recorded = recorded_version(event)?;
    let rendered =
        contracts.registry.render(&event.event_type, recorded, version, event.payload.get()).map_err(CliError::failed)?;
    if let Cow::Owned(rendered) = rendered {
        event.payload = RawValue::from_string(rendered).expect("a rendered payload is JSON");
    }
    Ok(())
}

/// The payload is inserted as text: parsing it would round large numbers.
fn as_json(recorded: &Recorded, wanted: u32, rendered: &str) -> String {
    let payload: &RawValue = serde_json::from_str(rendered).expect("a rendered payload is JSON");
    let document = json!({ "type": recorded.event_type, "recorded": recorded.version, "version": wanted });
    let head = document.to_string();
    format!("{},\"payload\":{}}}\n", &head[..head.len() - 1], payload.get())
}
