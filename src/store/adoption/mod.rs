//! Adoption: a trigger on a table of the application that records every inserted row as an event, in the same transaction. The
//! trigger function has the rights of the outbox's owner, so the application needs no further right and stays as it is. Changes
//! nothing in the table; deliveries are recorded in tables of the outbox only.

mod expressions;
mod failing;
mod install;
mod table;
mod text;

use sqlx::PgPool;

use super::StoreError;
use crate::domain::{Adoption, CopyAt, TableName};
use expressions::Expressions;
use table::{FoundTable, FoundTrigger, find_table};
use text::{function_name, qualified, quoted, statement, tag};

pub use install::{Installed, install, last_copy, remove_adoption};
pub use table::{AdoptedTable, list_adopted_tables};

/// Part of every body, so that a trigger that an earlier version has made is made anew. Rises when a helper function changes.
const VERSION: u32 = 2;

/// Why a table cannot be adopted, for the person who configured it.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The trigger on a table, compared with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptionState {
    AsConfigured,
    Missing,
    /// There is a trigger that does something else: the configuration, the table or this program has changed since.
    Outdated,
    /// The trigger is there and switched off.
    SwitchedOff {
        trigger: String,
    },
    /// The table is not what the configuration says.
    Refused(Vec<String>),
    /// The trigger is on and cannot do its work: every insert of the application into the table fails with this error.
    Failing {
        trigger: String,
        error: String,
        /// Why the configuration does not fit the table either; empty if it does.
        reasons: Vec<String>,
    },
    /// No entry of the configuration names it.
    Unconfigured,
}

/// One table, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedAdoption {
    pub table: TableName,
    pub state: AdoptionState,
}

/// The steps to adopt one table.
#[derive(Debug, Clone)]
pub struct AdoptionPlan {
    pub table: TableName,
    pub state: AdoptionState,
    outbox: String,
    function: String,
    /// Functions of ours that are on the table and not to stay.
    obsolete: Vec<String>,
    body: String,
    how: CopyHow,
    /// The copy of rows that are there.
    copy: String,
    /// Asks whether a row to copy has no id; `None`: none has.
    ask_for_id: Option<String>,
    rights: Rights,
}

#[derive(Debug, Clone)]
struct Rights {
    role: String,
    may_use_schema: bool,
    may_trigger: bool,
    may_select: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyHow {
    /// Once for all rows of a statement.
    Statement,
    /// Row by row: what is inserted straight into a partition fires no trigger of the statement on its parent.
    Row,
    /// Row by row at the commit.
    Commit,
}

/// Looks at a table and says what would be done. Changes nothing.
pub async fn plan_adoption(pool: &PgPool, outbox: &str, adoption: &Adoption) -> Result<AdoptionPlan, AdoptionError> {
    let table = &adoption.table;
    let refused = |text: String| AdoptionError::Refused(vec![format!("adopt.{table}: {text}")]);
    let Some(found) = find_table(pool, outbox, table).await? else {
        return Err(refused(format!("there is no table {table} in this database")));
    };
    check_kind(&found).map_err(refused)?;
    let expressions = expressions::build(outbox, adoption, &found).map_err(AdoptionError::Refused)?;
    let how = match (adoption.copy_at, found.kind.as_str()) {
        (CopyAt::Commit, _) => CopyHow::Commit,
        (CopyAt::Statement, "p") => CopyHow::Row,
        (CopyAt::Statement, _) => CopyHow::Statement,
    };
    let function = function_name(outbox, table);
    let body = body(outbox, &expressions, how);
    let state = state(&found.triggers, &function, &body, how);
    let obsolete = found.triggers.iter().filter(|trigger| trigger.function != function);
    Ok(AdoptionPlan {
        table: table.clone(),
        outbox: outbox.to_owned(),
        obsolete: obsolete.map(|trigger| trigger.function.clone()).collect(),
        copy: copy(outbox, adoption, &expressions),
        ask_for_id: ask_for_id(adoption, &expressions),
        rights: Rights {
            role: found.role.clone(),
            may_use_schema: found.may_use_schema,
            may_trigger: found.may_trigger,
            may_select: found.may_select,
        },
        function,
        body,
        how,
        state,
    })
}

/// Inspects one configured table. Changes nothing.
pub async fn inspect_adoption(pool: &PgPool, outbox: &str, adoption: &Adoption) -> Result<InspectedAdoption, StoreError> {
    let state = match plan_adoption(pool, outbox, adoption).await {
        Ok(plan) => plan.state,
        Err(AdoptionError::Refused(reasons)) => AdoptionState::Refused(reasons),
        Err(AdoptionError::Store(error)) => return Err(error),
    };
    let state = failing::doubt(pool, outbox, &adoption.table, state).await?;
    Ok(InspectedAdoption { table: adoption.table.clone(), state })
}

/// Inspects the configured tables, and finds other adopted ones. Changes nothing.
pub async fn inspect_adoptions(pool: &PgPool, outbox: &str, adoptions: &[Adoption]) -> Result<Vec<InspectedAdoption>, StoreError> {
    let mut inspected = Vec::new();
    for adoption in adoptions {
        inspected.push(inspect_adoption(pool, outbox, adoption).await?);
    }
    for AdoptedTable { table, .. } in list_adopted_tables(pool, outbox).await? {
        if !inspected.iter().any(|known| known.table == table) {
            let state = failing::doubt(pool, outbox, &table, AdoptionState::Unconfigured).await?;
            inspected.push(InspectedAdoption { table, state });
        }
    }
    Ok(inspected)
}

impl AdoptionPlan {
    /// Every statement that makes the trigger, in order; empty if all is as it should be.
    pub fn statements(&self) -> Vec<String> {
        if self.state == AdoptionState::AsConfigured {
            return self.obsolete.iter().map(|function| drop_function(&self.outbox, function)).collect();
        }
        let schema = quoted(&self.outbox);
        let function = format!("{schema}.{}", self.function);
        let helpers = HELPERS.iter().map(|file| statement(file, &[("{schema}", schema.clone())]));
        let (constraint, how) = match self.how {
            CopyHow::Statement => ("", "referencing new table as inserted for each statement"),
            CopyHow::Row => ("", "for each row"),
            CopyHow::Commit => ("constraint ", "deferrable initially deferred for each row"),
        };
        let names = [("{function}", function), ("{tag}", tag(&self.body)), ("{body}", self.body.clone())];
        let trigger = [
            ("{constraint}", constraint.to_owned()),
            ("{name}", self.function.clone()),
            ("{table}", qualified(&self.table)),
            ("{how}", how.to_owned()),
            names[0].clone(),
        ];
        let made = [
            statement(include_str!("../sql/create_adoption_function.sql"), &names),
            statement(include_str!("../sql/guard_adoption_function.sql"), &names[..1]),
            statement(include_str!("../sql/create_adoption_trigger.sql"), &trigger),
        ];
        // A trigger for the commit cannot be replaced, and another session may just have made this one.
        let dropped = self.obsolete.iter().chain([&self.function]).map(|function| drop_function(&self.outbox, function));
        helpers.chain(dropped).chain(made).collect()
    }

