//! Private values: card numbers, tokens and the like, which a domain event may hold and which never leave the process.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};

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
    /// Takes the value in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Do not log it, and do not put it into an error or a contract.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The same by value, for the last use.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(***)")
    }
}

/// Comes in as any value does; an error of it does not repeat what came.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Private<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self).map_err(|_| D::Error::custom("a private value is not of its type"))
    }
}

impl<T> From<T> for Private<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        let taken: Private<String> = serde_json::from_str("\"4111\"").expect("a text");
        assert_eq!(taken.expose(), "4111");
        let error = serde_json::from_str::<Private<String>>("4111").expect_err("a number is no text").to_string();
        assert!(!error.contains("4111"), "{error}");
    }
}
