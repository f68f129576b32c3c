//! The filter of a list: which rooms of the user are in it.

use std::collections::HashSet;

use millpond_store::{
    rows::{Membership, RoomShort},
    tables,
};
use ruma::{OwnedRoomId, events::room::member::MembershipState};
use serde::Deserialize;

use super::{
    lists::Asker,
    request::{Filters, MEMBER},
};
use crate::{
    Error,
    rooms::{current, rows},
};

/// The filter of a list, with what it compares rooms with.
pub(super) struct Filter<'f> {
    asker: &'f Asker<'f>,
    filters: Option<&'f Filters>,
    in_spaces: HashSet<String>,
    name_like: Option<String>,
}

impl<'f> Filter<'f> {
    pub(super) fn new(asker: &'f Asker<'f>, filters: Option<&'f Filters>) -> Result<Self, Error> {
        let spaces = filters.and_then(|filters| filters.spaces.as_deref()).unwrap_or_default();
        let mut in_spaces = HashSet::new();
        for space in spaces {
            in_spaces.extend(asker.children(space)?);
        }
        let name_like = filters.and_then(|filters| filters.room_name_like.as_ref()).map(|name| name.to_lowercase());
        Ok(Self { asker, filters, in_spaces, name_like })
    }

    /// Whether a room is in the list.
    pub(super) fn takes(&self, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        let Some(filters) = self.filters else { return Ok(true) };
        if filters.is_invite.is_some_and(|wanted| wanted != (row.membership == MembershipState::Invite)) {
            return Ok(false);
        }
        Ok(self.takes_id(filters, room)?
            && self.takes_kind(filters, room, row)?
            && self.takes_encryption(filters, room, row)?
            && self.takes_name(room, row)?)
    }

    fn takes_id(&self, filters: &Filters, room: RoomShort) -> Result<bool, Error> {
        let asks = filters.is_dm.is_some()
            || filters.spaces.is_some()
            || filters.tags.is_some()
            || !filters.not_tags.is_empty();
        if !asks {
            return Ok(true);
        }
        let Asker { sync, view, user, rooms, .. } = self.asker;
        let nature = sync.heads.nature(*view, room)?;
        if let Some(wanted) = filters.is_dm
            && wanted != rooms.direct(*view, user)?.contains(&nature.room_id)
        {
            return Ok(false);
        }
        if filters.spaces.is_some() && !self.in_spaces.contains(nature.room_id.as_str()) {
            return Ok(false);
        }
        if filters.tags.is_none() && filters.not_tags.is_empty() {
            return Ok(true);
        }
        let tags = rooms.tags(*view, user)?.get(&nature.room_id);
        let has = |tag: &String| tags.is_some_and(|tags| tags.contains(tag));
        Ok(filters.tags.as_ref().is_none_or(|wanted| wanted.iter().any(has)) && !filters.not_tags.iter().any(has))
    }

    fn takes_kind(&self, filters: &Filters, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Create {
            #[serde(default, rename = "type")]
            kind: Option<String>,
        }
        if filters.room_types.is_none() && filters.not_room_types.is_empty() {
            return Ok(true);
        }
        let mut kind = self.asker.sync.heads.nature(self.asker.view, room)?.kind.clone();
        if kind.is_none() && row.membership != MembershipState::Join {
            kind = self.asker.stripped::<Create>(room, "m.room.create")?.and_then(|create| create.kind);
        }
        let wanted = filters.room_types.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        Ok(wanted && !filters.not_room_types.contains(&kind))
    }

    fn takes_encryption(&self, filters: &Filters, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        const ENCRYPTION: &str = "m.room.encryption";
        let Some(wanted) = filters.is_encrypted else { return Ok(true) };
        let mut found = current::entry(self.asker.view, room, ENCRYPTION, "")?.is_some();
        if !found && row.membership != MembershipState::Join {
            found = self.asker.stripped::<serde::de::IgnoredAny>(room, ENCRYPTION)?.is_some();
        }
        Ok(found == wanted)
    }

    fn takes_name(&self, room: RoomShort, row: &Membership) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Name {
            #[serde(default)]
            name: String,
        }
        let Some(wanted) = &self.name_like else { return Ok(true) };
        let mut name = current::content::<Name>(self.asker.view, room, "m.room.name", "")?;
        if name.is_none() && row.membership != MembershipState::Join {
            name = self.asker.stripped::<Name>(room, "m.room.name")?;
        }
        Ok(name.is_some_and(|name| name.name.to_lowercase().contains(wanted)))
    }
}

impl Asker<'_> {
    /// The rooms that a space names as its children, if the user is in it.
    fn children(&self, space: &str) -> Result<HashSet<String>, Error> {
        #[derive(Deserialize)]
        struct Child {
            via: Vec<String>,
        }
        let Ok(space) = OwnedRoomId::try_from(space) else { return Ok(HashSet::new()) };
        let room = rows::room_short(self.view, &space)?.filter(|room| self.rooms.joined.contains(room));
        let Some(room) = room else { return Ok(HashSet::new()) };
        let mut children = HashSet::new();
        for row in self.view.scan(tables::ROOM_STATE, (room, "m.space.child"))? {
            let ((_, _, child), event) = row?;
            let row = rows::event(self.view, event)?;
            // One that was taken away has no `via` any more.
            let content = serde_json::from_str::<Child>(row.header.content.of(&row.json));
            if content.is_ok_and(|content| !content.via.is_empty()) {
                children.insert(child);
            }
        }
        Ok(children)
    }

    /// The content of an event that the user was shown with an invite or a knock.
    fn stripped<T: for<'de> Deserialize<'de>>(&self, room: RoomShort, kind: &str) -> Result<Option<T>, Error> {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(rename = "type")]
            kind: String,
            #[serde(borrow)]
            content: &'a serde_json::value::RawValue,
        }
        let shown = self.view.get(tables::STRIPPED, (self.user, room))?.unwrap_or_default();
        let events = serde_json::from_str::<Vec<Event<'_>>>(&shown).unwrap_or_default();
        let event = events.into_iter().find(|event| event.kind == kind && kind != MEMBER);
        Ok(event.and_then(|event| serde_json::from_str(event.content.get()).ok()))
    }
}
