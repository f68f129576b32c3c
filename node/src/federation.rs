//! What other servers may ask of this node: the server side of the server-server API, behind the one federation router
//! (overlay.md section 7). Who asks is proven before anything here is called: it is the link's peer, or, through the classic
//! door, the server whose key has signed the request.

use std::sync::Arc;

use millpond_store::{
    View,
    rows::{Room, RoomShort},
    tables,
};
use ruma::{OwnedServerName, RoomId, ServerName, events::room::server_acl::RoomServerAclEventContent};
use tokio::sync::Semaphore;

use crate::{
    Core, Error,
    classic::is_of_the_dns,
    inbox::Inbox,
    keys::{Audience, Keys},
    links::{LinkClass, Links},
    media::Media,
    memberships::Memberships,
    peers::{Peers, Route},
    presence::Presence,
    profile::Profiles,
    receipts::Receipts,
    rooms::{current, rows, whole::is_partial},
    typing::Typing,
};

mod documents;
mod history;
mod introduce;
mod invite;
mod limits;
mod media;
mod member_events;
mod policy;
mod queries;
mod room_state;
mod sight;
mod snapshot;
mod spaces;
mod third_party;
mod transaction;

pub(crate) use self::snapshot::{FIELD as SNAPSHOT_FIELD, named as snapshot_document_of, of as snapshot_of};
pub use self::{invite::Invite, member_events::Template, snapshot::Snapshot};
pub use millpond_overlay::INTRO_PATH;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The link's peer, or the server that signed the request.
    pub server: OwnedServerName,
    /// By which door it came.
    pub door: Door,
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A link, and what it allows.
    Link(LinkClass),
    /// HTTPS with `X-Matrix`: classic rooms only.
    Classic,
}

impl Origin {
    /// About whose keys and devices it may ask.
    pub fn audience(&self) -> Audience {
        match self.door {
            Door::Link(LinkClass::Contact) => Audience::Contact,
            Door::Link(LinkClass::Room) => Audience::CoMembers,
            Door::Classic => Audience::ClassicCoMembers,
        }
    }

    /// Whether the user has made a link with it.
    pub(crate) fn is_contact(&self) -> bool {
        self.door == Door::Link(LinkClass::Contact)
    }

    /// What may go back by the door.
    pub(crate) fn route(&self) -> Route {
        match self.door {
            Door::Link(_) => Route::Link,
            Door::Classic => Route::Classic,
        }
    }

    /// That a room of this policy may be spoken of through this door, to this server.
    ///
    /// # Errors
    /// 404 for overlay rooms through the classic door, as for rooms that are not here; 403 for key-named servers and classic
    /// rooms.
    pub(crate) fn check_door(&self, overlay: bool) -> Result<(), Error> {
        if overlay && self.door == Door::Classic {
            return Err(Error::not_found("this server is not in that room"));
        }
        if !overlay && !is_of_the_dns(&self.server) {
            return Err(Error::forbidden(
                "that is a classic room; a node named by its key can be in overlay rooms only, because classic servers \
                 cannot reach it",
            ));
        }
        Ok(())
    }
}

/// Answers to other servers. Cloning is cheap.
#[derive(Clone)]
pub struct Federation {
    core: Core,
    parts: Parts,
    limits: Arc<limits::Limits>,
    files: Arc<Semaphore>,
}

/// The services that it answers with.
#[derive(Clone)]
pub struct Parts {
    /// Links.
    pub links: Links,
    /// Other servers.
    pub peers: Peers,
    /// What peers send.
    pub inbox: Inbox,
    /// Memberships.
    pub memberships: Memberships,
    /// End-to-end encryption keys.
    pub keys: Keys,
    /// Profiles.
    pub profiles: Profiles,
    /// Media.
    pub media: Media,
    /// Receipts.
    pub receipts: Receipts,
    /// Typing.
    pub typing: Typing,
    /// Presence.
    pub presence: Presence,
}

impl Federation {
    /// The service over the others.
    pub fn new(core: Core, parts: Parts) -> Self {
        let limits = Arc::new(limits::Limits::new(core.clock().clone(), core.config().rate_limits));
        Self { core, parts, limits, files: Arc::new(Semaphore::new(media::FILES_AT_ONCE)) }
    }

    /// End-to-end encryption keys, for the questions about them.
    pub fn keys(&self) -> &Keys {
        &self.parts.keys
    }

    /// A room in which a user of ours is and of which the origin may hear, or 404.
    fn resident(&self, view: View<'_>, origin: &Origin, room_id: &RoomId) -> Result<(RoomShort, Room), Error> {
        let unknown = || Error::not_found("this server is not in that room");
        let (short, room) = rows::room(view, room_id)?.ok_or_else(unknown)?;
        if !is_in(view, short, self.core.identity().server_name())? {
            return Err(unknown());
        }
        origin.check_door(room.overlay)?;
        Ok((short, room))
    }

    /// The same where answering takes the room's whole state. Of a room that was just joined its members may be missing here:
    /// then another server can tell, and this one later.
    fn whole(&self, view: View<'_>, origin: &Origin, room_id: &RoomId) -> Result<(RoomShort, Room), Error> {
        let (short, room) = self.resident(view, origin, room_id)?;
        if is_partial(view, short)? {
            // 404 has who asks turn to another server of the room; after 5xx servers leave this one alone for a while.
            return Err(Error::not_found(
                "this server has just joined that room and does not know its members yet: ask another one, or later",
            ));
        }
        Ok((short, room))
    }
}

/// Whether a server has a joined user in a room.
fn is_in(view: View<'_>, room: RoomShort, server: &ServerName) -> Result<bool, Error> {
    Ok(view.get(tables::ROOM_SERVERS, (room, server))?.is_some_and(|members| members > 0))
}

/// That the room's access list lets the server take part.
fn check_acl(view: View<'_>, room: RoomShort, server: &ServerName) -> Result<(), Error> {
    let acl: Option<RoomServerAclEventContent> = current::content(view, room, "m.room.server_acl", "")?;
    if acl.is_none_or(|acl| acl.is_allowed(server)) {
        return Ok(());
    }
    Err(Error::forbidden("your server is shut out of this room by its access list"))
}
