//! The way of a request: host, identity, origin, route, role, screen. Every check is here and nowhere else, in this order, for pages, files and the
//! API alike. Decides by the table of routes, never by what a page shows.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::access::{Identity, LoggedIn, Peer, Proof, Rules, host, origin};
use super::answer::{Answer, Trouble, count, guarded, page, plain, see_other};
use super::ask::{Ask, Fields};
use super::html::{Frame, failure, login};
use super::links::{Links, with_query};
use super::routes::{Found, Route, find};
use super::{Console, assets};
use crate::management::Problem;
use crate::operations::{Caller, Via};
use crate::telemetry::ConsoleAnswer;

/// More than a form has that holds an edited payload with its escapes.
const MOST_FORM_BYTES: usize = 256 * 1024;
/// For the body of a form.
const READING: Duration = Duration::from_secs(15);
/// For a page; its statements are bounded by themselves.
const LOOKING: Duration = Duration::from_secs(30);
/// For an act, which may be about very many deliveries.
const ACTING: Duration = Duration::from_secs(300);

const API: &str = "api/v1";

/// What is known of a request once it has passed the checks that need no table.
struct Visit<'r> {
    rules: &'r Arc<Rules>,
    peer: Peer,
    /// Below the front page, without a slash in front.
    path: &'r str,
    links: Links,
    identity: Identity,
}

impl Console {
    /// Answers one request, whatever it is.
    pub(super) async fn answer(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let metrics = self.metrics.clone();
        let response = guarded(self.pass(peer, request).await);
        metrics.answered(count(&response));
        response
    }

    async fn pass(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let rules = self.access.rules();
        let whole = parts.uri.path().to_owned();
        let path = self.below(&whole);
        let is_api = path.is_some_and(is_api);
        let Some(authority) = host::authority(&parts).filter(|authority| host::is_ours(authority, &rules.hosts)) else {
            return if is_api { problem(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED) } else { misdirected() };
        };
        let Some(path) = path else {
            // Relative addresses of the front page need the slash at its end.
            return see_other(&format!("./{}/", self.path.rsplit('/').next().unwrap_or_default()));
        };
        if let Some(file) = assets::find(&parts.method, path) {
            return file;
        }
        let via = if is_api { Via::Api } else { Via::Console };
        let identity = self.access.identify(&rules, peer, &parts.headers, via);
        let is_safe = matches!(parts.method, Method::GET | Method::HEAD);
        let has_bearer = matches!(identity, Identity::Known(_, Proof::Bearer));
        let visit = Visit { rules: &rules, peer, path, links: Links::new(path.split('/').count()), identity };
        // A program without a token is told that it needs one; nothing can be changed for it.
        if is_api && !visit.is_known() {
            return visit.unknown(&parts);
        }
        if !is_safe && !has_bearer && !origin::is_same(&parts.headers, authority) {
            let mut response = visit.refused(StatusCode::FORBIDDEN, CROSS_SITE);
            response.extensions_mut().insert(ConsoleAnswer::CrossSite);
            return response;
        }
        if is_api {
            return Arc::clone(&self).pass_to_api(&visit, parts, body).await;
        }
        match (path, &parts.method) {
            ("login", &(Method::GET | Method::HEAD)) => visit.login_page(StatusCode::OK, parts.uri.query(), None),
            ("login", &Method::POST) => self.log_in(&visit, &parts, body).await,
            ("logout", &Method::POST) => self.log_out(&visit, &parts),
            ("login" | "logout", _) => not_allowed(),
            _ => Arc::clone(&self).show(&visit, &parts, body).await,
        }
    }

