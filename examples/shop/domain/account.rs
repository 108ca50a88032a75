//! A loyalty account: a point for every whole unit of money, and a level from a thousand points on.

use outboxd::uow::{Decision, DomainEvent, Failure, Recorder};

use super::LevelReachedV1;

/// Points at which a customer is a gold customer.
const GOLD: i64 = 1_000;

/// The aggregate. `version` is the one that was read, 0 for one that is not stored yet.
#[derive(Debug)]
pub struct LoyaltyAccount {
    pub customer: String,
    pub points: i64,
    pub version: i64,
    pub events: Recorder,
}

/// Of interest to this program alone, so it stays in memory. `points` are negative when they were given back.
#[derive(Debug, PartialEq, Eq)]
pub struct PointsChanged {
    pub customer: String,
    pub points: i64,
}

impl DomainEvent for PointsChanged {
    fn decide(&self) -> Result<Decision, Failure> {
        Ok(Decision::InMemory)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct LevelReached {
    pub customer: String,
}

impl DomainEvent for LevelReached {
    fn decide(&self) -> Result<Decision, Failure> {
        Decision::notify("account", &self.customer, &LevelReachedV1 { customer: &self.customer, level: "gold" })
    }
}

impl LoyaltyAccount {
    pub fn new(customer: impl Into<String>) -> Self {
        Self { customer: customer.into(), points: 0, version: 0, events: Recorder::new() }
    }

    pub fn earn(&mut self, points: i64) {
        let before = self.points;
        self.change(points);
        if (before..self.points).contains(&(GOLD - 1)) {
            self.events.record(LevelReached { customer: self.customer.clone() });
        }
    }

    /// Takes points back; a level that was reached stays.
    pub fn give_back(&mut self, points: i64) {
        self.change(-points);
    }

    fn change(&mut self, points: i64) {
        self.points += points;
        self.events.record(PointsChanged { customer: self.customer.clone(), points });
    }
}

#[cfg(test)]
mod tests {
    use outboxd::uow::testing::Given;

    use super::*;

    #[test]
    fn a_level_is_reached_when_the_points_pass_it() {
        let with = |points| Given::new(LoyaltyAccount { points, ..LoyaltyAccount::new("ann") }, |account| &account.events);
        with(0).when(|account| account.earn(999)).then_types(&["PointsChanged"]);
        with(999).when(|account| account.earn(1)).then_types(&["PointsChanged", "LevelReached"]);
        with(0).when(|account| account.earn(1_000)).then(&LevelReached { customer: "ann".to_owned() });
        with(1_000).when(|account| account.earn(5)).then_types(&["PointsChanged"]);
    }
}
