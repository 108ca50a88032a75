//! The `sql` kind: functions called in the transaction that marks their events handled, inside savepoints.
//! A batch is tried as one statement first; only if something in it fails is it called event by event.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgQueryResult};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{StoreError, begin};
use crate::domain::{Notification, Reason, Verdict};

/// A function and how it may be called.
#[derive(Debug, Clone)]
pub struct FunctionCall<'a> {
    /// Schema of the outbox.
    pub schema: &'a str,
    /// `name` or `schema.name`, unquoted.
    pub function: &'a str,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    pub role: Option<&'a str>,
}

/// One event to call it for.
#[derive(Debug, Clone)]
pub struct Argument {
    pub seq: i64,
    pub key: Option<String>,
}

/// Calls the function for every event at once. `None`: something failed, nothing is done; call it one by one.
pub async fn call_batch(
    connection: &mut PgConnection,
    call: &FunctionCall<'_>,
    arguments: &[Argument],
) -> Result<Option<()>, StoreError> {
    match call_in_savepoint(connection, call, arguments).await? {
        Ok(()) => Ok(Some(())),
        Err(_) => Ok(None),
    }
}

/// Calls the function for one event.
pub async fn call_one(connection: &mut PgConnection, call: &FunctionCall<'_>, argument: &Argument) -> Result<Verdict, StoreError> {
    Ok(match call_in_savepoint(connection, call, std::slice::from_ref(argument)).await? {
        Ok(()) => Verdict::delivered(),
        Err(verdict) => verdict,
    })
}

async fn call_in_savepoint(
    connection: &mut PgConnection,
    call: &FunctionCall<'_>,
    arguments: &[Argument],
) -> Result<Result<(), Verdict>, StoreError> {
    // Settings made inside the savepoint leave with it when it is rolled back; after a success they are put back below.
    execute(connection, &enter(call)).await.map_err(StoreError::query("call the function"))?;
    let statement = include_str!("sql/call_function.sql")
        .replace("{function}", &quoted_name(call.function))
        .replace("{schema}", &quoted(call.schema));
    let called = sqlx::query(AssertSqlSafe(statement))
        .bind(arguments.iter().map(|argument| argument.seq).collect::<Vec<_>>())
        .bind(arguments.iter().map(|argument| argument.key.clone()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await;
    leave(connection, called).await
}

/// Calls the function for an event that is not in the log, and takes everything back that it did, whatever it answered.
/// What is deferred to the commit is checked first, because there will be none.
pub async fn try_function(pool: &PgPool, call: &FunctionCall<'_>, notification: &Notification) -> Result<Verdict, StoreError> {
    let error = || StoreError::query("call the function");
    let mut transaction = begin(pool).await?;
    execute(&mut transaction, &enter(call)).await.map_err(error())?;
    let statement = include_str!("sql/try_function.sql").replace("{function}", &quoted_name(call.function));
    let mut called = sqlx::query(AssertSqlSafe(statement))
        .bind(notification.id)
        .bind(&notification.event_type)
        .bind(&notification.key)
        .bind(&notification.payload)
        .bind(&notification.headers)
        .execute(&mut *transaction)
        .await;
    if called.is_ok() {
        called = sqlx::raw_sql("set constraints all immediate").execute(&mut *transaction).await;
    }
    let verdict = leave(&mut transaction, called).await?.err().unwrap_or_else(Verdict::delivered);
    transaction.rollback().await.map_err(StoreError::query("take back what the function did"))?;
    Ok(verdict)
}

/// Ends the savepoint as the call did.
async fn leave(
    connection: &mut PgConnection,
    called: Result<PgQueryResult, sqlx::Error>,
) -> Result<Result<(), Verdict>, StoreError> {
    let error = || StoreError::query("call the function");
    match called {
        Ok(_) => {
            execute(connection, LEAVE).await.map_err(error())?;
            Ok(Ok(()))
        }
        Err(sqlx::Error::Database(database)) => {
            let verdict = classify(database.downcast_ref());
            execute(connection, UNDO).await.map_err(error())?;
            Ok(Err(verdict))
        }
        Err(cause) => Err(error()(cause)),
    }
}

const LEAVE: &str = "set local role none; reset statement_timeout; reset lock_timeout; reset search_path; release savepoint event";
const UNDO: &str = "rollback to savepoint event; release savepoint event";

fn enter(call: &FunctionCall<'_>) -> String {
    let role = call.role.map_or_else(String::new, |role| format!("; set local role {}", quoted(role)));
    // The function must not find our tables under the names of its own: it gets the search_path that a plain session has.
    format!(
        "savepoint event; set local search_path = \"$user\", public; set local statement_timeout = {}; set local lock_timeout = {}{role}",
        call.statement_timeout.as_millis(),
        call.lock_timeout.as_millis()
    )
}

async fn execute(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.map(drop)
}

fn quoted_name(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What an error of the function means. `OX001`: never again; `OX002` with a number of seconds as hint: not before.
fn classify(error: &PgDatabaseError) -> Verdict {
    let detail = error.message().to_owned();
    let code = error.code();
    match code {
        "OX001" => Verdict::permanent(Reason::Refused, detail),
        "OX002" => {
            let after = error.hint().and_then(|hint| hint.trim().parse::<f64>().ok());
            Verdict::retry(Reason::Refused, detail).not_before(after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
        }
        "40001" | "40P01" | "55P03" => Verdict::retry(Reason::Conflict, detail),
        "57014" => Verdict::retry(Reason::Timeout, detail),
        "42883" | "42P01" | "3F000" | "42703" => Verdict::handler_fault(Reason::NotFound, detail),
        "42501" | "28000" => Verdict::handler_fault(Reason::Unauthorized, detail),
        _ if code.starts_with("53") => Verdict::back_pressure(Reason::Database, None, detail),
        _ if code.starts_with("08") || code.starts_with("57P") => Verdict::retry(Reason::Database, detail),
        _ => Verdict::retry(Reason::Refused, detail),
    }
}
