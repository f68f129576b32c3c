//! What one user may see of one room: history visibility and membership around each event (client-server spec, "Room
//! history visibility"), read from state groups and remembered by group, since neighbours mostly share one.

use std::{cell::RefCell, collections::HashMap};

use millpond_matrix::visibility::Sight;
use millpond_store::{
    Error, View,
    rows::{EventRow, EventShort, RoomShort, StateGroup, StateKeyShort},
    tables,
};
use ruma::{
    UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use serde::Deserialize;

use crate::{
    json::unquote,
    rooms::{current, rows},
};

/// The sight of one user on one room.
pub(crate) struct RoomSight<'v> {
    view: View<'v>,
    room: RoomShort,
    user: &'v UserId,
    head: Option<StateGroup>,
    /// State keys of the history visibility and of the user's membership, if any event ever had them.
    keys: [Option<StateKeyShort>; 2],
    /// Up to where the user was joined last.
    joined_until: JoinedUntil,
    groups: RefCell<HashMap<StateGroup, Sight>>,
}

/// Up to where somebody was joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinedUntil {
    /// Never joined.
    Never,
    /// Joined once; this timeline position ended it.
    Position(i64),
    /// Joined now.
    Now,
}

impl<'v> RoomSight<'v> {
    pub(crate) fn new(view: View<'v>, room: RoomShort, user: &'v UserId) -> Result<Self, Error> {
        let visibility = rows::state_key_short(view, VISIBILITY, "")?;
        let member = rows::state_key_short(view, MEMBER, user.as_str())?;
        Ok(Self {
            view,
            room,
            user,
            head: view.get(tables::ROOM_HEADS, room)?.map(|head| head.group),
            keys: [visibility, member],
            joined_until: joined_until(view, room, user)?,
            groups: RefCell::default(),
        })
    }

    /// Up to where the user was joined last.
    pub(crate) fn joined_until(&self) -> JoinedUntil {
        self.joined_until
    }

    /// What the current state says.
    pub(crate) fn now(&self) -> Result<Sight, Error> {
        let visibility = current::entry(self.view, self.room, VISIBILITY, "")?;
        let member = current::entry(self.view, self.room, MEMBER, self.user.as_str())?;
        self.of(visibility, member)
    }

    /// What the state after an event says; none for outliers.
    pub(crate) fn after(&self, row: &EventRow) -> Result<Option<Sight>, Error> {
        row.meta.state_after.map(|group| self.at(group)).transpose()
    }

    /// Whether the user may see an event. One's own memberships are always seen: who is removed must learn of it.
    pub(crate) fn shows(&self, row: &EventRow) -> Result<bool, Error> {
        if row.header.flags.rejected || row.header.flags.soft_failed || row.meta.purged {
            return Ok(false);
        }
        if self.is_own_member(row) {
            return Ok(true);
        }
        let Some(after) = self.after(row)? else { return Ok(false) };
        let joined_later = match (self.joined_until, row.meta.position) {
            (JoinedUntil::Now, _) => true,
            (JoinedUntil::Position(end), Some(position)) => position < end,
            _ => false,
        };
        if after.shows(joined_later) {
            return Ok(true);
        }
        // Either side of a change of the visibility will do.
        if row.header.kind.of(&row.json) != QUOTED_VISIBILITY || row.header.state_key.is_none() {
            return Ok(false);
        }
        let before = Sight { visibility: self.visibility(row.meta.replaces)?, ..after };
        Ok(before.shows(joined_later))
    }

    fn is_own_member(&self, row: &EventRow) -> bool {
        row.header.kind.of(&row.json) == QUOTED_MEMBER
            && row.header.state_key.is_some_and(|key| unquote(key.of(&row.json)) == self.user.as_str())
    }

    fn at(&self, group: StateGroup) -> Result<Sight, Error> {
        if let Some(known) = self.groups.borrow().get(&group) {
            return Ok(known.clone());
        }
        let sight = if self.head == Some(group) { self.now()? } else { self.walk(group)? };
        self.groups.borrow_mut().insert(group, sight.clone());
        Ok(sight)
    }

    /// Reads a group that is not the current one; its depth bounds the recursion.
    fn walk(&self, group: StateGroup) -> Result<Sight, Error> {
        let row = self.view.get(tables::STATE_GROUPS, group)?;
        let row = row.ok_or_else(|| rows::dangling("STATE_GROUPS", group.0))?;
        let changed = |key: Option<StateKeyShort>| {
            let change = row.changes.iter().find(|(changed, _)| Some(*changed) == key);
            change.map(|(_, event)| *event)
        };
        let [visibility, member] = self.keys.map(changed);
        let mut sight = match (row.parent, visibility, member) {
            (Some(parent), ..) => self.at(parent)?,
            (None, ..) => self.of(None, None)?,
        };
        if let Some(event) = visibility {
            sight.visibility = self.visibility(event)?;
        }
        if let Some(event) = member {
            sight.membership = self.membership(event)?;
        }
        Ok(sight)
    }

    fn of(&self, visibility: Option<EventShort>, member: Option<EventShort>) -> Result<Sight, Error> {
        Ok(Sight { visibility: self.visibility(visibility)?, membership: self.membership(member)? })
    }

    fn visibility(&self, event: Option<EventShort>) -> Result<HistoryVisibility, Error> {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: HistoryVisibility,
        }
        let Some(event) = event else { return Ok(HistoryVisibility::Shared) };
        let row = rows::event(self.view, event)?;
        let content = serde_json::from_str::<Content>(row.header.content.of(&row.json));
        // What is not one of the four counts as the default.
        Ok(match content.map(|content| content.history_visibility) {
            Ok(HistoryVisibility::WorldReadable) => HistoryVisibility::WorldReadable,
            Ok(HistoryVisibility::Joined) => HistoryVisibility::Joined,
            Ok(HistoryVisibility::Invited) => HistoryVisibility::Invited,
            _ => HistoryVisibility::Shared,
        })
    }

    fn membership(&self, event: Option<EventShort>) -> Result<MembershipState, Error> {
        let Some(event) = event else { return Ok(MembershipState::Leave) };
        Ok(current::membership_of(&rows::event(self.view, event)?))
    }
}

fn joined_until(view: View<'_>, room: RoomShort, user: &UserId) -> Result<JoinedUntil, Error> {
    let Some(row) = current::membership(view, room, user)? else { return Ok(JoinedUntil::Never) };
    if row.membership == MembershipState::Join {
        return Ok(JoinedUntil::Now);
    }
    // The chain of the user's member events, newest first: the one after a join ended it.
    let mut event = row.event;
    for _ in 0..CHAIN_MAX {
        let Some(this) = event.map(|event| rows::event(view, event)).transpose()? else { break };
        let Some(before) = this.meta.replaces else { break };
        if current::membership_of(&rows::event(view, before)?) == MembershipState::Join {
            return Ok(this.meta.position.map_or(JoinedUntil::Never, JoinedUntil::Position));
        }
        event = Some(before);
    }
    Ok(JoinedUntil::Never)
}

/// Memberships (invited, left, invited again) that are walked to find the last time somebody was joined.
const CHAIN_MAX: usize = 32;
const VISIBILITY: &str = "m.room.history_visibility";
const MEMBER: &str = "m.room.member";
const QUOTED_VISIBILITY: &str = "\"m.room.history_visibility\"";
const QUOTED_MEMBER: &str = "\"m.room.member\"";
