//! The feed: the places that the publisher gives to events, and the pages that clients read by them. Knows types, headers and
//! aggregates, but no client; `feed::cursor` decides what a cursor looks like.

mod damage;
mod handled;
mod kept;
mod people;
mod publish;
mod read;

pub use damage::read_page_around_damage;
pub use handled::{HandlerProgress, read_event_progress, stage_of};
pub(in crate::store) use kept::decode_listed;
pub use kept::{
    CursorKey, CursorMove, ListedCursor, StoredCursor, insert_client_cursor, list_client_cursors, move_client_cursor,
    read_client_cursor, remove_client_cursor,
};
pub use people::{FeedEpoch, FeedStatus, list_epochs, read_status};
pub(super) use publish::begin_epoch_of_rebase;
pub use publish::{Epoch, PublishedPage, PublishedWindow, PublishingPage, begin_epoch, publish_page, publish_window};
pub use read::{FeedPage, GroundRow, PageQuery, PlacedEvent, find_event, find_time, read_ground, read_head, read_page};
