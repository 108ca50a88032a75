//! Adopted tables: the triggers beside the configuration.

use super::{Finding, identifier};
use crate::domain::TableName;
use crate::store::adoption::{AdoptionState, InspectedAdoption};
use crate::store::facts::Facts;

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.extend(facts.adoptions.iter().flatten().filter_map(judge_table));
}

fn judge_table(inspected: &InspectedAdoption) -> Option<Finding> {
    let InspectedAdoption { table, state } = inspected;
    let command = format!("outboxd adopt {table}");
    let lost = "rows inserted into it do not become events until they are copied, and rows that are deleted earlier never do";
    match state {
        AdoptionState::AsConfigured => None,
        AdoptionState::Missing => {
            let what = format!("table {table} is configured to be adopted and has no trigger");
            Some(Finding::critical("adoption", what, lost).shell(command.clone()).shell(format!("{command} --existing")))
        }
        AdoptionState::SwitchedOff { trigger } => {
            let what = format!("the trigger of the adopted table {table} is switched off");
            Some(Finding::critical("adoption", what, lost).sql(format!("alter table {} enable trigger {trigger};", name(table))))
        }
        AdoptionState::Outdated => {
            let what = format!("the trigger of the adopted table {table} does not do what the configuration says");
            let why = "its events are what an earlier configuration, table or version made of the rows";
            Some(Finding::critical("adoption", what, why).shell(command))
        }
        AdoptionState::Failing { trigger, error, reasons } => {
            let what = format!("every insert of the application into the adopted table {table} fails: {error}");
            let why = "the trigger reads the table as it was when it was adopted, and a trigger that fails makes the insert fail: the \
                       application cannot record anything";
            let entry = match reasons.is_empty() {
                true => String::new(),
                false => format!("[[adopt]]\ntable = \"{table}\"\n# mend: {}\n# then: {command}", reasons.join("\n# mend: ")),
            };
            let at_once = format!("alter table {} disable trigger {};", name(table), identifier(trigger));
            let finding = Finding::critical("adoption", what, why);
            let finding = if entry.is_empty() { finding.shell(command) } else { finding.config(entry) };
            Some(finding.sql(format!("-- until then inserts work again, and their rows are no events\n{at_once}")))
        }
        AdoptionState::Refused(reasons) => {
            let entry = format!("[[adopt]]\ntable = \"{table}\"\n# mend: {}", reasons.join("\n# mend: "));
            Some(Finding::critical("adoption", format!("table {table} cannot be adopted as configured"), lost).config(entry))
        }
        AdoptionState::Unconfigured => {
            let what = format!("table {table} is adopted and no [[adopt]] entry names it");
            let why = "rows inserted into it still become events, although the configuration does not name it";
            let entry = format!("[[adopt]]\ntable = \"{table}\"\nshape = \"debezium\"");
            Some(Finding::warning("adoption", what, why).shell(format!("outboxd adopt --remove {table}")).config(entry))
        }
    }
}

fn name(table: &TableName) -> String {
    format!("{}.{}", identifier(table.schema()), identifier(table.name()))
}
