//! Whether a change was asked for by a page of ours. Browsers add a cookie, and proxies an identity, to whatever another site has them send
//! (cross-site request forgery); what tells the two apart is what the browser says of the origin.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, ORIGIN};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `Sec-Fetch-Site` decides. Browsers leave it out over plain HTTP except on localhost; then `Origin` must be the host. Without both the
/// request is refused: a program that is no browser sends a token and is not asked.
pub fn is_same(headers: &HeaderMap, authority: &str) -> bool {
    match one(headers, &SEC_FETCH_SITE) {
        Said::Once(site) => site == "same-origin",
        Said::Unclear => false,
        Said::Nothing => match one(headers, &ORIGIN) {
            Said::Once(origin) => origin
                .split_once("://")
                .is_some_and(|(scheme, host)| matches!(scheme, "http" | "https") && host.eq_ignore_ascii_case(authority)),
            Said::Unclear | Said::Nothing => false,
        },
    }
}

enum Said<'a> {
    Nothing,
    Once(&'a str),
    /// Twice, or not in letters.
    Unclear,
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Said<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Said::Nothing,
        (Some(value), None) => value.to_str().map_or(Said::Unclear, Said::Once),
        (Some(_), Some(_)) => Said::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_comes_from_a_page_of_ours_or_is_refused() {
        let host = "127.0.0.1:9189";
        for (headers, want) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "null")], true),
            (vec![("origin", "http://127.0.0.1:9189")], true),
            (vec![("origin", "https://127.0.0.1:9189")], true),
            (vec![], false),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:9189")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "")], false),
            (vec![("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (vec![("origin", "null")], false),
            (vec![("origin", "http://127.0.0.1")], false),
            (vec![("origin", "http://evil.example")], false),
            (vec![("origin", "http://evil.example/127.0.0.1:9189")], false),
            (vec![("origin", "file://127.0.0.1:9189")], false),
            (vec![("origin", "127.0.0.1:9189")], false),
            (vec![("origin", "http://127.0.0.1:9189"), ("origin", "http://evil.example")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.append(HeaderName::from_static(name), value.parse().expect("a header"));
            }
            assert_eq!(is_same(&map, host), want, "{headers:?}");
        }
    }
}
