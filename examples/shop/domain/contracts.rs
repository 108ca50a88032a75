//! The contracts: what others read. Written by hand, each with a name and a version of its own: whatever becomes of the types of the
//! domain, these change only when somebody changes them on purpose. tests/it/shop/wire.rs compares them with literal JSON.

use outboxd::uow::Contract;
use serde::Serialize;

/// An order was placed.
#[derive(Debug, Serialize)]
pub struct OrderPlacedV1<'a> {
    pub order: i64,
    pub customer: &'a str,
    pub sku: &'a str,
    pub quantity: i32,
    pub total_cents: i64,
}

impl Contract for OrderPlacedV1<'_> {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 1;
    const SCHEMA: Option<&'static str> = Some(include_str!("../contracts/order.placed.1.json"));
}

/// An order was cancelled; what was reserved for it is free again.
#[derive(Debug, Serialize)]
pub struct OrderCancelledV1<'a> {
    pub order: i64,
    pub customer: &'a str,
    pub sku: &'a str,
    pub quantity: i32,
}

impl Contract for OrderCancelledV1<'_> {
    const TYPE: &'static str = "order.cancelled";
    const VERSION: u32 = 1;
}

/// A customer has reached a level.
#[derive(Debug, Serialize)]
pub struct LevelReachedV1<'a> {
    pub customer: &'a str,
    pub level: &'static str,
}

impl Contract for LevelReachedV1<'_> {
    const TYPE: &'static str = "loyalty.level_reached";
    const VERSION: u32 = 1;
}
