//! What of a room a server may see: the event must be in the named room, and the history visibility around it decides
//! (server-server spec, "Restrictions on the events that a server may see"). A server that was never in the room is told
//! the same as one that asks for a room that is not here.

use std::collections::{BTreeSet, HashMap};

use millpond_matrix::{
    Pdu, PduFlags,
    redact::redact,
    visibility::{history_visibility, membership, server_may_see},
};
use millpond_store::{
    View,
    rows::{EventRow, EventShort, Room, RoomShort, StateGroup, StateKeyShort},
    tables,
};
use ruma::{
    EventId, OwnedUserId, RoomId, UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use serde_json::value::RawValue;

use super::{
    Federation, Origin, check_acl, is_in,
    member_events::{known_rules, raw},
};
use crate::{
    Error, erasure,
    rooms::{groups, rows},
};

/// A room through the eyes of one server.
pub(super) struct Sight<'a> {
    pub(super) view: View<'a>,
    pub(super) room: (RoomShort, Room),
    origin: &'a Origin,
    /// A user of it is joined now.
    present: bool,
    /// The member entries of its users, and the entry of the history visibility.
    members: Vec<StateKeyShort>,
    visibility: Option<StateKeyShort>,
    known: HashMap<StateGroup, (HistoryVisibility, Vec<MembershipState>)>,
    /// Users of ours who want to be forgotten.
    erased: BTreeSet<OwnedUserId>,
}

/// How much of an event a server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// As it is.
    Whole,
    /// Redacted: its place in the DAG, and what auth needs.
    Redacted,
    /// Nothing: nobody takes a rejected event.
    Nothing,
}

impl Federation {
    /// A room for a server that is in it, or was.
    ///
    /// # Errors
    /// 403 for all other servers and for rooms that are not here; they look alike.
    pub(super) fn sight<'a>(&self, view: View<'a>, origin: &'a Origin, room_id: &RoomId) -> Result<Sight<'a>, Error> {
        let stranger = || Error::forbidden("your server is not in that room, or this one is not");
        self.resident(view, origin, room_id).map_err(|error| match error {
            Error::Matrix { .. } => stranger(),
            error => error,
        })?;
        let room = self.whole(view, origin, room_id)?;
        check_acl(view, room.0, &origin.server)?;
        let present = is_in(view, room.0, &origin.server)?;
        let members = member_keys(view, room.0, origin)?;
        if !present && members.is_empty() {
            return Err(stranger());
        }
        let visibility = rows::state_key_short(view, "m.room.history_visibility", "")?;
        Ok(Sight {
            view,
            room,
            origin,
            present,
            members,
            visibility,
            known: HashMap::new(),
            erased: erasure::erased(view)?,
        })
    }
}

/// The member entries, of any membership, of a server's users.
fn member_keys(view: View<'_>, room: RoomShort, origin: &Origin) -> Result<Vec<StateKeyShort>, Error> {
    let mut keys = Vec::new();
    for row in view.scan(tables::ROOM_STATE, (room, "m.room.member"))? {
        let ((_, kind, state_key), _) = row?;
        let theirs = <&UserId>::try_from(state_key.as_str()).is_ok_and(|user| user.server_name() == origin.server);
        if theirs && let Some(key) = rows::state_key_short(view, &kind, &state_key)? {
            keys.push(key);
        }
    }
    Ok(keys)
}

impl Sight<'_> {
    /// An event of this room.
    ///
    /// # Errors
    /// 404 when it is not here, or of another room.
    pub(super) fn event(&self, id: &EventId) -> Result<(EventShort, EventRow), Error> {
        let found = rows::event_in_room(self.view, self.room.0, id)?;
        found.ok_or_else(|| Error::not_found(format!("event {id} is not known in this room")))
    }

    /// How much the server may see of an event.
    pub(super) fn seen(&mut self, pdu: &Pdu, row: &EventRow) -> Result<Seen, Error> {
        if pdu.flags().rejected {
            return Ok(Seen::Nothing);
        }
        // What was purged here is redacted as it is stored.
        let Some(after) = row.meta.state_after.filter(|_| !row.meta.purged) else { return Ok(Seen::Redacted) };
        let (visibility, memberships) = self.at(after)?;
        if erasure::is_of(&self.erased, row) && !memberships.contains(&MembershipState::Join) {
            return Ok(Seen::Redacted);
        }
        // That an event was soft-failed here is nothing to those who follow it.
        let pdu = pdu.clone().with_flags(PduFlags::default());
        let seen = if self.present {
            server_may_see(&pdu, &self.origin.server, &visibility, memberships)
        } else {
            // Who has left sees what was said while a user of his was there; the event that removed the last one is his.
            let own = pdu.state_key().and_then(|key| <&UserId>::try_from(key).ok());
            visibility == HistoryVisibility::WorldReadable
                || memberships.contains(&MembershipState::Join)
                || own.is_some_and(|user| user.server_name() == self.origin.server)
        };
        Ok(if seen { Seen::Whole } else { Seen::Redacted })
    }

    /// The event as the server gets it, for answers that are about a stretch of the DAG.
    pub(super) fn show(&mut self, row: EventRow) -> Result<Option<Box<RawValue>>, Error> {
        let pdu = rows::pdu(&self.room.1.room_id, row.clone())?;
        match self.seen(&pdu, &row)? {
            Seen::Whole => raw(row.json).map(Some),
            Seen::Nothing => Ok(None),
            Seen::Redacted => {
                let redacted = redact(&pdu, known_rules(&self.room.1)?).map_err(|e| Error::internal(e.to_string()))?;
                raw(redacted.json().into()).map(Some)
            }
        }
    }

    /// What the state with an event says: the event itself is in it, which either side of a change allows.
    fn at(&mut self, group: StateGroup) -> Result<(HistoryVisibility, Vec<MembershipState>), Error> {
        if let Some(known) = self.known.get(&group) {
            return Ok(known.clone());
        }
        let state = (self.members.len() > FEW).then(|| groups::state(self.view, group)).transpose()?;
        let entry = |key: StateKeyShort| match &state {
            Some(state) => Ok(state.get(&key).copied()),
            None => groups::entry(self.view, group, key),
        };
        let pdu = |event: Option<EventShort>| -> Result<_, Error> {
            let Some(event) = event else { return Ok(None) };
            Ok(Some(rows::pdu(&self.room.1.room_id, rows::event(self.view, event)?)?))
        };
        let visibility = self.visibility.map(&entry).transpose()?.flatten();
        let visibility = history_visibility(pdu(visibility)?.as_deref());
        let mut memberships = Vec::new();
        for key in &self.members {
            memberships.push(membership(pdu(entry(*key)?)?.as_deref()));
        }
        self.known.insert(group, (visibility.clone(), memberships.clone()));
        Ok((visibility, memberships))
    }
}

/// With more users than this the whole state is read once instead of entry by entry.
const FEW: usize = 16;
