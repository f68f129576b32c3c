//! Device lists as a stream: who changed, and who came into or went out of view, since a position.
//! Spec: client-server "Tracking the device list for a user".

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use millpond_store::{
    Error, Position, Topic, View, WriteTxn,
    rows::{DeviceOut, EventShort, Membership, RoomShort, StateChange, StateKeyShort},
    tables,
};
use ruma::{DeviceId, OwnedServerName, OwnedUserId, ServerName, UserId, events::room::member::MembershipState};

use super::{Keys, packs};
use crate::{peers::Route, rooms::current::membership_of, sync::token::Token};

/// `device_lists` of `/sync` and the answer of `/keys/changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceListChanges {
    /// Users whose keys should be asked for again.
    pub changed: BTreeSet<OwnedUserId>,
    /// Users who share no room any more.
    pub left: BTreeSet<OwnedUserId>,
}

impl Keys {
    /// What changed for a user between two sync tokens. Later changes are in the answer as well: the log keeps the newest
    /// change of each user only, and a question too many harms nobody.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a token that is not ours; storage errors.
    pub fn changes(&self, user: &UserId, from: &str, to: &str) -> Result<DeviceListChanges, crate::Error> {
        let (from, _) = (position("from", from)?, position("to", to)?);
        Ok(device_lists(self.core.snapshot()?.view(), user, from)?)
    }
}

fn position(name: &str, token: &str) -> Result<Position, crate::Error> {
    let foreign = |_| crate::Error::invalid_param(format!("`{name}` is not a token of this server"));
    Token::parse(token).map(|token| token.position).map_err(foreign)
}

/// What changed for `user` after `since`.
///
/// # Errors
/// Storage errors.
pub fn device_lists(view: View<'_>, user: &UserId, since: Position) -> Result<DeviceListChanges, Error> {
    let rooms = Rooms::of(view, user, since)?;
    let mut changes = DeviceListChanges::default();
    for row in view.range(tables::DEVICE_LIST_LOG, Bound::Excluded(since.0), Bound::<u64>::Unbounded)? {
        let (_, other) = row?;
        if other == user || rooms.shared_with(view, &other)?.now {
            changes.changed.insert(other);
        }
    }
    let signed =
        view.range(tables::SIGNATURE_LOG, Bound::Excluded((user, since.0)), Bound::Included((user, u64::MAX)))?;
    for row in signed {
        changes.changed.insert(row?.1);
    }
    for other in rooms.whose_sharing_may_differ(view, user)? {
        match rooms.shared_with(view, &other)? {
            Shared { now: true, before: false } => drop(changes.changed.insert(other)),
            Shared { now: false, before: true } => drop(changes.left.insert(other)),
            _ => {}
        }
    }
    Ok(changes)
}

/// Notes that the keys of a user, local or remote, are not what they were, and wakes those who should know.
pub(crate) fn record_change(txn: &mut WriteTxn<'_>, user: &UserId) -> Result<(), Error> {
    let position = txn.next_position().0;
    if let Some(earlier) = txn.view().get(tables::DEVICE_LIST_HEAD, user)? {
        txn.remove(tables::DEVICE_LIST_LOG, earlier)?;
    }
    txn.put(tables::DEVICE_LIST_LOG, position, &user.to_owned())?;
    txn.put(tables::DEVICE_LIST_HEAD, user, &position)?;
    txn.touch(Topic::User(user.to_owned()));
    // Everybody who shares a room waits for that room: cheaper to name the rooms than the people in them.
    for room in joined_rooms(txn.view(), user)? {
        txn.touch(Topic::Room(room));
    }
    Ok(())
}