    /// The path below the front page; a proxy may have taken the configured path away, or not. `None`: the front page without its slash.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.path.as_str()).filter(|_| !self.path.is_empty());
        match rest {
            Some("") => None,
            Some(rest) if rest.starts_with('/') => Some(&rest[1..]),
            _ => Some(path.strip_prefix('/').unwrap_or(path)),
        }
    }

    async fn show(self: Arc<Self>, visit: &Visit<'_>, parts: &Parts, body: Incoming) -> Response<Body> {
        let (route, parameters) = match find(&parts.method, visit.path) {
            Found::Route(route, parameters) => (route, parameters),
            // An unknown caller does not learn which pages exist.
            _ if !visit.is_known() => return visit.unknown(parts),
            Found::OtherMethod => return not_allowed(),
            Found::Nothing => {
                return visit.refused(StatusCode::NOT_FOUND, "there is no such page");
            }
        };
        let caller = match &visit.identity {
            Identity::Known(caller, _) => caller.clone(),
            _ => return visit.unknown(parts),
        };
        if let Some(why) = refusal(route, &caller) {
            return visit.refused(StatusCode::FORBIDDEN, &why);
        }
        let form = match read_form(parts, body).await {
            Ok(form) => form,
            Err((status, why)) => return visit.refused(status, why),
        };
        let mut ask = Ask::new(self, Arc::clone(visit.rules), caller, visit.links.clone());
        (ask.parameters, ask.query, ask.form) = (parameters, Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()), form);
        let bound = if route.method == Method::GET { LOOKING } else { ACTING };
        match tokio::time::timeout(bound, (route.screen)(&ask)).await {
            Ok(Ok(Answer::Page(markup))) => page(StatusCode::OK, markup),
            Ok(Ok(Answer::SeeOther(to))) => see_other(&to),
            Ok(Err(trouble)) => visit.failed(&trouble),
            Err(_) => visit.refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "the answer of the database took too long; try again, or narrow the filter",
            ),
        }
    }

    async fn log_in(&self, visit: &Visit<'_>, parts: &Parts, body: Incoming) -> Response<Body> {
        let form = match read_form(parts, body).await {
            Ok(form) => form,
            Err((status, why)) => return visit.refused(status, why),
        };
        let next = form.get("next").filter(|next| is_page(next)).unwrap_or_default().to_owned();
        let token = form.get("token").unwrap_or_default();
        let query = with_query("", &[("next", &next)]);
        match self.access.log_in(visit.rules, visit.peer, token) {
            LoggedIn::Yes(session) => {
                let cookie = self.access.set_cookie(visit.rules, visit.peer, &parts.headers, Some(&session));
                with_cookie(see_other(&visit.links.to(&next)), &cookie)
            }
            LoggedIn::No => {
                visit.login_page(StatusCode::UNAUTHORIZED, query.strip_prefix('?'), Some("This is not a token of this console."))
            }
            LoggedIn::Limited(wait) => {
                let text = format!("Too many wrong tokens came from your address. Try again in {} seconds.", wait.as_secs() + 1);
                retry_after(visit.login_page(StatusCode::TOO_MANY_REQUESTS, query.strip_prefix('?'), Some(&text)), wait)
            }
        }
    }

    fn log_out(&self, visit: &Visit<'_>, parts: &Parts) -> Response<Body> {
        self.access.log_out(&parts.headers);
        with_cookie(see_other(&visit.links.to("login")), &self.access.set_cookie(visit.rules, visit.peer, &parts.headers, None))
    }

    /// The API decides by its own table what this caller may; it is told who asks.
    async fn pass_to_api(self: Arc<Self>, visit: &Visit<'_>, mut parts: Parts, body: Incoming) -> Response<Body> {
        let Identity::Known(caller, _) = &visit.identity else { return visit.unknown(&parts) };
        // As if nothing stood before it.
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let Ok(uri) = format!("{}{query}", visit.path.strip_prefix(API).unwrap_or_default()).parse() else {
            return problem(StatusCode::NOT_FOUND, "the path is not one");
        };
        parts.uri = uri;
        parts.extensions.insert(caller.clone());
        let answered = TowerToHyperService::new(self.api()).call(Request::from_parts(parts, body));
        match tokio::time::timeout(ACTING, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long"),
        }
    }
}

