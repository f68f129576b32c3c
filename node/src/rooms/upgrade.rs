//! Upgrading a room (client-server API, "Room Upgrades"): the replacement, the tombstone, the aliases and the closing of
//! the old room in one job. What its members carry over by themselves is in [`super::inherit`].

use millpond_matrix::{
    CheckedPdu,
    build::EventDraft,
    create_room,
    rules::{RoomRules, rules},
};
use millpond_store::{
    WriteTxn, job,
    rows::{Alias, Room},
    tables,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId,
    OwnedUserId, RoomId, RoomVersionId, UserId, events::TimelineEventType,
};

use self::replica::Replica;
use super::{Rooms, apply, create, current, inherit, known_room, local, membership, rows, signer};
use crate::{Core, Error};

mod levels;
mod replica;

impl Rooms {
    /// Replaces a room by one of another version. Dropping the future does not take it back.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`; 403 for who may not end the room; `M_INVALID_ROOM_STATE` when the rules of the new
    /// version refuse what the old room has; storage errors.
    pub async fn upgrade(
        &self,
        user: &UserId,
        room_id: &RoomId,
        version: RoomVersionId,
        additional_creators: Vec<OwnedUserId>,
    ) -> Result<OwnedRoomId, Error> {
        let rules = create::supported(&version)?;
        let Replica { room, overlay, last_levels } = self.replica(user, room_id, rules, &additional_creators)?;
        let now = room.now;
        let mut drafts = create_room::plan(rules, room).map_err(local::create_error)?;
        if let Some(content) = last_levels {
            drafts.push(state(user, now, "m.room.power_levels", "", content));
        }
        let drawn = RoomId::new_v1(self.core.identity().server_name());
        let pdus = create_room::sign(rules, &drawn, drafts, &signer(&self.core)).map_err(local::create_error)?;
        let new_id = pdus.first().ok_or_else(|| Error::internal("a room without events"))?.room_id().to_owned();
        let new = Room { room_id: new_id.clone(), version, overlay };
        self.write_upgrade(user, room_id, new, pdus).await?;
        Ok(new_id)
    }

    async fn write_upgrade(&self, user: &UserId, old: &RoomId, new: Room, pdus: Vec<CheckedPdu>) -> Result<(), Error> {
        let (core, write_core) = (self.core.clone(), self.core.clone());
        let (user, old, now) = (user.to_owned(), old.to_owned(), self.core.clock().now());
        let (write_user, write_old) = (user.clone(), old.clone());
        let body = "This room has been replaced".to_owned();
        let tombstone: CanonicalJsonObject = [
            ("body".to_owned(), CanonicalJsonValue::String(body)),
            ("replacement_room".to_owned(), CanonicalJsonValue::String(new.room_id.to_string())),
        ]
        .into();
        let upgrade = job(
            move |view| local::plan(&core, view, &old, state(&user, now, "m.room.tombstone", "", tombstone.clone())),
            move |planned: local::Planned, txn| {
                let short = rows::intern_room(txn, &new)?;
                let context = apply::Context { owed: apply::Owed::AllBut(Default::default()), ..Default::default() };
                for pdu in &pdus {
                    let applied = apply::decide_and_write(txn, write_core.identity(), (short, &new), pdu, &context)?;
                    membership::after_member_event(&write_core, txn, (short, &new), pdu, applied.event)?;
                }
                local::write(&write_core, txn, planned, None)?;
                let by = (&*write_user, now);
                close(&write_core, txn, by, &write_old)?;
                move_aliases(&write_core, txn, by, &write_old, &new.room_id)?;
                move_in_parents(&write_core, txn, by, &write_old, &new.room_id)?;
                inherit::settings(txn, &write_user, &write_old, &new.room_id)
            },
        );
        self.core.write(upgrade).await?;
        Ok(())
    }
}

type By<'a> = (&'a UserId, MilliSecondsSinceUnixEpoch);

/// A state event of the user who upgrades.
fn state(
    user: &UserId,
    now: MilliSecondsSinceUnixEpoch,
    kind: &str,
    state_key: &str,
    content: CanonicalJsonObject,
) -> EventDraft {
    let draft = EventDraft::new(TimelineEventType::from(kind), content, user.to_owned(), now);
    EventDraft { state_key: Some(state_key.to_owned()), ..draft }
}

