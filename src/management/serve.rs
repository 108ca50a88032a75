//! Makes a router of the table of routes. The common steps of all routes are here: the caller, its rights, the fields of the request, and
//! the form of the answer.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Extension, FromRequestParts, RawPathParams, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use serde_json::value::RawValue;

use super::answer::Answer;
use super::field::Input;
use super::problem::Problem;
use super::state::ApiState;
use super::table::{ROUTES, Route, Verb, decide};
use crate::operations::Caller;

/// Bytes of a body, at most.
const MOST_BYTES: usize = 64 * 1024;

/// A request that was understood, and that its caller may make.
#[derive(Debug)]
pub struct Call {
    pub caller: Caller,
    pub input: Input,
    /// The query as it was given, which a cursor is bound to.
    pub query: Vec<(String, String)>,
}

/// The routes of the table. The layer above mounts them at `/api/v1` and puts a [`Caller`] into the extensions of every request; without one
/// every request is refused.
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let serve = move |State(state): State<ApiState>, request: Request| serve(route, state, request);
        router = router.route(route.path, on(route.verb.filter(), serve));
    }
    router.fallback(not_found).method_not_allowed_fallback(wrong_method).layer(map_response(harden)).with_state(state)
}

async fn serve(route: &'static Route, state: ApiState, request: Request) -> Response {
    let headers = request.headers().clone();
    match answer(route, state, request).await {
        Ok(answer) => answer.respond(route.verb == Verb::Get, &headers),
        Err(problem) => problem.into_response(),
    }
}

async fn answer(route: &'static Route, state: ApiState, request: Request) -> Result<Answer, Problem> {
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(Problem::unauthorized)?;
    // Before anything of the request is read: who may not do it learns nothing of whether it would have worked.
    decide(&caller, route.access)?;
    let call = understand(route, caller, request).await?;
    let answer = (route.handler)(state.clone(), call).await;
    if route.verb != Verb::Get {
        state.forget();
    }
    answer
}

async fn understand(route: &'static Route, caller: Caller, request: Request) -> Result<Call, Problem> {
    let (mut parts, body) = request.into_parts();
    let mut input = Input::default();
    let places = RawPathParams::from_request_parts(&mut parts, &()).await;
    let places = places.map_err(|_| Problem::not_found(parts.uri.path()))?;
    let places: Vec<(String, String)> = places.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    input.add_texts("path", route.places, &places);
    let query = read_query(parts.uri.query().unwrap_or_default());
    input.add_texts("query", route.query, &query);
    if route.verb != Verb::Get {
        let bytes = to_bytes(body, MOST_BYTES).await;
        let bytes = bytes.map_err(|_| Problem::new("too-large", format!("a body has at most {MOST_BYTES} bytes")))?;
        let members = read_body(&parts.headers, &bytes)?;
        input.add_members(route.body, &members);
    }
    Ok(Call { caller, input, query })
}

fn read_query(text: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn read_body(headers: &HeaderMap, bytes: &[u8]) -> Result<BTreeMap<String, Box<RawValue>>, Problem> {
    if bytes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new("wrong-content-type", "send the body with Content-Type: application/json"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // The parser says where; it quotes nothing but names of ours.
        Problem::new("invalid-request", format!("the body is no JSON object: {error}"))
    })
}

impl Call {
    /// All mistakes of the request at once, those included that were found by now.
    pub fn check(&mut self) -> Result<(), Problem> {
        let mistakes = std::mem::take(&mut self.input.mistakes);
        if mistakes.is_empty() { Ok(()) } else { Err(Problem::invalid(mistakes)) }
    }
}

impl Verb {
    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
        }
    }
}

async fn not_found(caller: Option<Extension<Caller>>, request: Request) -> Problem {
    if caller.is_none() {
        return Problem::unauthorized();
    }
    Problem::not_found(request.uri().path())
}

async fn wrong_method(caller: Option<Extension<Caller>>, request: Request) -> Problem {
    if caller.is_none() {
        return Problem::unauthorized();
    }
    let path = request.uri().path();
    // `HEAD` is answered where `GET` is.
    let verbs = ROUTES.iter().filter(|route| fits(route.path, path)).map(|route| route.verb.name());
    let allowed =
        verbs.flat_map(|verb| if verb == "GET" { vec!["GET", "HEAD"] } else { vec![verb] }).collect::<Vec<_>>().join(", ");
    Problem::new("wrong-method", format!("this address takes {allowed}")).header("allow", allowed)
}

/// Whether an address is one of a route. The router was mounted below a prefix, which the address here has lost.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
}

/// An answer for one caller must not be cached for another, and a browser must not guess its type.
async fn harden(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().append(VARY, HeaderValue::from_static("Authorization, Cookie"));
    response
}
