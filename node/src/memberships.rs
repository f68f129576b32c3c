//! Memberships, wherever the room is: in rooms that are here they are decided here; others are entered and left through a
//! server that is in them.

use futures::future::BoxFuture;
use millpond_store::{View, tables};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, UserId,
    api::federation::query::get_room_information, events::room::member::MembershipState,
};

use crate::{
    Core, Error,
    classic::is_of_the_dns,
    inbox::Inbox,
    invite_permission,
    peers::{self, PATIENCE, Peers},
    rooms::{Action, Rooms, current, known_room, rows},
};

mod join;
mod leave;
mod restricted;
mod snapshot;
mod third_party;

pub use self::third_party::{Signed, ThirdParty};
pub(crate) use self::{leave::shown_state, restricted::authorising_user};

/// Joining, leaving, inviting, knocking. Cloning is cheap.
#[derive(Clone)]
pub struct Memberships {
    core: Core,
    rooms: Rooms,
    peers: Peers,
    inbox: Inbox,
}

impl Memberships {
    /// The service over rooms and peers.
    pub fn new(core: Core, rooms: Rooms, peers: Peers, inbox: Inbox) -> Self {
        Self { core, rooms, peers, inbox }
    }

    /// Joins a room by id or alias; `via` are servers to try, `extra` goes into the content.
    ///
    /// # Errors
    /// 403 when the room does not let the user in, 404 when nobody knows the room, 504 when no server of it is linked.
    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomOrAliasId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<OwnedRoomId, Error> {
        let (room_id, via) = self.resolve(room, via).await?;
        self.core.guard().check_room(self.core.snapshot()?.view(), &room_id)?;
        if self.rooms.is_resident(&room_id)? {
            let extra = self.with_authorising_user(user, &room_id, extra)?;
            self.rooms.change_membership(user, &room_id, user, Action::Join, extra).await?;
        } else {
            self.join_remote(user, &room_id, via, extra).await?;
        }
        Ok(room_id)
    }

    /// Asks to be let into a room.
    ///
    /// # Errors
    /// As [`Memberships::join`].
    pub async fn knock(
        &self,
        user: &UserId,
        room: &RoomOrAliasId,
        via: Vec<OwnedServerName>,
        extra: CanonicalJsonObject,
    ) -> Result<OwnedRoomId, Error> {
        let (room_id, via) = self.resolve(room, via).await?;
        if self.rooms.is_resident(&room_id)? {
            self.rooms.change_membership(user, &room_id, user, Action::Knock, extra).await?;
        } else {
            self.knock_remote(user, &room_id, via, extra).await?;
        }
        Ok(room_id)
    }

    /// Leaves a room, or takes back an invite or a knock.
    ///
    /// # Errors
    /// 404 when the user has nothing to do with the room.
    pub async fn leave(&self, user: &UserId, room_id: &RoomId, extra: CanonicalJsonObject) -> Result<(), Error> {
        if self.rooms.is_resident(room_id)? {
            return self.rooms.change_membership(user, room_id, user, Action::Leave, extra).await;
        }
        self.leave_remote(user, room_id, extra).await
    }

    /// Invites a user. One of another node needs a link with that node.
    ///
    /// # Errors
    /// 403 when the sender may not; 504 without a link.
    pub async fn invite(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        self.check_reachable(target, self.policy_of(room_id)?).await?;
        self.rooms.change_membership(sender, room_id, target, Action::Invite, extra).await
    }

    /// Whether a room that is here is an overlay room.
    ///
    /// # Errors
    /// 403 for a room that is not here.
    pub fn policy_of(&self, room_id: &RoomId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        Ok(known_room(snapshot.view(), room_id)?.1.overlay)
    }

    /// That a user can be sent an invite into a room.
    ///
    /// # Errors
    /// 403 `M_INVITE_BLOCKED` for one of ours who takes none; 504 without a way to his server, 403 for a user of a key-named node and a classic room. Dropping the future is safe.
    pub async fn check_reachable(&self, target: &UserId, overlay: bool) -> Result<(), Error> {
        let (us, server) = (self.core.identity(), target.server_name());
        if us.is_ours(server) {
            return invite_permission::check(self.core.snapshot()?.view(), target);
        }
        if !overlay && us.is_dns_named() {
            if !is_of_the_dns(server) {
                return Err(Error::forbidden(format!(
                    "{target} cannot be invited into a classic room: his node is named by its key, which classic servers \
                     cannot reach; make an overlay room for that"
                )));
            }
            if self.peers.reaches(server)? {
                return Ok(());
            }
        }
        if self.peers.is_linked_by_now(server).await? {
            return Ok(());
        }
        Err(Error::unreachable(format!(
            "{target} cannot be invited: this node has no link with {server}; exchange contact links first (`millpond contact`)"
        )))
    }