/// [`record_change`] for a local user, and queues the change for peers: `device`, or (none) the cross-signing keys.
pub(crate) fn record_local_change(
    txn: &mut WriteTxn<'_>,
    user: &UserId,
    device: Option<&DeviceId>,
) -> Result<(), Error> {
    record_change(txn, user)?;
    let position = txn.next_position().0;
    let head = (user, device.map_or("", |device| device.as_str()));
    if let Some(earlier) = txn.view().get(tables::DEVICE_OUT_HEAD, head)? {
        txn.remove(tables::DEVICE_OUT_LOG, earlier)?;
    }
    let out = DeviceOut { user_id: user.to_owned(), device_id: device.map(ToOwned::to_owned) };
    txn.put(tables::DEVICE_OUT_LOG, position, &out)?;
    txn.put(tables::DEVICE_OUT_HEAD, head, &position)?;
    packs::due(txn, user)?;
    for server in servers_sharing(txn.view(), user)? {
        txn.touch(Topic::Outbox(server));
    }
    Ok(())
}

/// The rooms that a user is joined to.
pub(crate) fn joined_rooms(view: View<'_>, user: &UserId) -> Result<Vec<RoomShort>, Error> {
    let mut rooms = Vec::new();
    for (room, membership) in memberships(view, user)? {
        if is_joined(&membership) {
            rooms.push(room);
        }
    }
    Ok(rooms)
}

