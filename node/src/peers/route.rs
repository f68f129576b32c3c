//! By which way a server is reached, and so what it may be sent: over a link everything, by the classic route only what
//! belongs to classic rooms (overlay.md section 6).

use std::sync::PoisonError;

use millpond_store::{
    Error as StoreError, View, WriteTxn,
    rows::{OutboxItem, Room},
    tables,
};
use ruma::{OwnedServerName, ServerName};

use super::{PeerError, Peers, is_linked};
use crate::{
    Error,
    classic::{About, is_of_the_dns},
    identity::Identity,
    rooms,
};

/// A way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A link.
    Link,
    /// Classic HTTPS.
    Classic,
}

impl Route {
    /// Whether what belongs to a room may go this way.
    pub(crate) fn carries(self, room: &Room) -> bool {
        self == Self::Link || !room.overlay
    }
}

/// The way to a server, if there is one: a link where there is an established one, else, between nodes with a name in the
/// DNS, the classic route.
pub(crate) fn route(view: View<'_>, us: &Identity, server: &ServerName) -> Result<Option<Route>, StoreError> {
    if is_linked(view, server)? {
        return Ok(Some(Route::Link));
    }
    Ok((us.is_dns_named() && is_of_the_dns(server) && !us.is_ours(server)).then_some(Route::Classic))
}

impl Peers {
    /// The way to a server now. Without a link and without the classic route it is the link that the user is told of.
    pub(crate) fn route(&self, server: &ServerName) -> Result<Route, PeerError> {
        let linked = self.core.snapshot().and_then(|snapshot| is_linked(snapshot.view(), server));
        let linked = linked.map_err(|e| PeerError::Malformed(e.to_string()))?;
        Ok(if !linked && self.classic.reaches(server) { Route::Classic } else { Route::Link })
    }

    /// Whether a server can be asked at all.
    ///
    /// # Errors
    /// Storage errors.
    pub fn reaches(&self, server: &ServerName) -> Result<bool, Error> {
        Ok(self.is_linked(server)? || self.classic.reaches(server))
    }

    /// That a room of this policy may be entered through a server.
    ///
    /// # Errors
    /// 403 for an overlay room through the classic door.
    pub(crate) fn check_route(&self, server: &ServerName, overlay: bool) -> Result<(), Error> {
        if overlay && self.route(server)? == Route::Classic {
            return Err(PeerError::NotForClassic.into());
        }
        Ok(())
    }

    /// That a question may leave by the classic route: nothing does that is about an overlay room, or about people with whom
    /// nothing else is shared.
    pub(super) fn check_about(&self, server: &ServerName, about: About<'_>) -> Result<(), PeerError> {
        let allowed = self.core.snapshot().and_then(|snapshot| {
            let view = snapshot.view();
            match about {
                About::Room(room_id) => Ok(rooms::rows::room(view, room_id)?.is_none_or(|(_, room)| !room.overlay)),
                About::People => Ok(!shares_only_overlay(view, self.core.identity(), server)?),
                About::Everybody => Ok(true),
            }
        });
        match allowed {
            Ok(true) => Ok(()),
            Ok(false) => Err(PeerError::NotForClassic),
            Err(error) => Err(PeerError::Malformed(error.to_string())),
        }
    }

    /// A server could not be reached: the next word from it is news.
    pub(crate) fn await_word(&self, server: &ServerName) {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned());
    }

    /// A server has asked us something by the classic route: if it was missed, what waits for it is sent.
    pub fn heard_from(&self, server: &ServerName) {
        self.classic.is_up(server);
        if self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(server) {
            // Nobody may be listening: then nothing waits for it.
            let _ = self.link_ups.send(server.to_owned());
        }
    }
}

/// Whether all rooms that we share with a server are overlay rooms; not where none is shared.
fn shares_only_overlay(view: View<'_>, us: &Identity, server: &ServerName) -> Result<bool, StoreError> {
    let mut shares_any = false;
    for row in view.scan(tables::ROOMS, ())? {
        let (short, room) = row?;
        if !view.contains(tables::ROOM_SERVERS, (short, server))?
            || !view.contains(tables::ROOM_SERVERS, (short, us.server_name()))?
        {
            continue;
        }
        if !room.overlay {
            return Ok(false);
        }
        shares_any = true;
    }
    Ok(shares_any)
}

/// Without a link the events of overlay rooms are owed no more to a server that stays reachable by the classic route.
pub(super) fn forget_overlay(txn: &mut WriteTxn<'_>, server: &OwnedServerName) -> Result<(), StoreError> {
    if !is_of_the_dns(server) {
        return Ok(());
    }
    let mut gone = Vec::new();
    for row in txn.view().scan(tables::OUTBOX, (&**server,))? {
        let ((_, position), item) = row?;
        let (OutboxItem::Pdu(event) | OutboxItem::Invite(event)) = item else { continue };
        let room = rooms::rows::event(txn.view(), event)?.meta.room;
        if txn.view().get(tables::ROOMS, room)?.is_some_and(|room| room.overlay) {
            gone.push(position);
        }
    }
    for position in gone {
        txn.remove(tables::OUTBOX, (&**server, position))?;
    }
    Ok(())
}
