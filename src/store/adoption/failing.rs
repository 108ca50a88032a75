//! Whether an adoption trigger still works. After a column was renamed or dropped, changed its type, or a function was removed,
//! the trigger fails, and with it every insert of the application. Uses the planner and executes nothing.

use sqlx::{AssertSqlSafe, PgPool};

use super::super::{StoreError, begin};
use super::AdoptionState;
use super::table::{FoundTrigger, find_table};
use super::text::qualified;
use crate::domain::TableName;

/// The same state, or that the trigger fails. Looks only where something differs from the configuration.
pub(super) async fn doubt(
    pool: &PgPool,
    outbox: &str,
    table: &TableName,
    state: AdoptionState,
) -> Result<AdoptionState, StoreError> {
    let reasons = match &state {
        AdoptionState::Refused(reasons) => reasons.clone(),
        AdoptionState::AsConfigured | AdoptionState::Outdated | AdoptionState::Unconfigured => Vec::new(),
        AdoptionState::Missing | AdoptionState::SwitchedOff { .. } | AdoptionState::Failing { .. } => return Ok(state),
    };
    let Some(found) = find_table(pool, outbox, table).await? else { return Ok(state) };
    for trigger in found.triggers.iter().filter(|trigger| trigger.is_on) {
        if let Some(error) = failure(pool, table, trigger).await? {
            return Ok(AdoptionState::Failing { trigger: trigger.trigger.clone(), error, reasons });
        }
    }
    Ok(state)
}

/// The server's answer to the statement of a trigger, with the rows of the table in place of inserted ones.
async fn failure(pool: &PgPool, table: &TableName, trigger: &FoundTrigger) -> Result<Option<String>, StoreError> {
    let Some(statement) = statement_of(&trigger.body, table) else { return Ok(None) };
    // In a transaction that rolls back, only for the path that the function has.
    let mut transaction = begin(pool).await?;
    let path = sqlx::raw_sql(include_str!("../sql/set_trigger_path.sql")).execute(&mut *transaction).await;
    path.map_err(StoreError::query("take the path of the trigger"))?;
    let planned = sqlx::raw_sql(AssertSqlSafe(format!("explain {statement}"))).execute(&mut *transaction).await;
    match planned {
        Ok(_) => Ok(None),
        // Syntax or a name: every insert gets the same error. A missing right to look is no failure of the trigger.
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("42") && code != "42501") => {
            Ok(Some(error.message().to_owned()))
        }
        Err(sqlx::Error::Database(_)) => Ok(None),
        Err(other) => Err(StoreError::query("look whether the trigger works")(other)),
    }
}

/// The insert of a body of ours. `None`: the body is not ours.
fn statement_of(body: &str, table: &TableName) -> Option<String> {
    let inside = body.split_once("\nbegin\n")?.1.rsplit_once(";\nreturn null;\nend")?.0;
    let rows = ["from inserted as n", "from (select new.*) as n"].into_iter().find(|rows| inside.contains(rows))?;
    Some(inside.replacen(rows, &format!("from {} as n", qualified(table)), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_of_a_body_reads_the_table() {
        let table = TableName::of_catalogue("public".to_owned(), "T".to_owned());
        let body = "\n-- outboxd adoption 1\nbegin\ninsert into e (a)\nselect n.a\n  from inserted as n\n    on conflict do nothing;\nreturn null;\nend\n";
        let statement = statement_of(body, &table).expect("it is ours");
        assert!(statement.starts_with("insert into e (a)") && statement.contains("from \"public\".\"T\" as n"), "{statement}");
        assert_eq!(statement_of("begin return new; end", &table), None);
    }
}
