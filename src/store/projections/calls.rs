//! Calling what a projection consists of: a function in the database, or code of the program, for several events in one savepoint. A call that
//! fails takes everything back that was done since the savepoint.
//! Never decides what follows; an error of this module means that the session is of no use any more.

use sqlx::postgres::PgQueryResult;
use sqlx::{AssertSqlSafe, PgConnection};

use super::super::functions::{check_absence, enter, leave, quoted, quoted_name, rendered};
use super::super::session::execute;
use super::super::{Argument, FunctionCall, StoreError};
use crate::domain::Verdict;

/// Calls the function for every event, in order of `seq`, in one statement.
pub async fn call_function(
    connection: &mut PgConnection,
    call: &FunctionCall<'_>,
    arguments: &[Argument],
    is_replaying: bool,
) -> Result<Verdict, StoreError> {
    if let Err(refused) = enter(connection, call).await? {
        return Ok(refused);
    }
    let statement = include_str!("../sql/project_events.sql")
        .replace("{function}", &quoted_name(call.function))
        .replace("{schema}", &quoted(call.session.schema()));
    let seqs: Vec<i64> = arguments.iter().map(|argument| argument.seq).collect();
    let called = sqlx::query(AssertSqlSafe(statement))
        .bind(&seqs)
        .bind(arguments.iter().map(|argument| argument.key.clone()).collect::<Vec<_>>())
        .bind(rendered(arguments, |rendered| &rendered.payload))
        .bind(rendered(arguments, |rendered| &rendered.headers))
        .bind(is_replaying)
        .execute(&mut *connection)
        .await;
    let calls = called.as_ref().map_or(0, PgQueryResult::rows_affected);
    if let Some(failure) = leave(connection, call, called).await? {
        return Ok(failure.end().verdict());
    }
    if calls < arguments.len() as u64 {
        check_absence(connection, &seqs, calls).await?;
    }
    Ok(Verdict::delivered())
}

/// Opens the savepoint in which code of the program uses the session. The verdict says why it could not be opened.
pub async fn begin_calls(connection: &mut PgConnection, call: &FunctionCall<'_>) -> Result<Verdict, StoreError> {
    Ok(enter(connection, call).await?.err().unwrap_or_else(Verdict::delivered))
}

/// Ends the savepoint. `failed`: why the code did not take its events; then none of its changes stay. Constraints that it has deferred to the commit
/// is checked now.
pub async fn end_calls(
    connection: &mut PgConnection,
    call: &FunctionCall<'_>,
    failed: Option<Verdict>,
) -> Result<Verdict, StoreError> {
    if let Some(verdict) = failed {
        let undo = "rollback to savepoint event; release savepoint event";
        return match execute(connection, undo).await {
            Ok(()) => Ok(verdict),
            Err(cause) => Err(StoreError::query("take back what the projection did")(cause)),
        };
    }
    let left = leave(connection, call, Ok(PgQueryResult::default())).await?;
    Ok(left.map_or_else(Verdict::delivered, |failure| failure.end().verdict()))
}