impl Visit<'_> {
    fn is_known(&self) -> bool {
        matches!(self.identity, Identity::Known(..))
    }

    fn frame(&self) -> Frame<'_> {
        let caller = match &self.identity {
            Identity::Known(caller, _) => Some(caller),
            _ => None,
        };
        Frame { links: &self.links, caller, can_log_in: self.rules.has_tokens() }
    }

    fn is_api(&self) -> bool {
        is_api(self.path)
    }

    fn refused(&self, status: StatusCode, why: &str) -> Response<Body> {
        if self.is_api() { problem(status, why) } else { page(status, failure(&self.frame(), status, &[why.to_owned()], None)) }
    }

    fn failed(&self, trouble: &Trouble) -> Response<Body> {
        page(trouble.status(), failure(&self.frame(), trouble.status(), &trouble.texts(), trouble.command()))
    }

    fn login_page(&self, status: StatusCode, query: Option<&str>, note: Option<&str>) -> Response<Body> {
        if !self.rules.has_tokens() {
            return self.refused(StatusCode::NOT_FOUND, "this console has no tokens, so there is nothing to log in with");
        }
        let query = Fields::parse(query.unwrap_or_default().as_bytes());
        let next = query.get("next").filter(|next| is_page(next)).unwrap_or_default();
        page(status, login(&self.frame(), next, note))
    }

    /// For an unknown caller: the log-in page, if a browser requests a page.
    fn unknown(&self, parts: &Parts) -> Response<Body> {
        let (status, why) = match &self.identity {
            Identity::Limited(wait) => {
                let refused = self
                    .refused(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from your address; try again in a minute");
                return retry_after(refused, *wait);
            }
            Identity::Refused(why) => (StatusCode::UNAUTHORIZED, *why),
            _ => (StatusCode::UNAUTHORIZED, "this needs a token: send it as Authorization: Bearer, or log in"),
        };
        let is_page = parts.method == Method::GET && !self.is_api();
        if is_page && self.rules.has_tokens() && matches!(self.identity, Identity::Unknown) {
            let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            return see_other(&self.links.query("login", &[("next", &format!("{}{query}", self.path))]));
        }
        let mut response = self.refused(status, why);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

/// Why this caller may not; `None`: it may.
fn refusal(route: &Route, caller: &Caller) -> Option<String> {
    if caller.role < route.role {
        return Some(format!("this takes the role \"{}\"; {} has \"{}\"", route.role.name(), caller.name, caller.role.name()));
    }
    (route.needs_payload && !caller.sees_payloads)
        .then(|| format!("{} may not see payloads and headers; that is a right of its own, whatever the role", caller.name))
}

/// Whether a text leads to a page of ours, and nowhere else.
fn is_page(next: &str) -> bool {
    let path = next.split('?').next().unwrap_or_default();
    let is_plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#');
    is_plain && !path.contains(':') && matches!(find(&Method::GET, path), Found::Route(..))
}

async fn read_form(parts: &Parts, body: Incoming) -> Result<Fields, (StatusCode, &'static str)> {
    if parts.method != Method::POST {
        return Ok(Fields::default());
    }
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected a form (application/x-www-form-urlencoded)"));
    }
    match tokio::time::timeout(READING, Limited::new(body, MOST_FORM_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(Fields::parse(&collected.to_bytes())),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the form could not be read as a whole; it may have 256 KiB")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the form did not come")),
    }
}

const CROSS_SITE: &str = "this change was not asked for by a page of this console, so nothing was changed: your browser told another origin, or \
                          none; a program sends its token as Authorization: Bearer";

const MISDIRECTED: &str =
    "this host is not one of this console; reach it by its IP address or as localhost, or add the name to console.hosts";

/// Whether a path below the front page is one of the API.
fn is_api(path: &str) -> bool {
    path.strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn misdirected() -> Response<Body> {
    plain(StatusCode::MISDIRECTED_REQUEST, MISDIRECTED)
}

fn not_allowed() -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this address does not take the method");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

/// What this door refuses of the API, in the form of the API.
fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not-found",
        StatusCode::MISDIRECTED_REQUEST => "misdirected",
        StatusCode::TOO_MANY_REQUESTS => "rate-limited",
        StatusCode::SERVICE_UNAVAILABLE => "too-slow",
        _ => "failed",
    };
    Problem::new(kind, detail).into_response()
}

fn with_cookie(mut response: Response<Body>, cookie: &str) -> Response<Body> {
    let cookie = HeaderValue::from_str(cookie).expect("a signed statement is made of plain letters");
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

fn retry_after(mut response: Response<Body>, wait: Duration) -> Response<Body> {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_login_only_pages_of_ours_come_next() {
        for next in ["", "?x=1"] {
            assert!(is_page(next), "{next}");
        }
        for next in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "../x",
            "nowhere",
            "e/1#x",
            " ",
            "\n",
        ] {
            assert!(!is_page(next), "{next}");
        }
    }
}
