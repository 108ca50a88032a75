//! `outboxd adopt`: installs or removes the triggers of the `[[adopt]]` entries of the configuration.
//! The command checks every table before it changes the first one, and never changes a row of a table.

use std::process::ExitCode;

use serde::Serialize;

use super::print::print;
use super::session::{self, Session};
use super::text::{as_json, plural};
use super::{CliError, EXIT_CONFIG, Global, ask};
use crate::config::ConfigError;
use crate::domain::{Adoption, TableName};
use crate::store::adoption::{AdoptionError, AdoptionPlan, AdoptionState, install, last_copy, plan_adoption, remove_adoption};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every [[adopt]] entry of the configuration names a table of an application,
such as the one of Debezium's outbox event router. This command puts a trigger
on the table that records each inserted row as an event, in the same
transaction. The application and its table stay as they are. The application
needs no rights on the outbox, and may delete its rows at once.

Running the command again changes nothing. Run it again after the entry or the
columns have changed. It waits for open transactions that have written to the
table, at most database.lock_timeout; other writers wait meanwhile.

Existing rows become events only with --existing: each once, in the order of
their time, before any row that is inserted later. Stop the old relay first. If
it has left rows that it had published, exclude them with a condition
(`existing` in the entry).

Examples:
  outboxd adopt --dry-run
  outboxd adopt
  outboxd adopt public.outboxevent --existing
  outboxd adopt --remove public.outboxevent")]
pub struct AdoptArgs {
    /// The tables to adopt [default: every table in the configuration]
    #[arg(value_name = "TABLE", value_parser = parse_table)]
    pub tables: Vec<TableName>,
    /// Print the SQL for another migration tool, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Copy existing rows as well
    #[arg(long, conflicts_with = "remove")]
    pub existing: bool,
    /// With --existing: copy again. Rows whose events have been removed meanwhile are delivered again
    #[arg(long, requires = "existing")]
    pub again: bool,
    /// Remove the triggers; events that were recorded stay and are delivered
    #[arg(long, conflicts_with = "dry_run")]
    pub remove: bool,
}

/// The result for one table.
#[derive(Debug, Serialize)]
struct Outcome {
    table: String,
    /// `adopted`, `unchanged`, `removed` or `absent`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<u64>,
}

