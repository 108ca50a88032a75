//! Private values: card numbers, tokens and the like, which a domain event may hold and nobody outside may see.

use std::fmt;

/// A value that is neither serialised nor printed. `Debug` shows that there is one.
///
/// ```compile_fail
/// let card = outboxd::uow::Private::new("4111 1111 1111 1111".to_owned());
/// println!("{card}"); // error: it has no `Display`
/// ```
///
/// ```compile_fail
/// let card = outboxd::uow::Private::new("4111 1111 1111 1111".to_owned());
/// serde_json::to_string(&card); // error: it has no `Serialize`
/// ```
///
/// ```
/// let card = outboxd::uow::Private::new("4111 1111 1111 1111".to_owned());
/// assert_eq!(format!("{card:?}"), "Private(***)");
/// assert_eq!(&card.expose()[15..], "1111");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Private<T>(T);

impl<T> Private<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Do not log it, and do not put it into an error or a contract.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The same, for whoever is the last to need it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(***)")
    }
}

impl<T> From<T> for Private<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}
