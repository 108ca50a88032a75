//! Errors of shredding. None of them is [`Forgotten`](super::Forgotten): a value that cannot be read for another reason than a destroyed key is never
//! taken for a forgotten one.

use uuid::Uuid;

/// Why a shredded value could not be sealed or opened. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShredError {
    /// The program has no master keys.
    #[error(
        "the values of subject {subject} are encrypted and this program has no master keys: give them with Options::master_keys or a ShreddedReader"
    )]
    NoMasterKeys {
        /// Whose value it is.
        subject: String,
    },
    /// The key of the subject is wrapped by a master key that the program does not have.
    #[error("the key of subject {subject} is wrapped by the master key {wrapped_by}, and this program has {}", .known.join(", "))]
    OtherMasterKey {
        /// Whose value it is.
        subject: String,
        /// Fingerprint of the master key that is needed.
        wrapped_by: String,
        /// Fingerprints of those that the program has.
        known: Vec<String>,
    },
    /// The row of the subject's key is not as it was written, or is that of another subject.
    #[error("the stored key of subject {subject} was altered, or belongs to another subject")]
    KeyAltered {
        /// Whose value it is.
        subject: String,
    },
    /// There is no row for the subject. The key was not destroyed by `outboxd forget`, which leaves a row.
    #[error("there is no key of subject {subject}, and no record that it was destroyed")]
    NoKey {
        /// Whose value it is.
        subject: String,
    },
    /// The value was sealed under another key than the subject has.
    #[error("{field} was sealed under the key {sealed_under}, and subject {subject} has the key {held}")]
    OtherKey {
        /// Whose value it is.
        subject: String,
        /// Where it stands.
        field: String,
        /// Id of the key that the envelope names.
        sealed_under: Uuid,
        /// Id of the key of the subject.
        held: Uuid,
    },
    /// The envelope is not as it was sealed, or was copied from another event.
    #[error("{field} of subject {subject} was altered, or was copied from another event")]
    Altered {
        /// Whose value it is.
        subject: String,
        /// Where it stands.
        field: String,
    },
    /// The envelope stands at another place of the payload than the one it was sealed for.
    #[error("the value of subject {subject} at {found} was sealed for {sealed}")]
    Moved {
        /// Whose value it is.
        subject: String,
        /// The place it was sealed for.
        sealed: String,
        /// Where it stands.
        found: String,
    },
    /// The envelope cannot be understood.
    #[error("{field} is no envelope of a shredded value: {reason}")]
    Malformed {
        /// Where it stands.
        field: String,
        /// The part that does not fit.
        reason: String,
    },
    /// The envelope says that the subject was forgotten, and the subject has a key.
    #[error("{field} says that subject {subject} was forgotten, which is not so")]
    NotForgotten {
        /// Whose value it is.
        subject: String,
        /// Where it stands.
        field: String,
    },
    /// A value of a subject that was forgotten cannot be recorded.
    #[error(
        "subject {subject} was forgotten at {at}: its values cannot be recorded any more; a person who comes back is a new subject"
    )]
    SubjectForgotten {
        /// Whose value it is.
        subject: String,
        /// When the key was destroyed.
        at: String,
    },
    /// The value was opened and is not of its type.
    #[error("{field} of subject {subject} is not of its type")]
    OtherType {
        /// Whose value it is.
        subject: String,
        /// Where it stands.
        field: String,
    },
    /// The name of the subject is none.
    #[error("the subject of a shredded value has {bytes} bytes; 1 to 1000 are allowed, without control characters")]
    InvalidSubject {
        /// How long the name is.
        bytes: usize,
    },
    /// A `Serialize` of the program's own wrote the value as something else than a JSON value.
    #[error(
        "a value of subject {subject} is not written where it was serialised: it must stand in the payload as a JSON value of its own"
    )]
    NotWritten {
        /// Whose value it is.
        subject: String,
    },
    /// The operating system has no random bytes.
    #[error("there are no random bytes for the key of subject {subject}")]
    NoRandomness {
        /// Whose key it would be.
        subject: String,
    },
}
