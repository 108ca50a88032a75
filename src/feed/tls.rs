//! TLS of the listener: which certificate new connections are given. A reload puts another one in its place; connections that are
//! open keep theirs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;

use crate::config;

/// The certificate of the listener; without one it speaks HTTP in the clear.
pub struct Certificates(RwLock<Option<Arc<ServerConfig>>>);

impl Certificates {
    pub fn new(settings: &config::Feed) -> Self {
        Self(RwLock::new(settings.tls()))
    }

    /// For connections from now on.
    pub fn replace(&self, settings: &config::Feed) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings.tls();
    }

    pub(super) fn current(&self) -> Option<Arc<ServerConfig>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("is_on", &self.current().is_some()).finish()
    }
}