    /// The statement that copies the rows that are there.
    pub fn copy_statement(&self) -> &str {
        &self.copy
    }

    /// Why rows that are there cannot be copied.
    pub fn copy_refusal(&self) -> Option<String> {
        self.ask_for_id.is_none().then(|| {
            format!("adopt.{}.id: is not set, and without an id it is unknown which rows have an event already", self.table)
        })
    }
}

const HELPERS: [&str; 4] = [
    include_str!("../sql/create_adopted_object.sql"),
    include_str!("../sql/create_adopted_bytes.sql"),
    include_str!("../sql/create_adopted_headers.sql"),
    include_str!("../sql/create_adopted_id.sql"),
];

fn drop_function(outbox: &str, function: &str) -> String {
    let function = format!("{}.{}", quoted(outbox), quoted(function));
    statement(include_str!("../sql/drop_adoption.sql"), &[("{function}", function)])
}

fn check_kind(found: &FoundTable) -> Result<(), String> {
    match (found.kind.as_str(), found.is_partition) {
        (_, true) => Err("is a partition; adopt the table that it is part of".to_owned()),
        ("r" | "p", _) => Ok(()),
        ("v" | "m", _) => Err("is a view; adopt the table behind it".to_owned()),
        _ => Err("is no table that a trigger can be put on".to_owned()),
    }
}

fn state(triggers: &[FoundTrigger], function: &str, body: &str, how: CopyHow) -> AdoptionState {
    let Some(found) = triggers.iter().find(|trigger| trigger.function == function) else {
        return if triggers.is_empty() { AdoptionState::Missing } else { AdoptionState::Outdated };
    };
    if !found.is_on {
        return AdoptionState::SwitchedOff { trigger: found.trigger.clone() };
    }
    let fires_right = (found.is_row, found.is_deferred) == (how != CopyHow::Statement, how == CopyHow::Commit);
    let is_right = found.body == body && found.is_definer && fires_right;
    if is_right { AdoptionState::AsConfigured } else { AdoptionState::Outdated }
}

fn body(outbox: &str, expressions: &Expressions, how: CopyHow) -> String {
    let rows = if how == CopyHow::Statement { "inserted" } else { "(select new.*)" };
    let insert = record(outbox, expressions, rows, "");
    format!("\n-- outboxd adoption {VERSION}\nbegin\n{insert};\nreturn null;\nend\n")
}

fn copy(outbox: &str, adoption: &Adoption, expressions: &Expressions) -> String {
    let condition = condition(adoption);
    // By a join and not by the conflict of every single row: writers wait while the rest is looked for.
    let is_new = match &expressions.id {
        Some(id) if expressions.is_uuid => {
            format!("\n   and not exists (select from {}.events e where e.id = {id})", quoted(outbox))
        }
        _ => String::new(),
    };
    let rest = format!("\n where {condition}{is_new}\n order by {}", expressions.order);
    record(outbox, expressions, &qualified(&adoption.table), &rest)
}

fn condition(adoption: &Adoption) -> String {
    adoption.existing.as_ref().map_or_else(|| "true".to_owned(), |text| format!("({text})"))
}

fn ask_for_id(adoption: &Adoption, expressions: &Expressions) -> Option<String> {
    let names = [("{table}", qualified(&adoption.table)), ("{condition}", condition(adoption)), ("{id}", expressions.id.clone()?)];
    Some(statement(include_str!("../sql/has_rows_without_id.sql"), &names))
}

fn record(outbox: &str, expressions: &Expressions, rows: &str, rest: &str) -> String {
    let names = [
        ("{events}", format!("{}.events", quoted(outbox))),
        ("{columns}", expressions.columns.clone()),
        ("{values}", expressions.values.clone()),
        ("{rows}", rows.to_owned()),
        ("{rest}", rest.to_owned()),
    ];
    statement(include_str!("../sql/record_adopted.sql"), &names)
}
