//! One file for each screen: what it reads, what it shows, what can be done there. A screen knows nothing of cookies, headers and roles; the door
//! has decided.

pub mod alerts;
pub mod audit;
mod compare;
mod confirm;
pub mod discard;
pub mod doctor;
pub mod edit;
pub mod event;
pub mod events;
pub mod front;
pub mod handler;
pub mod handover;
pub mod keys;
pub mod letters;
pub mod map;
pub mod replay;
pub mod replay_new;
pub mod tail;
mod which;
