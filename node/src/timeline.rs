//! Reading rooms: events in the client's form, who may see them, pages of history, state, members, relations.

pub(crate) mod bundle;
pub(crate) mod gaps;
mod history;
pub(crate) mod nearest;
pub(crate) mod reader;
mod relations;
pub(crate) mod select;
pub(crate) mod sight;
pub(crate) mod state;
mod threads;
mod times;
pub(crate) mod token;
pub(crate) mod window;

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use ruma::RoomId;

pub use self::{
    history::{Context, Page, PageRequest},
    relations::{RelationsRequest, Wanted},
    state::MembersRequest,
    threads::ThreadsRequest,
    times::{Elsewhere, Timed},
    token::Point,
};
use crate::{Core, Error};

/// What asks other servers for history that is not here.
pub trait Backfill: Send + Sync {
    /// Brings in some events that come right before the event at position `gap`, or before the oldest that are here. Returns
    /// when they are stored, or when nobody has them. Dropping the future is safe.
    fn backfill<'a>(&'a self, room_id: &'a RoomId, gap: Option<i64>, limit: usize) -> BoxFuture<'a, Result<(), Error>>;
}

/// Reads of rooms. Cloning is cheap.
#[derive(Clone)]
pub struct Timeline {
    core: Core,
    backfill: Arc<OnceLock<Arc<dyn Backfill>>>,
    elsewhere: times::ElsewhereCell,
}

impl Timeline {
    /// The service over `core`.
    pub fn new(core: Core) -> Self {
        Self { core, backfill: Arc::default(), elsewhere: Arc::default() }
    }

    /// Gives the way to older history. Until then a room's history ends where ours does; a second call changes nothing.
    pub fn connect(&self, backfill: Arc<dyn Backfill>) {
        let _ = self.backfill.set(backfill);
    }

    /// Waits until every member of a room is known here: at once, but for a room that was just joined.
    ///
    /// # Errors
    /// 504 when that takes too long; storage errors. Dropping the future is safe.
    pub async fn until_whole(&self, room_id: &RoomId) -> Result<(), Error> {
        crate::rooms::whole::until_whole(&self.core, room_id).await
    }

    /// Gives the way to ask others for the event of a time; a second call changes nothing.
    pub fn use_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        let _ = self.elsewhere.set(elsewhere);
    }
}