/// Whether a server has a member in a room with this user.
pub(crate) fn shares_room_with(view: View<'_>, user: &UserId, server: &ServerName) -> Result<bool, Error> {
    for room in joined_rooms(view, user)? {
        if view.contains(tables::ROOM_SERVERS, (room, server))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a server has a member in a room with this user that the route may carry.
pub(crate) fn shares_room_by(view: View<'_>, user: &UserId, server: &ServerName, route: Route) -> Result<bool, Error> {
    for room in joined_rooms(view, user)? {
        if view.contains(tables::ROOM_SERVERS, (room, server))?
            && route.carries(&crate::rooms::rows::room_row(view, room)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A user's memberships by room.
pub(crate) fn memberships(view: View<'_>, user: &UserId) -> Result<BTreeMap<RoomShort, Membership>, Error> {
    let rows = view.scan(tables::MEMBERSHIPS, (user,))?;
    rows.map(|row| row.map(|((_, room), membership)| (room, membership))).collect()
}

/// Whether two users share a room now, and (second) have shared one without a break since a position.
pub(crate) fn sharing_since(
    view: View<'_>,
    mine: &BTreeMap<RoomShort, Membership>,
    (user, other): (&UserId, &UserId),
    since: Position,
) -> Result<(bool, bool), Error> {
    let mut now = false;
    for row in view.scan(tables::MEMBERSHIPS, (other,))? {
        let ((_, room), theirs) = row?;
        let Some(ours) = mine.get(&room).filter(|ours| is_joined(ours) && is_joined(&theirs)) else { continue };
        now = true;
        if ours.position <= since.0 && theirs.position <= since.0 {
            return Ok((true, true));
        }
        // The member event is newer; that may have been a change of name only.
        let changes = member_changes(view, room, since)?;
        let unbroken = |user: &UserId, row: &Membership| {
            row.position <= since.0 || changes.get(user).is_some_and(|change| change.unbroken)
        };
        if unbroken(user, ours) && unbroken(other, &theirs) {
            return Ok((true, true));
        }
    }
    Ok((now, false))
}

/// The rooms that a user is joined to, or was at some position.
struct Rooms(BTreeMap<RoomShort, Room>);

struct Room {
    now: bool,
    before: bool,
    /// Members whose entry changed since.
    changes: BTreeMap<OwnedUserId, MemberChange>,
}

/// Whether two users share a room, and did.
struct Shared {
    now: bool,
    before: bool,
}

/// What happened to a member since a position.
struct MemberChange {
    /// Was joined at the position.
    before: bool,
    /// Was joined all the time since.
    unbroken: bool,
}

impl Rooms {
    fn of(view: View<'_>, user: &UserId, since: Position) -> Result<Self, Error> {
        let mut rooms = BTreeMap::new();
        for (room, membership) in memberships(view, user)? {
            let (now, changed) = (is_joined(&membership), membership.position > since.0);
            if !now && !changed {
                continue;
            }
            let changes = member_changes(view, room, since)?;
            let before = changes.get(user).map_or(now && !changed, |change| change.before);
            rooms.insert(room, Room { now, before, changes });
        }
        Ok(Self(rooms))
    }

    fn shared_with(&self, view: View<'_>, other: &UserId) -> Result<Shared, Error> {
        let mut shared = Shared { now: false, before: false };
        for row in view.scan(tables::MEMBERSHIPS, (other,))? {
            let ((_, room), theirs) = row?;
            let Some(room) = self.0.get(&room) else { continue };
            let theirs_before = room.changes.get(other).map_or(is_joined(&theirs), |change| change.before);
            shared.now |= room.now && is_joined(&theirs);
            shared.before |= room.before && theirs_before;
        }
        Ok(shared)
    }

    /// Those who came or went, and everybody in rooms where the user himself did.
    fn whose_sharing_may_differ(&self, view: View<'_>, user: &UserId) -> Result<BTreeSet<OwnedUserId>, Error> {
        let mut others = BTreeSet::new();
        for (short, room) in &self.0 {
            others.extend(room.changes.keys().cloned());
            if room.now != room.before {
                others.extend(members(view, *short)?);
            }
        }
        others.remove(user);
        Ok(others)
    }
}

fn members(view: View<'_>, room: RoomShort) -> Result<Vec<OwnedUserId>, Error> {
    let mut found = Vec::new();
    for row in view.scan(tables::ROOM_STATE, (room, "m.room.member"))? {
        let ((_, _, state_key), _) = row?;
        let Ok(user) = OwnedUserId::try_from(state_key) else { continue };
        if view.get(tables::MEMBERSHIPS, (&user, room))?.is_some_and(|membership| is_joined(&membership)) {
            found.push(user);
        }
    }
    Ok(found)
}

/// Who of a room's members changed since a position, in one pass over its log.
fn member_changes(
    view: View<'_>,
    room: RoomShort,
    since: Position,
) -> Result<BTreeMap<OwnedUserId, MemberChange>, Error> {
    let mut changes = BTreeMap::<OwnedUserId, MemberChange>::new();
    let from = Bound::Included((room, since.0.saturating_add(1), StateKeyShort(0)));
    let to = Bound::Included((room, u64::MAX, StateKeyShort(u64::MAX)));
    for row in view.range(tables::ROOM_STATE_LOG, from, to)? {
        let ((_, _, state_key), StateChange { event, replaces }) = row?;
        let Some(name) = view.get(tables::STATE_KEY_NAMES, state_key)? else { continue };
        if name.kind != "m.room.member" {
            continue;
        }
        let Ok(user) = OwnedUserId::try_from(name.state_key) else { continue };
        let after = says_join(view, event)?;
        match changes.get_mut(&user) {
            Some(change) => change.unbroken &= after,
            None => {
                let before = says_join(view, replaces)?;
                changes.insert(user, MemberChange { before, unbroken: before && after });
            }
        }
    }
    Ok(changes)
}

fn says_join(view: View<'_>, member_event: Option<EventShort>) -> Result<bool, Error> {
    let Some(event) = member_event else { return Ok(false) };
    let row = view.get(tables::EVENTS, event)?;
    Ok(row.is_some_and(|row| membership_of(&row) == MembershipState::Join))
}

/// The servers in the rooms of a user of ours.
pub(crate) fn servers_sharing(view: View<'_>, user: &UserId) -> Result<BTreeSet<OwnedServerName>, Error> {
    let mut servers = BTreeSet::new();
    for room in joined_rooms(view, user)? {
        for row in view.scan(tables::ROOM_SERVERS, (room,))? {
            servers.insert(row?.0.1);
        }
    }
    servers.remove(user.server_name());
    Ok(servers)
}

fn is_joined(membership: &Membership) -> bool {
    membership.membership == MembershipState::Join
}
