//! Every page and every act of the console, with the role that it takes. The table is the only source of both: a page that is not in it cannot be
//! reached, and access is decided by what stands here, in one place (`door`).

use axum::http::Method;
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;

use super::answer::{Answer, Trouble};
use super::ask::Ask;
use super::screens::*;
use crate::domain::Role;

/// A page, or an act.
pub struct Route {
    pub method: Method,
    /// Parts with `{}` for what may differ; the front page is the empty path.
    pub path: &'static str,
    pub role: Role,
    /// Whether it shows payloads or headers, which no role includes.
    pub needs_payload: bool,
    pub screen: Screen,
}

pub type Screen = for<'a> fn(&'a Ask) -> BoxFuture<'a, Result<Answer, Trouble>>;

macro_rules! routes {
    ($($method:ident $path:literal $role:ident $(+ $payload:ident)? => $($screen:ident)::+;)*) => {
        &[$(Route {
            method: Method::$method,
            path: $path,
            role: Role::$role,
            needs_payload: routes!(@ $($payload)?),
            screen: |ask| Box::pin($($screen)::+(ask)),
        },)*]
    };
    (@ payload) => { true };
    (@) => { false };
}

/// All of them.
pub const ROUTES: &[Route] = routes! {
    GET "" Read => front::show;
    GET "dead-letters" Read => letters::groups;
    GET "dead-letters/list" Read => letters::list;
    GET "dead-letters/discard" Operate => discard::show;
    POST "dead-letters/discard" Operate => discard::act;
    GET "dead-letters/note" Operate => discard::note_form;
    POST "dead-letters/note" Operate => discard::note;
    GET "replays" Read => replay::list;
    GET "replays/new" Operate => replay_new::show;
    POST "replays/new" Operate => replay_new::act;
    GET "replays/{}" Read => replay::show;
    GET "replays/{}/cancel" Operate => replay::cancel_form;
    POST "replays/{}/cancel" Operate => replay::cancel;
    GET "replays/{}/resume" Operate => replay::resume_form;
    POST "replays/{}/resume" Operate => replay::resume;
    GET "handlers/{}" Read => handler::show;
    GET "handlers/{}/pause" Operate => handler::pause_form;
    POST "handlers/{}/pause" Operate => handler::pause;
    GET "handlers/{}/resume" Operate => handler::resume_form;
    POST "handlers/{}/resume" Operate => handler::resume;
    GET "handlers/{}/close-circuit" Operate => handler::close_form;
    POST "handlers/{}/close-circuit" Operate => handler::close;
    GET "handlers/{}/test" Operate => handler::test_form;
    POST "handlers/{}/test" Operate => handler::test;
    GET "keys" Read => keys::show;
    GET "keys/skip" Operate => keys::skip_form;
    POST "keys/skip" Operate => keys::skip;
    GET "alerts" Read => alerts::list;
    GET "alerts/act" Operate => alerts::form;
    POST "alerts/ack" Operate => alerts::acknowledge;
    POST "alerts/snooze" Operate => alerts::snooze;
    GET "events" Read => events::list;
    GET "e/{}" Read => event::show;
    GET "e/{}/{}" Read => event::show;
    GET "e/{}/{}/edit" Operate + payload => edit::form;
    POST "e/{}/{}/edit" Operate + payload => edit::preview;
    POST "e/{}/{}/edit/record" Operate + payload => edit::record;
    GET "payloads/{}" Read + payload => event::payload;
    GET "tail" Read => tail::show;
    GET "map" Read => map::show;
    GET "handover" Read => handover::show;
    GET "audit" Read => audit::list;
    GET "doctor" Read => doctor::show;
};

/// The fields of a route, for checks from outside.
#[derive(Debug, Clone, Copy)]
pub struct RouteRule {
    pub method: &'static str,
    pub path: &'static str,
    pub role: Role,
    pub needs_payload: bool,
}

/// The rules of all routes.
pub fn route_rules() -> impl Iterator<Item = RouteRule> {
    ROUTES.iter().map(|route| RouteRule {
        method: route.method.as_str(),
        path: route.path,
        role: route.role,
        needs_payload: route.needs_payload,
    })
}

/// What was found for a path.
pub enum Found {
    Route(&'static Route, Vec<String>),
    /// The page is there, but nothing that this method could do.
    OtherMethod,
    Nothing,
}

/// Looks a path up; it has no slash in front. Every part is decoded by itself, so a slash in a name stays part of it.
pub fn find(method: &Method, path: &str) -> Found {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut is_known = false;
    for route in ROUTES {
        let Some(parameters) = matches(route.path, path) else { continue };
        if route.method == *method {
            return Found::Route(route, parameters);
        }
        is_known = true;
    }
    if is_known { Found::OtherMethod } else { Found::Nothing }
}

fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (wanted, given): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    if wanted.len() != given.len() {
        return None;
    }
    let mut parameters = Vec::new();
    for (wanted, given) in wanted.into_iter().zip(given) {
        match wanted {
            "{}" if given.is_empty() => return None,
            "{}" => parameters.push(percent_decode_str(given).decode_utf8().ok()?.into_owned()),
            wanted if wanted != given => return None,
            _ => {}
        }
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_as_it_is_written() {
        assert_eq!(matches("", ""), Some(vec![]));
        assert_eq!(matches("handlers/{}", "handlers/a%2Fb"), Some(vec!["a/b".to_owned()]));
        assert_eq!(matches("e/{}/{}", "e/1/%2e%2e"), Some(vec!["1".to_owned(), "..".to_owned()]));
        for path in
            ["handlers", "handlers/", "handlers//", "handlers/a/b", "/handlers/a", "HANDLERS/a", "handlers/%ff", "%68andlers/a"]
        {
            assert_eq!(matches("handlers/{}", path), None, "{path}");
        }
    }

    #[test]
    fn whatever_changes_something_is_a_post_and_takes_more_than_looking() {
        for route in ROUTES {
            assert!(route.method == Method::GET || route.method == Method::POST, "{}: a form knows no other method", route.path);
            assert!(route.method == Method::GET || route.role > Role::Read, "{}: readers change nothing", route.path);
        }
    }

    #[test]
    fn no_two_routes_answer_the_same_path() {
        for (place, one) in ROUTES.iter().enumerate() {
            for other in &ROUTES[place + 1..] {
                let is_same = one.method == other.method && matches(one.path, other.path).is_some() && !other.path.contains("{}");
                assert!(!is_same, "{} and {}", one.path, other.path);
            }
        }
    }
}
