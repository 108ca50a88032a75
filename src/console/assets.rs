//! The few files that pages need, in the binary. Their addresses contain a hash of what is in them, so a browser may keep them for ever.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};

/// A file and where it is served.
struct Asset {
    path: String,
    content_type: &'static str,
    content: &'static [u8],
}

static STYLES: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console", "css", "text/css; charset=utf-8", include_bytes!("assets/console.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console", "js", "text/javascript; charset=utf-8", include_bytes!("assets/console.js")));
static ICON: LazyLock<Asset> = LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_bytes!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, extension: &str, content_type: &'static str, content: &'static [u8]) -> Self {
        let hash: String = Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { path: format!("assets/{name}-{hash}.{extension}"), content_type, content }
    }
}

/// Paths from the front page.
pub fn styles() -> &'static str {
    &STYLES.path
}

pub fn script() -> &'static str {
    &SCRIPT.path
}

pub fn icon() -> &'static str {
    &ICON.path
}

/// The file at this path. No log-in is required: the log-in page needs these files, and they contain no data.
pub fn find(method: &Method, path: &str) -> Option<Response<Body>> {
    let asset = [&*STYLES, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path == path)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = Response::new(Body::from(asset.content));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_files_needs_what_the_policy_forbids() {
        let script = std::str::from_utf8(SCRIPT.content).expect("a text");
        for mark in
            ["eval(", "new Function", "innerHTML", "outerHTML =", "insertAdjacentHTML", "document.write", "http://", "https://"]
        {
            assert!(!script.contains(mark), "{mark}");
        }
        let styles = std::str::from_utf8(STYLES.content).expect("a text");
        for mark in ["@import", "url(", "expression("] {
            assert!(!styles.contains(mark), "{mark}");
        }
    }
}
