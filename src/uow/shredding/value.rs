//! The value: clear inside the program, an envelope outside of it, forgotten when its key is gone.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};

use super::envelope::Envelope;
use super::scope;

/// A value of one person, the *subject*, that is recorded encrypted and can be forgotten.
///
/// The name of the subject stands in clear text beside the value and stays after the person was forgotten. Use an id (`customer/42`), never
/// a name or an address.
///
/// The value is read with [`read`](Self::read), whose error is [`Forgotten`]: there is no way to it that leaves the error out.
///
/// ```
/// use outboxd::uow::shredding::Shredded;
///
/// let email = Shredded::new("customer/42", "ann@example.com".to_owned());
/// let shown = match email.read() {
///     Ok(email) => email.clone(),
///     Err(forgotten) => format!("({} was forgotten)", forgotten.subject()),
/// };
/// # assert_eq!(shown, "ann@example.com");
/// assert_eq!(format!("{email:?}"), "Shredded(customer/42, ***)");
/// ```
///
/// It has no `Display` and no `Default`, and outside of a unit of work it cannot be serialised:
///
/// ```compile_fail
/// # use outboxd::uow::shredding::Shredded;
/// let email: Shredded<String> = Default::default(); // error: a value that is missing is not forgotten
/// ```
///
/// ```
/// # use outboxd::uow::shredding::Shredded;
/// let email = Shredded::new("customer/42", "ann@example.com".to_owned());
/// assert!(serde_json::to_string(&email).is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Shredded<T> {
    subject: String,
    /// `None`: the key was destroyed.
    value: Option<T>,
}

/// The key of the subject was destroyed; the value cannot be read any more, by any program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subject {subject} was forgotten")]
pub struct Forgotten {
    subject: String,
}

impl Forgotten {
    /// Who was forgotten.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl<T> Shredded<T> {
    /// A value of this subject. A name with 1 to 1000 bytes and without control characters; another one is refused when it is recorded.
    pub fn new(subject: impl Into<String>, value: T) -> Self {
        Self { subject: subject.into(), value: Some(value) }
    }

    /// A value of a subject that was forgotten, for tests of how a program treats it. Recorded, it can be read only if the subject was forgotten.
    pub fn forgotten(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), value: None }
    }

    /// The value, or that its subject was forgotten.
    pub fn read(&self) -> Result<&T, Forgotten> {
        self.value.as_ref().ok_or_else(|| Forgotten { subject: self.subject.clone() })
    }

    /// The same by value.
    pub fn into_read(self) -> Result<T, Forgotten> {
        let Self { subject, value } = self;
        value.ok_or(Forgotten { subject })
    }

    /// Whose value it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the key of the subject was destroyed.
    pub fn is_forgotten(&self) -> bool {
        self.value.is_none()
    }

    /// Another value of the same subject; forgotten if this one is.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Shredded<U> {
        Shredded { subject: self.subject, value: self.value.map(map) }
    }
}

impl<T> fmt::Debug for Shredded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.is_forgotten() { "forgotten" } else { "***" };
        write!(f, "Shredded({}, {value})", self.subject)
    }
}

impl<T: Serialize> Serialize for Shredded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let clear = self.value.as_ref().map(serde_json::to_string).transpose();
        // The error of serde may repeat a value.
        let clear = clear.map_err(|_| S::Error::custom("a shredded value has no JSON form"))?;
        scope::mark(&self.subject, clear).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Shredded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let taken = match Envelope::deserialize(deserializer) {
            Ok(envelope) => scope::take(&envelope),
            Err(error) => Err(scope::not_an_envelope(&error.to_string())),
        };
        let (subject, value) = taken.map_err(serde::de::Error::custom)?;
        Ok(Self { subject, value })
    }
}
