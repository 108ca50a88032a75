//! One file for each screen: what it reads, what it shows, what can be done there. A screen knows nothing of cookies, headers and roles; the door
//! has decided.

pub mod alerts;
pub mod audit;
mod confirm;
pub mod discard;
pub mod doctor;
pub mod event;
pub mod events;
pub mod front;
pub mod handler;
pub mod keys;
pub mod letters;
pub mod replay;
pub mod replay_new;
mod which;
