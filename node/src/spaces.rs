//! Rooms as they look from outside: summaries, and the tree of a space (client-server API, "Spaces" and "Room Summaries").
//! What is not here is asked of linked servers and remembered for a while.

mod hierarchy;
mod remote;
pub(crate) mod summary;

use std::sync::Arc;

use ruma::{OwnedServerName, RoomId, RoomOrAliasId, UserId, events::room::member::MembershipState, room::RoomSummary};

pub use self::hierarchy::{Hierarchy, HierarchyRequest};
use self::remote::Cache;
use crate::{
    Core, Error,
    memberships::Memberships,
    peers::Peers,
    rooms::{current, rows},
};

/// Spaces and summaries. Cloning is cheap.
#[derive(Clone)]
pub struct Spaces {
    core: Core,
    memberships: Memberships,
    peers: Peers,
    cache: Arc<Cache>,
}

impl Spaces {
    /// The service over the others.
    pub fn new(core: Core, memberships: Memberships, peers: Peers) -> Self {
        let cache = Arc::new(Cache::new(core.clock().clone()));
        Self { core, memberships, peers, cache }
    }

    /// The summary of a room and the user's membership. Rooms that are not here are asked of `via` and of the servers
    /// that an alias names. Dropping the future gives the question up.
    ///
    /// # Errors
    /// 404 for rooms that nobody knows or that the user may not know of; storage errors.
    pub async fn summary(
        &self,
        user: &UserId,
        room: &RoomOrAliasId,
        via: Vec<OwnedServerName>,
    ) -> Result<(RoomSummary, Option<MembershipState>), Error> {
        let (room_id, via) = self.memberships.resolve(room, via).await?;
        let unknown = || Error::not_found(format!("room {room} is not known, or not to be seen by you"));
        let (local, membership) = self.local(user, &room_id)?;
        if let Some(summary) = local {
            return summary.map(|summary| (summary, membership)).ok_or_else(unknown);
        }
        let servers = self.memberships.candidates(user, &room_id, via).unwrap_or_default();
        let summary = self.ask(&servers, &room_id, false).await.map(|found| found.room.summary.clone());
        let summary = summary.filter(|summary| self.may_know(user, summary).unwrap_or(false));
        summary.map(|summary| (summary, membership)).ok_or_else(unknown)
    }

    /// The summary of a room that is here: none if it is not, `Some(None)` if the user may not know of it.
    #[allow(clippy::option_option, reason = "that a room is hidden is not that it is elsewhere")]
    fn local(
        &self,
        user: &UserId,
        room_id: &RoomId,
    ) -> Result<(Option<Option<RoomSummary>>, Option<MembershipState>), Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let Some((short, row)) = rows::room(view, room_id)? else { return Ok((None, None)) };
        let membership = current::membership(view, short, user)?.map(|row| row.membership);
        if !self.is_resident(view, short)? {
            return Ok((None, membership));
        }
        let summary = summary::of(view, short, &row)?;
        let shown = summary::may_know(view, user, short, &summary)?;
        Ok((Some(shown.then_some(summary)), membership))
    }
}
