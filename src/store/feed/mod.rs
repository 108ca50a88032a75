//! The feed: the places that the publisher gives to events, and what clients read by them.
//! Knows no client and no filter but types, headers and aggregates; what a cursor looks like is decided above.

mod damage;
mod handled;
mod people;
mod publish;
mod read;

pub use damage::read_page_around_damage;
pub use handled::{HandlerProgress, read_event_progress, stage_of};
pub use people::{FeedEpoch, FeedStatus, list_epochs, read_status};
pub(super) use publish::begin_epoch_of_rebase;
pub use publish::{Epoch, PublishedPage, PublishedWindow, PublishingPage, begin_epoch, publish_page, publish_window};
pub use read::{FeedPage, GroundRow, PageQuery, PlacedEvent, find_event, find_time, read_ground, read_head, read_page};
