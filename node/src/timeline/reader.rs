//! One user reading one room: what is shown to him, in the client's form, spliced from stored bytes.

use std::{borrow::Cow, cell::OnceCell, collections::BTreeSet};

use millpond_matrix::client::{Unsigned, write_client_event};
use millpond_store::{
    Error, View,
    rows::{EventRow, EventShort, RoomShort},
    tables,
};
use ruma::{DeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde::Deserialize;

use super::{
    bundle,
    sight::{JoinedUntil, RoomSight},
};
use crate::{
    Core, erasure,
    history::retention,
    json::{comma, unquote},
    rooms::rows,
};

/// Who reads, and when.
#[derive(Clone)]
pub(crate) struct Who<'v> {
    pub(crate) user: &'v UserId,
    pub(crate) device: Option<&'v DeviceId>,
    pub(crate) now_ms: u64,
    /// Whose messages the user does not want to see (`m.ignored_user_list`).
    pub(crate) ignored: std::rc::Rc<BTreeSet<OwnedUserId>>,
    retention: retention::Settings,
    /// Whose messages are shown to those only who were there.
    erased: std::rc::Rc<BTreeSet<OwnedUserId>>,
}

impl<'v> Who<'v> {
    pub(crate) fn new(
        core: &Core,
        view: View<'_>,
        user: &'v UserId,
        device: Option<&'v DeviceId>,
    ) -> Result<Self, Error> {
        let ignored = std::rc::Rc::new(ignored(view, user)?);
        let retention = core.config().retention;
        let erased = std::rc::Rc::new(erasure::erased(view)?);
        Ok(Self { user, device, now_ms: core.clock().now_ms(), ignored, retention, erased })
    }
}

/// A user's view of a room.
pub(crate) struct RoomReader<'v> {
    pub(crate) view: View<'v>,
    pub(crate) who: Who<'v>,
    pub(crate) room: RoomShort,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) sight: RoomSight<'v>,
    /// How long messages live here; read when the first one is shown.
    lifetime_ms: OnceCell<Option<u64>>,
}

/// Whether an event names its room: `/sync` says it once for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Without `room_id`.
    Sync,
    /// With it.
    Full,
}

impl<'v> RoomReader<'v> {
    pub(crate) fn new(view: View<'v>, who: Who<'v>, room: RoomShort, room_id: OwnedRoomId) -> Result<Self, Error> {
        let sight = RoomSight::new(view, room, who.user)?;
        Ok(Self { view, who, room, room_id, sight, lifetime_ms: OnceCell::new() })
    }

    /// Whether an event of the timeline is shown: the history visibility allows it and its sender is not ignored.
    pub(crate) fn shows(&self, row: &EventRow) -> Result<bool, Error> {
        Ok(!self.ignores(row) && self.sight.shows(row)? && !self.has_expired(row)?)
    }

    /// Whether the room's retention has ended an event that the hourly purge has not met yet.
    fn has_expired(&self, row: &EventRow) -> Result<bool, Error> {
        let lifetime = match self.lifetime_ms.get() {
            Some(known) => *known,
            None => {
                let read = retention::lifetime_ms(self.view, &self.who.retention, self.room)?;
                *self.lifetime_ms.get_or_init(|| read)
            }
        };
        Ok(lifetime.is_some_and(|lifetime| retention::is_before(row, self.who.now_ms.saturating_sub(lifetime))))
    }

    /// State is shown even of ignored users: the room would not be the same without it.
    fn ignores(&self, row: &EventRow) -> bool {
        !self.who.ignored.is_empty()
            && row.header.state_key.is_none()
            && self.who.ignored.iter().any(|user| *user == *unquote(row.header.sender.of(&row.json)))
    }

    /// Appends an event of the timeline, with a comma where one is due.
    pub(crate) fn write(&self, out: &mut Vec<u8>, row: &EventRow, form: Form) -> Result<(), Error> {
        let bundle = bundle::of(self, row)?;
        self.write_with(out, row, form, bundle.as_deref())
    }

    /// Appends an event of the state: nothing is bundled with it.
    pub(crate) fn write_state(&self, out: &mut Vec<u8>, row: &EventRow, form: Form) -> Result<(), Error> {
        self.write_with(out, row, form, None)
    }

    /// Appends an event with relations that were bundled already.
    pub(crate) fn write_with(
        &self,
        out: &mut Vec<u8>,
        row: &EventRow,
        form: Form,
        relations: Option<&str>,
    ) -> Result<(), Error> {
        if erasure::is_of(&self.who.erased, row) && !self.was_there(row)? {
            let redacted = erasure::redacted(self.view, self.room, row)?;
            return self.write_row(out, &redacted, form, None);
        }
        self.write_row(out, row, form, relations)
    }

    /// Whether the reader was in the room when an event was sent.
    fn was_there(&self, row: &EventRow) -> Result<bool, Error> {
        Ok(self.membership_at(row)? == Some(MembershipState::Join))
    }

