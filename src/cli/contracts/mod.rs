//! `outboxd contracts`: the versions of public events in the contracts folder. Needs no database and no secrets, so the producer's CI can run
//! it; only `render` with an id, `retire` and `--use` read the database.

mod check;
mod list;
pub(super) mod render;
mod retire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::text::as_json;
use super::{CliError, EXIT_CONFIG, EXIT_OK, Global, print::print, session};
use crate::config::{ConfigError, Contracts};
use crate::contracts::{asyncapi, openapi_schemas};
use crate::store;

/// Show, check, compare and export the versions of public events
#[derive(Debug, Args)]
pub struct ContractsArgs {
    #[command(subcommand)]
    command: ContractsCommand,
}

#[derive(Debug, Subcommand)]
enum ContractsCommand {
    /// List every version of every contract, and the handlers and clients that receive it
    #[command(after_help = "Examples:
  outboxd contracts list
  outboxd contracts list --use
  outboxd contracts list --json")]
    List(list::ListArgs),
    /// Show a contract or one version of it: state, dates, casts, schema
    #[command(after_help = "Examples:
  outboxd contracts show order.placed
  outboxd contracts show order.placed@1 --use
  outboxd contracts show order.placed@1 --json")]
    Show(list::ShowArgs),
    /// Check the contracts, and compare them with the published versions
    #[command(after_help = "\
Exit code:
  0   all is well
  1   a published version changed in a way that may break readers
  64  a contract is invalid

Examples:
  outboxd contracts check
  outboxd contracts check --against contracts.lock
  outboxd contracts check --against contracts.lock --update

The lock file holds the schema of every published version; keep it beside the producer's code. A change is refused if an example shows \
that it breaks readers, or if compatibility can be neither proven nor refuted. `--update` writes the lock file if nothing is refused.")]
    Check(check::CheckArgs),
    /// Compare two versions of a contract: changes that break readers of the first
    #[command(after_help = "Example:
  outboxd contracts diff order.placed@1 order.placed@2")]
    Diff(check::DiffArgs),
    /// Show an event as a receiver of a version gets it
    #[command(
        disable_version_flag = true,
        after_help = "\
Examples:
  outboxd contracts render 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --version 1
  outboxd contracts render --type order.placed --file payload.json --recorded 2 --version 1

Exit code 1: the event has no valid form in that version; a handler that is pinned to it would get a dead letter with the reason `contract`."
    )]
    Render(render::RenderArgs),
    /// Check whether a version may be retired: its receivers, and the lines to change
    #[command(after_help = retire::HELP)]
    Retire(retire::RetireArgs),
    /// Print the contracts in the form of other tools
    #[command(after_help = "Examples:
  outboxd contracts export --asyncapi > asyncapi.json
  outboxd contracts export --openapi-schemas > schemas.json")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    form: ExportForm,
    /// Title in the document
    #[arg(long, value_name = "TEXT", default_value = "Public events")]
    title: String,
    /// Version of the document
    #[arg(long, value_name = "TEXT", default_value = "1.0.0")]
    document_version: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ExportForm {
    /// As an AsyncAPI 3.0 document: a message and a channel for each version that is served
    #[arg(long)]
    asyncapi: bool,
    /// As an OpenAPI 3.1 document with a schema for each version that is served, and nothing else
    #[arg(long)]
    openapi_schemas: bool,
}

#[derive(Debug, thiserror::Error)]
enum ContractsError {
    #[error("there are no contracts: contracts.path is not set in {}", .0.display())]
    None(PathBuf),
    #[error("got \"{0}\", expected a type with a version such as \"order.placed@1\"")]
    NoVersion(String),
}

pub async fn run(args: ContractsArgs, global: &Global) -> Result<ExitCode, CliError> {
    let (contracts, mut receivers) = load(global)?;
    let needs_use = match &args.command {
        ContractsCommand::List(args) => args.with_use,
        ContractsCommand::Show(args) => args.with_use,
        ContractsCommand::Retire(_) => true,
        _ => false,
    };
    if needs_use {
        receivers.counted = Some(store::read_contract_use(&session::open(global).await?.pool).await?);
    }
    match args.command {
        ContractsCommand::List(_) => print(&list::list(&contracts.registry, &receivers, global.json))?,
        ContractsCommand::Show(args) => print(&list::show(&args, &contracts.registry, &receivers, global.json)?)?,
        ContractsCommand::Check(args) => return check::check(&args, &contracts.registry, global.json),
        ContractsCommand::Diff(args) => print(&check::diff(&args, &contracts.registry, global.json)?)?,
        ContractsCommand::Retire(args) => return retire::retire(&args, &contracts, &receivers, global),
        ContractsCommand::Render(args) => return render::render(args, &contracts.registry, global).await,
        ContractsCommand::Export(args) => {
            let (all, title, version) = (contracts.registry.contracts(), &args.title, &args.document_version);
            print(&as_json(&if args.form.asyncapi {
                asyncapi(all, title, version)
            } else {
                openapi_schemas(all, title, version)
            }))?;
        }
    }
    Ok(ExitCode::from(EXIT_OK))
}

/// The contracts and their receivers; mistakes in other sections of the configuration are not reported here.
pub(super) fn load(global: &Global) -> Result<(Contracts, list::Receivers), CliError> {
    let read = global.read()?.into_contracts();
    let (contracts, handlers, clients) =
        read.map_err(|mistakes| CliError::new(EXIT_CONFIG, ConfigError::Mistakes { path: global.config.clone(), mistakes }))?;
    if contracts.path.is_none() {
        return Err(CliError::new(EXIT_CONFIG, ContractsError::None(global.config.clone())));
    }
    Ok((contracts, list::Receivers { handlers, clients, counted: None }))
}

/// `order.placed@1`
fn split(text: &str) -> (&str, Option<u32>) {
    match text.rsplit_once('@') {
        Some((event_type, version)) if version.parse::<u32>().is_ok() => (event_type, version.parse().ok()),
        _ => (text, None),
    }
}