pub async fn run(args: AdoptArgs, global: &Global) -> Result<ExitCode, CliError> {
    if args.remove {
        return remove(&args, global).await;
    }
    let adoptions = chosen(&args.tables, read_adoptions(global)?)?;
    let session = session::open(global).await?;
    let plans = plan_all(&session, &adoptions).await?;
    if args.dry_run {
        let script = describe_plans(&plans, args.existing);
        print(&if global.json { as_json(&serde_json::json!({ "sql": script })) } else { script })?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.existing {
        check_copies(&session, &plans, args.again).await?;
    }
    let mut outcomes = Vec::new();
    for plan in &plans {
        let installed = install(&session.pool, plan, args.existing, &ask::actor()).await.map_err(failed)?;
        let outcome = if installed.is_new { "adopted" } else { "unchanged" };
        outcomes.push(Outcome { table: plan.table.to_string(), outcome, copied: installed.copied });
    }
    report(&outcomes, global)
}

async fn remove(args: &AdoptArgs, global: &Global) -> Result<ExitCode, CliError> {
    let tables: Vec<TableName> = match args.tables.as_slice() {
        // Without names, the tables of the configuration. A named table may no longer exist.
        [] => chosen(&[], read_adoptions(global)?)?.into_iter().map(|adoption| adoption.table).collect(),
        tables => tables.to_vec(),
    };
    let Session { pool, schema } = session::open(global).await?;
    let mut outcomes = Vec::new();
    for table in &tables {
        let is_removed = remove_adoption(&pool, &schema, table).await.map_err(failed)?;
        let outcome = if is_removed { "removed" } else { "absent" };
        outcomes.push(Outcome { table: table.to_string(), outcome, copied: None });
    }
    report(&outcomes, global)
}

/// Checks all tables before the first change, and reports every mistake at once.
async fn plan_all(session: &Session, adoptions: &[Adoption]) -> Result<Vec<AdoptionPlan>, CliError> {
    let (mut plans, mut reasons) = (Vec::new(), Vec::new());
    for adoption in adoptions {
        match plan_adoption(&session.pool, &session.schema, adoption).await {
            Ok(plan) => plans.push(plan),
            Err(AdoptionError::Refused(more)) => reasons.extend(more),
            Err(error) => return Err(failed(error)),
        }
    }
    if reasons.is_empty() { Ok(plans) } else { Err(failed(AdoptionError::Refused(reasons))) }
}

async fn check_copies(session: &Session, plans: &[AdoptionPlan], again: bool) -> Result<(), CliError> {
    let mut reasons = Vec::new();
    for plan in plans {
        reasons.extend(plan.copy_refusal());
        if let Some(at) = last_copy(&session.pool, &plan.table).await?.filter(|_| !again) {
            reasons.push(format!(
                "the rows of {} were copied at {at}; add --again to copy the rows that have no event now; some of these events may have been \
                delivered and removed",
                plan.table
            ));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(failed(AdoptionError::Refused(reasons))) }
}

/// `[[adopt]]` of the file, also if the address of the database comes from elsewhere. Mistakes in other sections are not reported here.
fn read_adoptions(global: &Global) -> Result<Vec<Adoption>, CliError> {
    let draft = global.read()?;
    let adoptions = draft.adoptions().to_vec();
    let is_ours = |path: &str| path.starts_with("adopt") || path.starts_with("outbox");
    let mistakes: Vec<_> = draft.finish(Vec::new()).err().unwrap_or_default();
    let mistakes: Vec<_> = mistakes.into_iter().filter(|mistake| is_ours(&mistake.path)).collect();
    if mistakes.is_empty() {
        return Ok(adoptions);
    }
    Err(CliError::new(EXIT_CONFIG, ConfigError::Mistakes { path: global.config.clone(), mistakes }))
}

fn chosen(tables: &[TableName], adoptions: Vec<Adoption>) -> Result<Vec<Adoption>, CliError> {
    if adoptions.is_empty() {
        return Err(CliError::new(
            EXIT_CONFIG,
            "the configuration adopts no table; add an [[adopt]] entry, as `outboxd config reference` shows it",
        ));
    }
    let known: Vec<String> = adoptions.iter().map(|adoption| adoption.table.to_string()).collect();
    if let Some(unknown) = tables.iter().find(|table| !known.contains(&table.to_string())) {
        let text = format!("the configuration does not adopt {unknown}; it adopts {}", known.join(", "));
        return Err(CliError::new(EXIT_CONFIG, text));
    }
    Ok(adoptions.into_iter().filter(|adoption| tables.is_empty() || tables.contains(&adoption.table)).collect())
}

fn parse_table(text: &str) -> Result<TableName, String> {
    text.parse::<TableName>().map_err(|invalid| invalid.to_string())
}

fn failed(error: AdoptionError) -> CliError {
    match error {
        AdoptionError::Store(error) => error.into(),
        refused => CliError::failed(refused),
    }
}

fn report(outcomes: &[Outcome], global: &Global) -> Result<ExitCode, CliError> {
    print(&if global.json { as_json(&outcomes) } else { outcomes.iter().map(describe).collect() })?;
    Ok(ExitCode::SUCCESS)
}

fn describe(outcome: &Outcome) -> String {
    let Outcome { table, outcome, copied } = outcome;
    let text = match *outcome {
        "adopted" => format!("{table} is adopted: every row that is inserted from now on becomes an event"),
        "unchanged" => format!("{table} was adopted already"),
        "removed" => format!("{table} is no longer adopted; events that were recorded stay"),
        _ => format!("{table} was not adopted"),
    };
    let copied = copied.map(|count| format!("; {count} existing row{} became events", plural(count))).unwrap_or_default();
    format!("{text}{copied}\n")
}

fn describe_plans(plans: &[AdoptionPlan], copies_rows: bool) -> String {
    plans.iter().map(|plan| describe_plan(plan, copies_rows)).collect()
}

fn describe_plan(plan: &AdoptionPlan, copies_rows: bool) -> String {
    let copy = if copies_rows { format!("{};\n", plan.copy_statement()) } else { String::new() };
    let what = match &plan.state {
        AdoptionState::AsConfigured => "is adopted as configured",
        AdoptionState::Missing => "is not adopted yet",
        _ => "is adopted differently",
    };
    let statements: String = plan.statements().iter().map(|text| format!("{text};\n")).collect();
    if statements.is_empty() {
        return format!("-- {}: {what}\n{copy}", plan.table);
    }
    format!("-- {}: {what}\n{copy}begin;\n{statements}{copy}commit;\n", plan.table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told() {
        let outcome = |outcome, copied| describe(&Outcome { table: "a.b".to_owned(), outcome, copied });
        assert_eq!(outcome("unchanged", None), "a.b was adopted already\n");
        assert_eq!(
            outcome("adopted", Some(2)),
            "a.b is adopted: every row that is inserted from now on becomes an event; 2 existing rows became events\n"
        );
    }
}
