//! One sweep over everything that a device may not have seen, on one snapshot.

use std::{cell::Cell, collections::HashSet, sync::Arc};

use millpond_store::{
    View,
    rows::{Membership, RoomShort},
};
use ruma::{DeviceId, UserId, events::room::member::MembershipState};

use super::{Request, Sync, account_data, away, devices, joined, lazy, presence, token::Token};
use crate::{
    Error,
    json::{key, object_member, text_member},
    timeline::{
        reader::Who,
        select::{Select, takes_room},
    },
};

/// An answer.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// There is something in it for which a waiting client should be woken.
    pub(super) news: bool,
    pub(super) token: Token,
    /// The rooms that the user is joined to.
    pub(super) rooms: Arc<HashSet<RoomShort>>,
}

/// What the parts of an answer are made from.
pub(super) struct Sweep<'v> {
    pub(super) view: View<'v>,
    pub(super) who: Who<'v>,
    pub(super) device: &'v DeviceId,
    pub(super) since: Option<Token>,
    pub(super) now: Token,
    pub(super) request: &'v Request,
    pub(super) sync: &'v Sync,
    pub(super) owner: lazy::Owner,
    /// Account data that changed, by room.
    pub(super) account_data: account_data::Changes,
    /// Rooms that a commit touched since the token, if that is known.
    pub(super) touched: Option<HashSet<RoomShort>>,
    /// Members of some room, or its state, changed since the token.
    pub(super) company_changed: Cell<bool>,
}

impl<'v> Sweep<'v> {
    /// Answers on a fresh snapshot.
    pub(super) fn run(
        sync: &Sync,
        user: &UserId,
        device: &DeviceId,
        since: Option<Token>,
        request: &Request,
    ) -> Result<Answer, Error> {
        // Typing first: what changes between the two is then told twice rather than never.
        let typing = sync.typing.serial();
        let snapshot = sync.core.snapshot()?;
        let view = snapshot.view();
        let position = view.position()?;
        let mut sweep = Sweep {
            view,
            who: Who::new(&sync.core, view, user, Some(device))?,
            device,
            since,
            now: Token { position, typing, to_device: position },
            request,
            sync,
            owner: (user.to_owned(), device.to_owned()),
            account_data: account_data::changes(view, user, since.map(|since| since.position.0))?,
            touched: None,
            company_changed: Cell::new(since.is_none() || request.full_state),
        };
        sweep.write()
    }

    fn write(&mut self) -> Result<Answer, Error> {
        let mut body = Vec::with_capacity(if self.since.is_some() { 512 } else { 64 << 10 });
        body.push(b'{');
        let mut news = account_data::write_global(self, &mut body)?;
        news |= devices::write_to_device(self, &mut body)?;
        news |= devices::write_counts(self, &mut body)?;
        let notifier = self.sync.core.notifier();
        let rooms = self.sync.heads.of(notifier, self.view, self.who.user)?;
        self.touched = self.since.and_then(|since| notifier.touched_rooms((since.position, self.now.position)));
        news |= object_member(&mut body, "rooms", |out| self.write_rooms(out, &rooms.all))?;
        news |= presence::write(self, &mut body, &rooms.joined)?;
        news |= devices::write_lists(self, &mut body)?;
        text_member(&mut body, "next_batch", &self.now.to_string());
        body.push(b'}');
        Ok(Answer { body, news, token: self.now, rooms: rooms.joined.clone() })
    }

    /// Whether a room needs a look.
    pub(super) fn may_be_touched(&self, room: RoomShort) -> bool {
        self.touched.as_ref().is_none_or(|touched| touched.contains(&room))
    }

    fn write_rooms(&self, out: &mut Vec<u8>, rooms: &[(RoomShort, Membership)]) -> Result<(), Error> {
        if rooms.iter().any(|(_, row)| row.position > self.position()) {
            self.company_changed.set(true);
        }
        let of =
            |wanted: &'static [MembershipState]| rooms.iter().filter(move |(_, row)| wanted.contains(&row.membership));
        object_member(out, "join", |out| {
            of(&[MembershipState::Join]).try_for_each(|(room, row)| joined::write(self, out, *room, row))
        })?;
        object_member(out, "invite", |out| {
            of(&[MembershipState::Invite]).try_for_each(|(room, row)| away::write_invite(self, out, *room, row))
        })?;
        object_member(out, "knock", |out| {
            of(&[MembershipState::Knock]).try_for_each(|(room, row)| away::write_knock(self, out, *room, row))
        })?;
        object_member(out, "leave", |out| {
            let left = of(&[MembershipState::Leave, MembershipState::Ban]);
            left.into_iter().try_for_each(|(room, row)| away::write_left(self, out, *room, row))
        })?;
        Ok(())
    }

    /// The position of `since`, or 0.
    pub(super) fn position(&self) -> u64 {
        self.since.map_or(0, |since| since.position.0)
    }

    /// Whether the filter takes a room.
    pub(super) fn takes_room(&self, room_id: &ruma::RoomId) -> bool {
        let filter = &self.request.filter.room;
        takes_room(filter.rooms.as_deref(), &filter.not_rooms, room_id)
    }

    pub(super) fn timeline_filter(&self) -> Select<'_> {
        Select::new(&self.request.filter.room.timeline)
    }

    pub(super) fn state_filter(&self) -> Select<'_> {
        Select::new(&self.request.filter.room.state)
    }
}

/// Opens the object of a room.
pub(super) fn open_room(out: &mut Vec<u8>, room_id: &ruma::RoomId) {
    crate::json::any_key(out, room_id.as_str());
    out.push(b'{');
}

/// Appends `timeline`.
pub(super) fn write_timeline(
    out: &mut Vec<u8>,
    reader: &crate::timeline::reader::RoomReader<'_>,
    events: &[crate::timeline::window::Placed],
    limited: bool,
    prev_batch: crate::timeline::Point,
) -> Result<(), Error> {
    key(out, "timeline");
    crate::json::raw(out, "{\"events\":[");
    for placed in events {
        reader.write(out, &placed.row, crate::timeline::reader::Form::Sync)?;
    }
    crate::json::raw(out, "]");
    crate::json::plain_member(out, "limited", limited);
    text_member(out, "prev_batch", &prev_batch.to_string());
    out.push(b'}');
    Ok(())
}