    /// The room that an alias means, and servers that are in it.
    ///
    /// # Errors
    /// 404 when nobody knows the alias.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>), Error> {
        let unknown = || Error::not_found(format!("the alias {alias} is not known"));
        if self.core.identity().is_ours(alias.server_name()) {
            let snapshot = self.core.snapshot()?;
            let view = snapshot.view();
            let row = view.get(tables::ALIASES, alias)?.ok_or_else(unknown)?;
            let servers = servers_in(view, &row.room_id)?;
            return Ok((row.room_id, servers));
        }
        let request = get_room_information::v1::Request::new(alias.to_owned());
        let answer = self.peers.ask(alias.server_name(), request, PATIENCE).await?;
        Ok((answer.room_id, answer.servers))
    }

    /// The room that an id or an alias means, and servers that may know it.
    ///
    /// # Errors
    /// 404 when nobody knows the alias. Dropping the future is safe.
    pub async fn resolve(
        &self,
        room: &RoomOrAliasId,
        mut via: Vec<OwnedServerName>,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>), Error> {
        if let Ok(room_id) = <&RoomId>::try_from(room) {
            return Ok((room_id.to_owned(), via));
        }
        let alias =
            <&RoomAliasId>::try_from(room).map_err(|_| Error::invalid_param("neither a room id nor an alias"))?;
        let (room_id, servers) = self.resolve_alias(alias).await?;
        via.extend(servers);
        Ok((room_id, via))
    }

    /// The linked servers that may know a room, the likeliest first.
    pub(crate) fn candidates(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: Vec<OwnedServerName>,
    ) -> Result<Vec<OwnedServerName>, Error> {
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let (us, known) = (self.core.identity(), rows::room(view, room_id)?.map(|(_, room)| room));
        let (known, guard) = (known.as_ref(), self.core.guard());
        let mut all: Vec<OwnedServerName> = inviters(view, user, room_id)?;
        all.extend(via);
        all.extend(servers_in(view, room_id)?);
        all.extend(room_id.server_name().map(ToOwned::to_owned));
        let mut servers = Vec::new();
        for server in all {
            if guard.check_server(view, &server).is_ok()
                && !servers.contains(&server)
                && peers::route(view, us, &server)?.is_some_and(|way| known.is_none_or(|room| way.carries(room)))
            {
                servers.push(server);
            }
        }
        if servers.is_empty() && us.is_dns_named() {
            return Err(Error::not_found("no server of that room is known: name one with `via`"));
        }
        if servers.is_empty() {
            let message = "no server of that room is linked with this node; exchange contact links with a member first";
            return Err(Error::not_found(message));
        }
        Ok(servers)
    }
}

/// Tries servers in turn until one does what is asked, or refuses it in a way that is the last word.
async fn in_turn<'a>(
    servers: Vec<OwnedServerName>,
    is_final: impl Fn(&Error) -> bool,
    attempt: impl Fn(OwnedServerName) -> BoxFuture<'a, Result<(), Error>>,
) -> Result<(), Error> {
    let mut failure = Error::not_found("no server knows that room");
    for server in servers {
        match attempt(server).await {
            Ok(()) => return Ok(()),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Servers with joined members, as far as we know.
fn servers_in(view: View<'_>, room_id: &RoomId) -> Result<Vec<OwnedServerName>, Error> {
    let Some(room) = rows::room_short(view, room_id)? else { return Ok(Vec::new()) };
    let rows = view.scan(tables::ROOM_SERVERS, (room,))?;
    rows.map(|row| Ok(row?.0.1)).collect()
}

/// The servers of those who invited the user, from the stripped state of the invite.
fn inviters(view: View<'_>, user: &UserId, room_id: &RoomId) -> Result<Vec<OwnedServerName>, Error> {
    #[derive(serde::Deserialize)]
    struct Stripped {
        sender: ruma::OwnedUserId,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        state_key: String,
    }
    let Some(room) = rows::room_short(view, room_id)? else { return Ok(Vec::new()) };
    let Some(shown) = view.get(tables::STRIPPED, (user, room))? else { return Ok(Vec::new()) };
    let shown: Vec<Stripped> = serde_json::from_str(&shown).unwrap_or_default();
    let own = shown.iter().filter(|event| event.kind == "m.room.member" && event.state_key == user.as_str());
    Ok(own.map(|event| event.sender.server_name().to_owned()).collect())
}

/// The user's membership, whether the room is here or not.
fn membership(view: View<'_>, user: &UserId, room_id: &RoomId) -> Result<Option<MembershipState>, Error> {
    let Some(room) = rows::room_short(view, room_id)? else { return Ok(None) };
    Ok(current::membership(view, room, user)?.map(|row| row.membership))
}
