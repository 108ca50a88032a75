//! The kind `sql`: calls a function in the transaction that marks its events as handled, inside a savepoint. A call that fails
//! takes back its own effect, and its verdict says whether the event, the function or the time was to blame.
//!
//! - After an error of class 22 or 54 the payload alone is converted to `jsonb` in the same session. If that fails, no function
//!   with a `jsonb` parameter could ever be called for the event: `Permanent`, `unconvertible`. Otherwise the error is the
//!   function's.
//! - What the function deferred to the commit runs inside the savepoint of its call (`set constraints all immediate`), and the
//!   rollback of an inner savepoint defers it again. A commit that fails later would have a verdict for no event.
//! - Behind each call the settings of the session are restored (`store::session`).
//!
//! Never decides what follows. An error of this module means that the session is unusable. `relay::functions` has the turn around
//! the calls.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgQueryResult, PgSeverity};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::session::execute;
use super::{SessionSettings, StoreError, begin};
use crate::domain::{Notification, Reason, Verdict};

/// A function and how it may be called.
#[derive(Debug, Clone)]
pub struct FunctionCall<'a> {
    /// `name` or `schema.name`, unquoted.
    pub function: &'a str,
    /// Zero: no bound.
    pub statement_timeout: Duration,
    /// Zero: no bound.
    pub lock_timeout: Duration,
    pub role: Option<&'a str>,
    pub payload: PayloadType,
    /// The settings that the session gets again behind each call.
    pub session: &'a SessionSettings,
}

/// The type of the function's payload parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadType {
    #[default]
    Jsonb,
    /// As recorded, byte for byte: for a function whose parameter is `json`.
    Json,
}

impl PayloadType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonb => "jsonb",
            Self::Json => "json",
        }
    }
}

/// One event to call it for.
#[derive(Debug, Clone)]
pub struct Argument {
    pub seq: i64,
    pub key: Option<String>,
    /// It, or one before it in its key, has failed before.
    pub has_failed: bool,
    /// The form that its contract gives the event for this handler; `None`: as it is in the log.
    pub rendered: Option<Arc<Rendered>>,
    /// The event has no valid form for this handler: it is not called, and this is what came of it.
    pub refused: Option<Verdict>,
}

/// An event in the version that a handler is sent: JSON texts.
#[derive(Debug, Clone)]
pub struct Rendered {
    pub payload: String,
    pub headers: String,
}

/// How a call ended in a session that goes on.
#[derive(Debug)]
pub enum CallEnd {
    /// The function has run for every event.
    Done,
    /// It failed, and what it did is taken back. For several events the verdict is of one of them.
    Failed(Verdict),
    /// The server ended it at a timeout, its own or that of the call.
    TimedOut(Verdict),
    /// There is no such function with these parameters.
    Missing(Verdict),
}

impl CallEnd {
    /// The verdict about a single event.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Done => Verdict::delivered(),
            Self::Failed(verdict) | Self::TimedOut(verdict) | Self::Missing(verdict) => verdict,
        }
    }
}

/// Calls the function for every event, in order of `seq`, in one statement.
pub async fn call(connection: &mut PgConnection, call: &FunctionCall<'_>, arguments: &[Argument]) -> Result<CallEnd, StoreError> {
    if let Err(refused) = enter(connection, call).await? {
        return Ok(CallEnd::Failed(refused));
    }
    let statement = include_str!("sql/call_function.sql")
        .replace("{function}", &quoted_name(call.function))
        .replace("{schema}", &quoted(call.session.schema()))
        .replace("{payload}", call.payload.as_str());
    let seqs: Vec<i64> = arguments.iter().map(|argument| argument.seq).collect();
    let called = sqlx::query(AssertSqlSafe(statement))
        .bind(&seqs)
        .bind(arguments.iter().map(|argument| argument.key.clone()).collect::<Vec<_>>())
        .bind(rendered(arguments, |rendered| &rendered.payload))
        .bind(rendered(arguments, |rendered| &rendered.headers))
        .execute(&mut *connection)
        .await;
    let calls = called.as_ref().map_or(0, PgQueryResult::rows_affected);
    let Some(failure) = leave(connection, call, called).await? else {
        if calls < arguments.len() as u64 {
            check_absence(connection, &seqs, calls).await?;
        }
        return Ok(CallEnd::Done);
    };
    if let [argument] = arguments
        && failure.may_be_of_the_payload()
        && call.payload == PayloadType::Jsonb
        && let Some(refused) = check_payload(connection, call.session.schema(), argument).await?
    {
        return Ok(CallEnd::Failed(refused));
    }
    Ok(failure.end())
}

/// For each event what its contract makes of it, or nothing.
pub(super) fn rendered(arguments: &[Argument], part: fn(&Rendered) -> &String) -> Vec<Option<String>> {
    arguments.iter().map(|argument| argument.rendered.as_ref().map(|rendered| part(rendered).clone())).collect()
}

