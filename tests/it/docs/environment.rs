//! The environment in which the configurations of the documents are read.

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use outboxd::config::Environment;

use crate::support::Authority;

/// Of the listener of the feed.
static CERTIFICATE: LazyLock<(String, String)> = LazyLock::new(|| Authority::new().issue("feed.internal"));

/// Has every variable, of a shape that any setting takes, and no files but secrets and a certificate.
pub struct AnyEnvironment;

impl Environment for AnyEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        let text = match name {
            "DATABASE_URL" => "postgres://app@localhost/app",
            // Where systemd puts the secrets of a service.
            "CREDENTIALS_DIRECTORY" => "/run/secrets",
            _ => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        };
        Some(text.to_owned())
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        // Secrets are mounted there.
        if path == Path::new("/run/secrets/database-url") {
            return Ok("postgres://app@localhost/app\n".to_owned());
        }
        if path.starts_with("/run/secrets") {
            return Ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".to_owned());
        }
        match path.to_str() {
            Some("/etc/outboxd/feed.pem") => Ok(CERTIFICATE.0.clone()),
            Some("/etc/outboxd/feed.key") => Ok(CERTIFICATE.1.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self) -> &Path {
        Path::new("")
    }
}
