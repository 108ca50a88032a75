//! `outboxd dead-letters list`: the newest dead letters. Changes nothing.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::super::filter::{FilterArgs, describe_letters};
use super::super::{CliError, EXIT_OK, Global, link, print::print, session, text::as_json};
use crate::operations::dead_letters;
use crate::store::DeadLetter;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd dead-letters list
  outboxd dead-letters list --handler billing --reason timeout
  outboxd dead-letters list --since 2h --text 'no such customer'
  outboxd dead-letters list --type 'order.*' --json | jq -r '.dead_letters[].id'")]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print the address of the same page of the console
    #[arg(long)]
    link: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    dead_letters: Vec<DeadLetter>,
    /// There are more than the limit.
    more: bool,
}

pub(super) async fn run(args: ListArgs, global: &Global) -> Result<ExitCode, CliError> {
    if args.link {
        link::print_link_of(global, "dead-letters/list", &args.filter.which(Vec::new()))?;
        return Ok(ExitCode::from(EXIT_OK));
    }
    let session = session::open(global).await?;
    let filter = args.filter.resolve(&session.pool, Vec::new()).await?;
    let page = dead_letters::list(&session.pool, &filter, None, args.limit).await?;
    let listed = Listed { dead_letters: page.items, more: page.more };
    print(&if global.json { as_json(&listed) } else { describe(&listed) })?;
    Ok(ExitCode::from(EXIT_OK))
}

fn describe(listed: &Listed) -> String {
    let letters = describe_letters(&listed.dead_letters).trim_fmt();
    match listed.dead_letters.len() {
        0 => "no dead letters\n".to_owned(),
        count if listed.more => format!("{letters}\n\nthe newest {count}; --limit shows more, `dead-letters groups` groups them\n"),
        _ => format!("{letters}\n"),
    }
}