/// Sends a state event if the room lets the user; what only tidies up must not hold the upgrade up.
fn send_if_allowed(
    core: &Core,
    txn: &mut WriteTxn<'_>,
    room_id: &RoomId,
    draft: EventDraft,
) -> Result<(), millpond_store::Error> {
    match local::plan(core, txn.view(), room_id, draft) {
        Ok(planned) => local::write(core, txn, planned, None).map(drop),
        Err(Error::Store(error)) => Err(error),
        Err(_) => Ok(()),
    }
}

/// Raises the levels for sending and inviting in the old room to the greater of 50 and `users_default + 1`.
fn close(core: &Core, txn: &mut WriteTxn<'_>, (user, now): By<'_>, old: &RoomId) -> Result<(), millpond_store::Error> {
    let Some(room) = rows::room_short(txn.view(), old)? else { return Ok(()) };
    let kind = "m.room.power_levels";
    let Some(mut content) = current::content::<CanonicalJsonObject>(txn.view(), room, kind, "")? else {
        return Ok(());
    };
    let level = |content: &CanonicalJsonObject, name: &str| content.get(name).and_then(CanonicalJsonValue::as_integer);
    let above = level(&content, "users_default").unwrap_or_default().saturating_add(Int::from(1)).max(Int::from(50));
    let mut raised = false;
    for name in ["events_default", "invite"] {
        if level(&content, name).unwrap_or_default() < above {
            content.insert(name.to_owned(), CanonicalJsonValue::Integer(above));
            raised = true;
        }
    }
    if raised { send_if_allowed(core, txn, old, state(user, now, kind, "", content)) } else { Ok(()) }
}

/// The aliases made here and the place in the public list go to the new room; the old one is not called by them any more.
fn move_aliases(
    core: &Core,
    txn: &mut WriteTxn<'_>,
    (user, now): By<'_>,
    old: &RoomId,
    new: &RoomId,
) -> Result<(), millpond_store::Error> {
    let aliases: Vec<OwnedRoomAliasId> = txn
        .view()
        .scan(tables::ROOM_ALIASES, (old,))?
        .map(|row| row.map(|((_, id), ())| id))
        .collect::<Result<_, _>>()?;
    for alias in &aliases {
        let Some(row) = txn.view().get(tables::ALIASES, &**alias)? else { continue };
        txn.put(tables::ALIASES, &**alias, &Alias { room_id: new.to_owned(), ..row })?;
        txn.remove(tables::ROOM_ALIASES, (old, &**alias))?;
        txn.put(tables::ROOM_ALIASES, (new, &**alias), &())?;
    }
    if txn.remove(tables::PUBLISHED, old)? {
        txn.put(tables::PUBLISHED, new, &())?;
    }
    let Some(room) = rows::room_short(txn.view(), old)? else { return Ok(()) };
    if aliases.is_empty() || current::entry(txn.view(), room, "m.room.canonical_alias", "")?.is_none() {
        return Ok(());
    }
    send_if_allowed(core, txn, old, state(user, now, "m.room.canonical_alias", "", CanonicalJsonObject::new()))
}

/// Spaces that the old room names as its parents, and that have it as a child, get the new room in its place.
fn move_in_parents(
    core: &Core,
    txn: &mut WriteTxn<'_>,
    (user, now): By<'_>,
    old: &RoomId,
    new: &RoomId,
) -> Result<(), millpond_store::Error> {
    let Some(room) = rows::room_short(txn.view(), old)? else { return Ok(()) };
    let mut parents = Vec::new();
    for row in txn.view().scan(tables::ROOM_STATE, (room, "m.space.parent"))?.take(PARENTS_MAX) {
        parents.extend(OwnedRoomId::try_from(row?.0.2));
    }
    for parent in parents {
        let Some(space) = rows::room_short(txn.view(), &parent)? else { continue };
        let child: Option<CanonicalJsonObject> = current::content(txn.view(), space, "m.space.child", old.as_str())?;
        let Some(child) = child.filter(|child| child.contains_key("via")) else { continue };
        if !current::is_joined(txn.view(), space, user)? {
            continue;
        }
        send_if_allowed(core, txn, &parent, state(user, now, "m.space.child", new.as_str(), child))?;
        let gone = state(user, now, "m.space.child", old.as_str(), CanonicalJsonObject::new());
        send_if_allowed(core, txn, &parent, gone)?;
    }
    Ok(())
}

/// Parents of a room that are looked at.
const PARENTS_MAX: usize = 50;
