//! `outboxd dead-letters groups` and `note`: dead letters with the same failure, and operators' notes about them.
//! Deletes and delivers nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::filter::FilterArgs;
use super::super::text::{as_json, dash, describe_moment, describe_reason, plain_table, plural, printable, shell_word, shorten};
use super::super::{CliError, EXIT_OK, Global, ask, link, print::print, session};
use crate::operations::{Page, dead_letters};
use crate::store::{DeadLetterGroup, Fingerprint};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd dead-letters groups
  outboxd dead-letters groups --handler billing --since 24h
  outboxd dead-letters groups --json | jq '.groups[] | select(.count > 100)'

The dead letters of a group have the same handler, reason, status and error; numbers, ids, addresses and quoted texts in the error are \
ignored. Every command about dead letters takes --group.")]
pub(super) struct GroupsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many groups
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print the address of the same page of the console
    #[arg(long)]
    link: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  outboxd dead-letters note 3f9a1c20b7d4e655 'their fix comes on Monday; replay then (ada)'

`dead-letters groups` shows the notes with author and time.")]
pub(super) struct NoteArgs {
    /// Id of the group, as `dead-letters groups` shows it
    group: Fingerprint,
    /// The text of the note
    #[arg(value_parser = ask::parse_text)]
    text: String,
    /// Only for this handler, if several have dead letters of the group
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
}

pub(super) async fn run(args: GroupsArgs, global: &Global) -> Result<ExitCode, CliError> {
    if args.link {
        link::print_link_of(global, "dead-letters", &args.filter.which(Vec::new()))?;
        return Ok(ExitCode::from(EXIT_OK));
    }
    let session = session::open(global).await?;
    let filter = args.filter.resolve(&session.pool, Vec::new()).await?;
    let Page { items: groups, more } = dead_letters::groups(&session.pool, &filter, args.limit).await?;
    print(&if global.json { as_json(&json!({ "groups": groups, "more": more })) } else { describe(&groups, more) })?;
    Ok(ExitCode::from(EXIT_OK))
}

pub(super) async fn note(args: NoteArgs, global: &Global) -> Result<ExitCode, CliError> {
    let NoteArgs { group, text, handler } = args;
    let session = session::open(global).await?;
    let noted = dead_letters::note(&session.pool, &ask::caller(), handler.as_deref(), group, &text).await?;
    eprintln!("noted on group {group}");
    if global.json {
        print(&as_json(&json!({ "group": group, "handlers": noted })))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn describe(groups: &[DeadLetterGroup], more: bool) -> String {
    if groups.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut table = plain_table(&["COUNT", "HANDLER", "REASON", "ERROR", "FIRST", "LAST", "GROUP", "SAMPLE"]);
    for group in groups {
        table.add_row([
            group.count.to_string(),
            printable(&group.handler),
            describe_reason(group.reason.as_deref(), group.status),
            shorten(group.error.as_deref().filter(|error| !error.is_empty()).unwrap_or("-")),
            group.first.map_or_else(dash, describe_moment),
            group.last.map_or_else(dash, describe_moment),
            group.group.map_or_else(dash, |group| group.to_string()),
            group.sample.to_string(),
        ]);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for group in groups {
        for note in &group.notes {
            let id = group.group.map_or_else(dash, |group| group.to_string());
            writeln!(text, "\n{id}  {} {}: {}", describe_moment(note.at), printable(&note.actor), printable(&note.text))
                .expect("a text takes any text");
        }
    }
    if more {
        write!(text, "\nthe largest {} group{}; --limit shows more\n", groups.len(), plural(groups.len() as u64))
            .expect("a text takes any text");
    }
    if let Some((first, group)) = groups.first().and_then(|first| Some((first, first.group?))) {
        let handler = shell_word(&first.handler);
        write!(text, "\n  outboxd replay --handler {handler} --group {group} --dry-run\n").expect("a text takes any text");
    }
    text
}