/// An event that was erased since it was read need not be handled. One that only the call did not see must not count as handled: the
/// function may see with the eyes of its own role, and this session with ours.
pub(super) async fn check_absence(connection: &mut PgConnection, seqs: &[i64], calls: u64) -> Result<(), StoreError> {
    let present: i64 = sqlx::query_scalar(include_str!("sql/count_events.sql"))
        .bind(seqs)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("look for events that the function was not called for"))?;
    if present.unsigned_abs() <= calls {
        return Ok(());
    }
    Err(StoreError::Refused(
        "the role that the function is called with does not see every event; it needs select on the events, and no row-level security \
         on them"
            .to_owned(),
    ))
}

/// Finds the type of the function's payload parameter. The function may have been replaced since it was last called.
pub async fn find_payload_type(connection: &mut PgConnection, function: &str) -> Result<PayloadType, StoreError> {
    let takes_json: bool = sqlx::query_scalar(include_str!("sql/takes_json.sql"))
        .bind(function)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("look at the parameters of the function"))?;
    Ok(if takes_json { PayloadType::Json } else { PayloadType::Jsonb })
}

/// Calls the function for an event that is not in the log, and takes everything back that it did, whatever it answered.
/// Constraints that are deferred to the commit are checked first, because there will be none.
pub async fn try_function(pool: &PgPool, call: &FunctionCall<'_>, notification: &Notification) -> Result<Verdict, StoreError> {
    let mut transaction = begin(pool).await?;
    let payload = find_payload_type(&mut transaction, call.function).await?;
    if let Err(refused) = enter(&mut transaction, call).await? {
        return Ok(refused);
    }
    let statement = include_str!("sql/try_function.sql")
        .replace("{function}", &quoted_name(call.function))
        .replace("{payload}", payload.as_str());
    let called = sqlx::query(AssertSqlSafe(statement))
        .bind(notification.id)
        .bind(&notification.event_type)
        .bind(&notification.key)
        .bind(&notification.payload)
        .bind(&notification.headers)
        .execute(&mut *transaction)
        .await;
    let verdict = match leave(&mut transaction, call, called).await? {
        None => Verdict::delivered(),
        Some(failure) if failure.may_be_of_the_payload() && payload == PayloadType::Jsonb => {
            let converted = sqlx::query(include_str!("sql/convert_text.sql")).bind(&notification.payload);
            refusal(converted.execute(&mut *transaction).await)?.unwrap_or_else(|| failure.end().verdict())
        }
        Some(failure) => failure.end().verdict(),
    };
    transaction.rollback().await.map_err(StoreError::query("take back what the function did"))?;
    Ok(verdict)
}

/// Why the payload of an event is not a `jsonb`, if it is not: then no function that takes one can ever be called for it. The savepoint
/// around the look is gone in both cases.
async fn check_payload(connection: &mut PgConnection, schema: &str, argument: &Argument) -> Result<Option<Verdict>, StoreError> {
    let error = || StoreError::query("look at the payload");
    execute(connection, "savepoint event").await.map_err(error())?;
    let statement = include_str!("sql/convert_payload.sql").replace("{schema}", &quoted(schema));
    let converted = match &argument.rendered {
        Some(rendered) => sqlx::query(include_str!("sql/convert_text.sql")).bind(&rendered.payload).execute(&mut *connection).await,
        None => sqlx::query(AssertSqlSafe(statement)).bind(argument.seq).execute(&mut *connection).await,
    };
    let refused = refusal(converted)?;
    execute(connection, UNDO).await.map_err(error())?;
    Ok(refused)
}

/// A conversion to `jsonb` that failed because of what is converted.
fn refusal(converted: Result<PgQueryResult, sqlx::Error>) -> Result<Option<Verdict>, StoreError> {
    match converted {
        Err(sqlx::Error::Database(database)) if is_of_the_data(database.downcast_ref::<PgDatabaseError>().code()) => {
            let detail = format!("the payload cannot be converted to jsonb: {}", described(database.downcast_ref()));
            Ok(Some(Verdict::permanent(Reason::Unconvertible, detail)))
        }
        Err(sqlx::Error::Database(_)) | Ok(_) => Ok(None),
        Err(cause) => Err(StoreError::query("look at the payload")(cause)),
    }
}

/// The error of a call.
pub(super) struct Failure {
    code: String,
    verdict: Verdict,
}

impl Failure {
    fn of(error: &PgDatabaseError) -> Self {
        Self { code: error.code().to_owned(), verdict: classify(error) }
    }

    fn may_be_of_the_payload(&self) -> bool {
        is_of_the_data(&self.code)
    }

