//! An order: placed once, perhaps cancelled. It records what happens to it; who learns of that is not its business.

use outboxd::uow::{Decision, DomainEvent, Failure, Private, Recorder};

use super::{OrderCancelledV1, OrderPlacedV1, Refused, check_card};

/// The aggregate. `version` is the one that was read; whoever stores the order finds it unchanged or has a conflict.
#[derive(Debug)]
pub struct Order {
    pub id: i64,
    pub purchase: Purchase,
    pub status: Status,
    pub version: i64,
    pub events: Recorder,
}

/// What is bought, by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    pub customer: String,
    pub sku: String,
    pub quantity: i32,
    pub total_cents: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Placed,
    Cancelled,
}

/// Holds the card number, because a handler in the same transaction needs it. The event stays in memory; its contract has no room for a card.
#[derive(Debug, PartialEq, Eq)]
pub struct OrderPlaced {
    pub order: i64,
    pub purchase: Purchase,
    pub card: Private<String>,
}

impl DomainEvent for OrderPlaced {
    fn decide(&self) -> Result<Decision, Failure> {
        let Purchase { customer, sku, quantity, total_cents } = &self.purchase;
        let contract = OrderPlacedV1 { order: self.order, customer, sku, quantity: *quantity, total_cents: *total_cents };
        Decision::notify("order", self.order, &contract)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct OrderCancelled {
    pub order: i64,
    pub purchase: Purchase,
}

impl DomainEvent for OrderCancelled {
    fn decide(&self) -> Result<Decision, Failure> {
        let Purchase { customer, sku, quantity, .. } = &self.purchase;
        Decision::notify("order", self.order, &OrderCancelledV1 { order: self.order, customer, sku, quantity: *quantity })
    }
}

impl Order {
    /// Places an order that is paid with this card.
    pub fn place(id: i64, purchase: Purchase, card: Private<String>) -> Result<Self, Refused> {
        check_card(&card)?;
        if !(1..=100).contains(&purchase.quantity) {
            return Err(Refused::Quantity);
        }
        let mut order = Self { id, purchase: purchase.clone(), status: Status::Placed, version: 1, events: Recorder::new() };
        order.events.record(OrderPlaced { order: id, purchase, card });
        Ok(order)
    }

    pub fn cancel(&mut self) -> Result<(), Refused> {
        if self.status == Status::Cancelled {
            return Err(Refused::CancelledAlready);
        }
        self.status = Status::Cancelled;
        self.events.record(OrderCancelled { order: self.id, purchase: self.purchase.clone() });
        Ok(())
    }
}

impl Status {
    /// As it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use outboxd::uow::testing::Given;

    use super::*;

    fn purchase(quantity: i32) -> Purchase {
        Purchase { customer: "ann".to_owned(), sku: "tea".to_owned(), quantity, total_cents: 4_200 }
    }

    fn card() -> Private<String> {
        Private::new("4111 1111 1111 1111".to_owned())
    }

    #[test]
    fn an_order_that_is_placed_says_so() {
        let order = Order::place(7, purchase(2), card()).expect("nothing is wrong with it");
        let placed: Vec<_> = order.events.of::<OrderPlaced>().collect();
        assert_eq!(placed, [&OrderPlaced { order: 7, purchase: purchase(2), card: card() }]);
    }

    #[test]
    fn an_order_without_a_quantity_or_a_card_is_refused() {
        assert_eq!(Order::place(7, purchase(0), card()).err(), Some(Refused::Quantity));
        assert_eq!(Order::place(7, purchase(1), Private::new("4111".to_owned())).err(), Some(Refused::Card));
    }

    #[test]
    fn an_order_is_cancelled_once() {
        let placed = |status| Order { id: 7, purchase: purchase(2), status, version: 1, events: Recorder::new() };
        Given::new(placed(Status::Placed), |order| &order.events)
            .when(Order::cancel)
            .then(&OrderCancelled { order: 7, purchase: purchase(2) })
            .then_state(|order| order.status == Status::Cancelled);
        Given::new(placed(Status::Cancelled), |order| &order.events)
            .when(Order::cancel)
            .then_refused(&Refused::CancelledAlready)
            .then_nothing();
    }
}
