//! `outboxd projections`: lists, rebuilds, switches and drops the versions of projections, and skips events.
//! Works while the relay is down; a running relay follows at once.

mod acts;
mod list;
mod switch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, print::print, session::Session};
use crate::store::projections::{self, Version};

/// List, build, switch and drop the versions of projections
#[derive(Debug, Args)]
pub struct ProjectionsArgs {
    #[command(subcommand)]
    command: ProjectionsCommand,
}

#[derive(Debug, Subcommand)]
enum ProjectionsCommand {
    /// List every version: which is live, how far the others are, and at which event one has stopped
    List(list::ListArgs),
    /// Empty the target of a version that is not live, and build it again from the beginning of the log
    Rebuild(acts::RebuildArgs),
    /// Make a version live for readers of the view, once it has caught up
    Switch(switch::SwitchArgs),
    /// Drop a version that no relay serves
    Drop(acts::DropArgs),
    /// Skip the event at which a version has stopped
    Skip(acts::SkipArgs),
    /// Try the event at which a version has stopped again now
    Retry(acts::RetryArgs),
}

/// The version of a command.
#[derive(Debug, Clone, Args)]
struct WhichArgs {
    /// Name of the projection, for example sales
    name: String,
    /// Number of the version, for example 2
    #[arg(id = "number", value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
}

#[derive(Debug, Args)]
struct ChoiceArgs {
    /// Reason; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, thiserror::Error)]
enum ProjectionError {
    #[error("there is no projection \"{name}\"{known}")]
    UnknownName { name: String, known: String },
    #[error(
        "{name} has no version {version}; it has {known}. To add a version, add an entry [[projections]] to the configuration and run \
        `outboxd reload`"
    )]
    UnknownVersion { name: String, version: u32, known: String },
    #[error("{name}@{version} was dropped; its number cannot be used again")]
    Dropped { name: String, version: u32 },
    #[error("{0}@{1} is gone; another command has dropped it meanwhile")]
    Gone(String, u32),
}

pub async fn run(args: ProjectionsArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        ProjectionsCommand::List(args) => list::run(&args, global).await,
        ProjectionsCommand::Rebuild(args) => acts::rebuild(args, global).await,
        ProjectionsCommand::Switch(args) => switch::run(args, global).await,
        ProjectionsCommand::Drop(args) => acts::drop(args, global).await,
        ProjectionsCommand::Skip(args) => acts::skip(args, global).await,
        ProjectionsCommand::Retry(args) => acts::retry(args, global).await,
    }
}

/// The version of the command, and all others of its projection that were not dropped.
async fn find(session: &Session, which: &WhichArgs) -> Result<(Version, Vec<Version>), CliError> {
    let all = projections::list(&session.pool).await?;
    let WhichArgs { name, version } = which;
    if !all.iter().any(|known| known.name == *name) {
        let mut names: Vec<&str> = all.iter().map(|known| known.name.as_str()).collect();
        names.dedup();
        let known = match names.as_slice() {
            [] => "; no relay has served one yet: add [[projections]] to the configuration and run `outboxd reload`".to_owned(),
            names => format!("; existing: {}", names.join(", ")),
        };
        return Err(CliError::new(EXIT_CONFIG, ProjectionError::UnknownName { name: name.clone(), known }));
    }
    let (mut ours, mut others): (Vec<Version>, Vec<Version>) =
        all.into_iter().filter(|known| known.name == *name).partition(|known| known.version == *version);
    others.retain(|other| other.dropped_at.is_none());
    match ours.pop() {
        Some(found) if found.dropped_at.is_some() => {
            Err(CliError::new(EXIT_CONFIG, ProjectionError::Dropped { name: name.clone(), version: *version }))
        }
        Some(found) => Ok((found, others)),
        None => {
            let known = match others.as_slice() {
                [] => "none".to_owned(),
                others => others.iter().map(|other| other.version.to_string()).collect::<Vec<_>>().join(", "),
            };
            let (name, version) = (name.clone(), *version);
            Err(CliError::new(EXIT_CONFIG, ProjectionError::UnknownVersion { name, version, known }))
        }
    }
}

fn gone(which: &WhichArgs) -> CliError {
    CliError::failed(ProjectionError::Gone(which.name.clone(), which.version))
}

/// The action for the terminal, and the current state of the version for scripts.
async fn tell(session: &Session, which: &WhichArgs, text: &str, global: &Global) -> Result<ExitCode, CliError> {
    eprintln!("{text}");
    if global.json {
        let versions = list::listed(session).await?;
        let found = versions.iter().find(|one| one.name == which.name && one.version == which.version);
        print(&format!("{:#}\n", serde_json::json!({ "changed": true, "projection": found })))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}