    pub fn end(self) -> CallEnd {
        match self.code.as_str() {
            QUERY_CANCELED | LOCK_NOT_AVAILABLE => CallEnd::TimedOut(self.verdict),
            UNDEFINED_FUNCTION => CallEnd::Missing(self.verdict),
            _ => CallEnd::Failed(self.verdict),
        }
    }
}

const QUERY_CANCELED: &str = "57014";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const UNDEFINED_FUNCTION: &str = "42883";

fn is_fatal(error: &PgDatabaseError) -> bool {
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Data exceptions (22), and what is too large or nested too deeply (54).
fn is_of_the_data(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("54")
}

/// Opens the savepoint of a call. Settings made inside it leave with it when it is rolled back; after a success they are put back by
/// [`leave`]. `Err`: the server refuses the role, and the savepoint is gone.
pub(super) async fn enter(connection: &mut PgConnection, call: &FunctionCall<'_>) -> Result<Result<(), Verdict>, StoreError> {
    let error = || StoreError::query("prepare the call of the function");
    let role = call.role.map_or_else(String::new, |role| format!("; set local role {}", quoted(role)));
    // The function must not find our tables under the names of its own: it gets the search_path that a plain session has. And it sees
    // the rows of its own tables that its role may see, where our session would fail.
    let statements = format!(
        "savepoint event; set local search_path = \"$user\", public; set local row_security = on; \
         set local statement_timeout = {}; set local lock_timeout = {}{role}",
        call.statement_timeout.as_millis(),
        call.lock_timeout.as_millis()
    );
    match execute(connection, &statements).await {
        Ok(()) => Ok(Ok(())),
        Err(sqlx::Error::Database(database)) if !is_fatal(database.downcast_ref()) => {
            execute(connection, UNDO).await.map_err(error())?;
            let reason = if database.code().as_deref() == Some("42501") { Reason::Unauthorized } else { Reason::Misconfigured };
            Ok(Err(Verdict::handler_fault(reason, described(database.downcast_ref()))))
        }
        Err(cause) => Err(error()(cause)),
    }
}

/// Ends the savepoint as the call did; `None`: all went well. Constraints that the function has deferred to the commit are checked now, while the
/// event that caused it is known, and then deferred again: a failed commit would have no verdict for any event.
pub(super) async fn leave(
    connection: &mut PgConnection,
    call: &FunctionCall<'_>,
    called: Result<PgQueryResult, sqlx::Error>,
) -> Result<Option<Failure>, StoreError> {
    let ended = match called {
        Ok(_) => execute(connection, &format!("{CHECK}; {}; release savepoint event", call.session.restore())).await,
        Err(cause) => Err(cause),
    };
    match ended {
        Ok(()) => Ok(None),
        // The end of a session comes as an error, too, and nothing can be rolled back in it any more.
        Err(sqlx::Error::Database(database)) if !is_fatal(database.downcast_ref()) => {
            let failure = Failure::of(database.downcast_ref());
            execute(connection, UNDO).await.map_err(StoreError::query("take back what the function did"))?;
            Ok(Some(failure))
        }
        Err(cause) => Err(StoreError::query("call the function")(cause)),
    }
}

const CHECK: &str = "savepoint deferred; set constraints all immediate; rollback to savepoint deferred";
const UNDO: &str = "rollback to savepoint event; release savepoint event";

pub(super) fn quoted_name(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The message and, where the server gives one, its detail.
fn described(error: &PgDatabaseError) -> String {
    error.detail().map_or_else(|| error.message().to_owned(), |detail| format!("{}: {detail}", error.message()))
}

/// The verdict for an error of the function. `OX001`: never again; `OX002` with a number of seconds as hint: not before.
fn classify(error: &PgDatabaseError) -> Verdict {
    let detail = error.message().to_owned();
    let code = error.code();
    match code {
        "OX001" => Verdict::permanent(Reason::Refused, detail),
        "OX002" => {
            let after = error.hint().and_then(|hint| hint.trim().parse::<f64>().ok());
            Verdict::retry(Reason::Refused, detail).not_before(after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
        }
        "40001" | "40P01" | LOCK_NOT_AVAILABLE => Verdict::retry(Reason::Conflict, detail),
        QUERY_CANCELED => Verdict::retry(Reason::Timeout, detail),
        UNDEFINED_FUNCTION | "42P01" | "3F000" | "42703" => Verdict::handler_fault(Reason::NotFound, detail),
        "42501" | "28000" => Verdict::handler_fault(Reason::Unauthorized, detail),
        // Memory and space for one statement: what this event needs and others do not.
        "53200" | "53400" => Verdict::retry(Reason::Database, detail),
        _ if code.starts_with("53") => Verdict::back_pressure(Reason::Database, None, detail),
        _ if code.starts_with("08") || code.starts_with("57P") => Verdict::retry(Reason::Database, detail),
        _ => Verdict::retry(Reason::Refused, detail),
    }
}
