//! A mistake in a configuration: its place, the value found, the value expected.

use std::cell::RefCell;
use std::fmt;

/// One mistake. Prints as `handlers.billing.timeout: got 30, expected a duration such as "30s"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub path: String,
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

impl std::error::Error for Mistake {}

/// Collects mistakes while a configuration is read; nothing stops at the first.
#[derive(Debug, Default)]
pub struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    pub fn add(&self, path: impl Into<String>, text: impl Into<String>) {
        self.0.borrow_mut().push(Mistake { path: path.into(), text: text.into() });
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn into_vec(self) -> Vec<Mistake> {
        self.0.into_inner()
    }
}