    fn write_row(&self, out: &mut Vec<u8>, row: &EventRow, form: Form, relations: Option<&str>) -> Result<(), Error> {
        comma(out);
        let replaced = row.meta.replaces.map(|event| rows::event(self.view, event)).transpose()?;
        let redaction = row.meta.redacted_by.map(|event| self.redaction(event)).transpose()?;
        let membership = self.membership_at(row)?;
        let unsigned = Unsigned {
            age: Some(self.who.now_ms.saturating_sub(row.header.origin_server_ts.0.into())),
            transaction_id: self.transaction_id(row),
            delay_id: self.delay_id(row),
            prev_content: replaced.as_ref().map(|row| row.header.content.of(&row.json)),
            replaces_state: replaced.as_ref().map(|row| &*row.header.event_id),
            redacted_because: redaction.as_deref(),
            membership: membership.as_ref(),
            relations,
            ..Unsigned::default()
        };
        let room_id = (form == Form::Full).then_some(&*self.room_id);
        write_client_event(out, &row.header, &row.json, room_id, &unsigned);
        Ok(())
    }

    /// The client's own transaction id, told only to the device that sent the event.
    fn transaction_id<'r>(&self, row: &'r EventRow) -> Option<&'r str> {
        let (device, txn) = row.meta.txn.as_deref()?.split_once('\0')?;
        let own = self.who.device.is_some_and(|own| own == device)
            && unquote(row.header.sender.of(&row.json)) == self.who.user.as_str();
        own.then_some(txn)
    }

    /// The delay id of an event that its sender had scheduled (MSC4140), told to him only.
    fn delay_id<'r>(&self, row: &'r EventRow) -> Option<&'r str> {
        let id = row.meta.txn.as_deref()?.strip_prefix(crate::delayed::MARK)?;
        (unquote(row.header.sender.of(&row.json)) == self.who.user.as_str()).then_some(id)
    }

    fn membership_at(&self, row: &EventRow) -> Result<Option<MembershipState>, Error> {
        Ok(self.sight.after(row)?.map(|sight| sight.membership))
    }

    /// The redaction in its client form, without what may be bundled with it.
    fn redaction(&self, event: EventShort) -> Result<String, Error> {
        let row = rows::event(self.view, event)?;
        let mut out = Vec::new();
        let age = Some(self.who.now_ms.saturating_sub(row.header.origin_server_ts.0.into()));
        let unsigned = Unsigned { age, transaction_id: self.transaction_id(&row), ..Unsigned::default() };
        write_client_event(&mut out, &row.header, &row.json, Some(&self.room_id), &unsigned);
        String::from_utf8(out).map_err(|_| Error::Corrupt { table: "EVENTS", why: "not UTF-8".to_owned() })
    }

    /// An event of this room that is shown to the reader.
    pub(crate) fn event(&self, event_id: &ruma::EventId) -> Result<Option<(EventShort, EventRow)>, Error> {
        let Some((event, row)) = rows::event_in_room(self.view, self.room, event_id)? else { return Ok(None) };
        let shown =
            if row.meta.state_after.is_some() { self.shows(&row)? } else { self.is_current_state(event, &row)? };
        Ok(shown.then_some((event, row)))
    }

    /// An event whose place is not known is shown to members as long as it is part of the state.
    fn is_current_state(&self, event: EventShort, row: &EventRow) -> Result<bool, Error> {
        let Some(state_key) = row.header.state_key else { return Ok(false) };
        if self.sight.joined_until() != JoinedUntil::Now || row.header.flags.rejected {
            return Ok(false);
        }
        let (kind, state_key) = (unquote(row.header.kind.of(&row.json)), unquote(state_key.of(&row.json)));
        Ok(crate::rooms::current::entry(self.view, self.room, &kind, &state_key)? == Some(event))
    }
}

/// The sender of an event.
pub(crate) fn sender(row: &EventRow) -> Cow<'_, str> {
    unquote(row.header.sender.of(&row.json))
}

/// Whom a user ignores.
pub(crate) fn ignored(view: View<'_>, user: &UserId) -> Result<BTreeSet<OwnedUserId>, Error> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
    }
    let row = view.get(tables::ACCOUNT_DATA, (user, "", "m.ignored_user_list"))?;
    // A list that is not one ignores nobody.
    let content = row.and_then(|row| serde_json::from_str::<Content>(&row.content).ok());
    let users = content.map(|content| content.ignored_users).unwrap_or_default();
    Ok(users.into_keys().filter_map(|id| OwnedUserId::try_from(id).ok()).filter(|id| id != user).collect())
}

/// The room and the reader's place in it, or 403: members, those who were, and everybody where history is world readable.
///
/// # Errors
/// 403 `M_FORBIDDEN`, storage errors.
pub(crate) fn enter<'v>(view: View<'v>, who: Who<'v>, room_id: &RoomId) -> Result<RoomReader<'v>, crate::Error> {
    use ruma::events::room::history_visibility::HistoryVisibility;
    let (room, row) = crate::rooms::known_room(view, room_id)?;
    let membership = crate::rooms::current::membership(view, room, who.user)?;
    let forgotten = membership.is_some_and(|row| row.forgotten);
    let reader = RoomReader::new(view, who, room, row.room_id)?;
    let known = reader.sight.joined_until() != JoinedUntil::Never && !forgotten;
    if known || reader.sight.now()?.visibility == HistoryVisibility::WorldReadable {
        return Ok(reader);
    }
    Err(crate::Error::forbidden(format!("you are not in room {room_id}")))
}
