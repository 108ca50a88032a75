//! Why a request was not answered as wished: problem details as RFC 9457 defines them, with the command line that helps and all mistakes of the
//! request at once.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tracing::error;

use super::field::Mistake;
use super::table::Access;
use crate::operations::{Caller, OperationError, RefusalKind};
use crate::store::StoreError;
use crate::telemetry::chain;

/// A problem, ready to be sent.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    /// The last part of its type, for programs.
    kind: &'static str,
    title: &'static str,
    detail: String,
    command: Option<String>,
    errors: Vec<Mistake>,
    further: Map<String, Value>,
    header: Option<(&'static str, String)>,
}

/// Every kind of problem with its status and title.
pub const KINDS: &[(&str, u16, &str)] = &[
    ("invalid-request", 400, "The request is not understood"),
    ("unauthorized", 401, "No caller is known"),
    ("forbidden", 403, "The caller may not do this"),
    ("not-found", 404, "There is nothing of this name"),
    ("wrong-method", 405, "This address takes another method"),
    ("drifted", 409, "Another number matches now"),
    ("conflict", 409, "The state does not allow this"),
    ("taken", 409, "The id is taken"),
    ("too-large", 413, "The body is too large"),
    ("wrong-content-type", 415, "The body is no JSON"),
    ("misdirected", 421, "The host is not one of this console"),
    ("refused", 422, "The request is refused"),
    ("rate-limited", 429, "Too many wrong tokens"),
    ("failed", 500, "The operation failed"),
    ("unavailable", 503, "The database is not available"),
    ("too-slow", 503, "The database took too long"),
];

impl Problem {
    /// A problem of one of the [`KINDS`].
    pub fn new(kind: &'static str, detail: impl Into<String>) -> Self {
        let (_, status, title) = KINDS.iter().find(|(known, ..)| *known == kind).expect("the kind of a problem is declared");
        let status = StatusCode::from_u16(*status).expect("a declared status is one");
        let (errors, further) = (Vec::new(), Map::new());
        Self(Box::new(Parts { status, kind, title, detail: detail.into(), command: None, errors, further, header: None }))
    }

    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.0.command = Some(command.into());
        self
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.further.insert(name.to_owned(), value);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.header = Some((name, value.into()));
        self
    }

    pub fn invalid(errors: Vec<Mistake>) -> Self {
        let count = errors.len();
        let detail = if count == 1 { "one field is wrong".to_owned() } else { format!("{count} fields are wrong") };
        let mut problem = Self::new("invalid-request", detail);
        problem.0.errors = errors;
        problem
    }

    pub fn unauthorized() -> Self {
        Self::new("unauthorized", "send Authorization: Bearer <token>, with a token of the configuration")
            .header("www-authenticate", "Bearer")
    }

    pub fn forbidden(caller: &Caller, access: Access) -> Self {
        let needed = if access.needs_payloads { " and the right to see payloads" } else { "" };
        let detail =
            format!("this needs the role {}{needed}; {} has the role {}", access.role.name(), caller.name, caller.role.name());
        Self::new("forbidden", detail)
    }

    pub fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::new("not-found", format!("there is no {shown}; /api/v1/openapi.json lists what there is"))
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let refusal = match error {
            OperationError::Store(error) => return error.into(),
            OperationError::Refused(refusal) => refusal,
        };
        let kind = match refusal.kind {
            RefusalKind::UnknownHandler | RefusalKind::UnknownAlert | RefusalKind::NotFound => "not-found",
            RefusalKind::NotNow => "conflict",
            RefusalKind::Taken => "taken",
            RefusalKind::NeedsForce | RefusalKind::Invalid => "refused",
        };
        // The words are those of the CLI, where force is an option.
        let detail =
            refusal.text.replace("add --force", "say \"force\": true").replace("--force delivers", "\"force\": true delivers");
        let mut problem = Self::new(kind, detail);
        problem.0.command = refusal.command;
        problem
    }
}

/// The message of the database goes to the log only: it may quote data that the caller may not see.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.sqlstate().as_deref() == Some("57014") {
            let detail =
                "the answer took longer than a request may; narrow the filter, or use the command line, which waits longer";
            return Self::new("too-slow", detail).command("outboxd status").header("retry-after", "5");
        }
        error!(error = %chain(&error), "a request of the management API failed");
        if error.is_transient() {
            return Self::new("unavailable", "the database does not answer; try again")
                .command("outboxd check --connect")
                .header("retry-after", "2");
        }
        if error.is_about_data() {
            return Self::new("refused", "the database refuses a value of the request; the log says which")
                .command("outboxd doctor");
        }
        Self::new("failed", "the database refused the operation; the log says why").command("outboxd doctor")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Parts { status, kind, title, detail, command, errors, further, header } = *self.0;
        let mut body = Map::from_iter([
            ("type".to_owned(), json!(format!("urn:outboxd:{kind}"))),
            ("title".to_owned(), json!(title)),
            ("status".to_owned(), json!(status.as_u16())),
            ("detail".to_owned(), json!(detail)),
        ]);
        if let Some(command) = command {
            body.insert("command".to_owned(), json!(command));
        }
        if !errors.is_empty() {
            body.insert("errors".to_owned(), json!(errors));
        }
        body.extend(further);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let header = header.and_then(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)));
        headers.extend(header.map(|(name, value)| (Some(name), value)));
        (status, headers, format!("{}\n", Value::Object(body))).into_response()
    }
}
