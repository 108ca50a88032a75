//! The domain: orders and loyalty accounts, and what happens to them. Knows neither HTTP nor SQL, so all of it is tested without a database.

pub mod account;
mod card;
mod contracts;
mod order;

pub use account::{LoyaltyAccount, PointsChanged};
pub use card::{check_card, last_four};
pub use contracts::{LevelReachedV1, OrderCancelledV1, OrderPlacedV1};
pub use order::{Order, OrderCancelled, OrderPlaced, Purchase, Status};

/// Why the domain does not do what it was asked. Said to the customer, so it never repeats what the customer sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the quantity has to be 1 to 100")]
    Quantity,
    #[error("the card number is not one")]
    Card,
    #[error("the order is cancelled already")]
    CancelledAlready,
}
