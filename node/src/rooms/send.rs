//! Sending events: messages with a transaction id, state, redactions.

use millpond_matrix::{
    CheckedPdu,
    build::{self, EventDraft},
};
use millpond_store::{
    View, WriteTxn, job,
    rows::{EventShort, txn_key},
    tables,
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
};

use super::{ClientTxn, Rooms, Sent, current, endorse, known_event, known_room, local, membership, rows};
use crate::Error;

impl Rooms {
    /// Sends a message-like event; the same transaction id of the same device gets the same answer.
    ///
    /// # Errors
    /// 403 when the sender may not, 400 for content that is no JSON object, 413 when it is too large.
    pub async fn send(
        &self,
        sender: &UserId,
        txn: ClientTxn<'_>,
        room_id: &RoomId,
        kind: TimelineEventType,
        content: &str,
    ) -> Result<Sent, Error> {
        let mut content = build::content(content.as_bytes()).map_err(local::build_error)?;
        let redacts = redacts(&kind, &mut content);
        let draft = EventDraft::new(kind, content, sender.to_owned(), self.core.clock().now());
        self.send_draft(room_id, EventDraft { redacts, ..draft }, Some(txn)).await
    }

    /// Sends a state event.
    ///
    /// # Errors
    /// As [`Rooms::send`].
    pub async fn send_state(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        kind: &StateEventType,
        state_key: String,
        content: &str,
    ) -> Result<Sent, Error> {
        let content = build::content(content.as_bytes()).map_err(local::build_error)?;
        if *kind == StateEventType::RoomCanonicalAlias {
            self.check_canonical_alias(room_id, &content)?;
        }
        let kind = TimelineEventType::from(kind.to_string());
        let draft = EventDraft::new(kind, content, sender.to_owned(), self.core.clock().now());
        self.send_draft(room_id, EventDraft { state_key: Some(state_key), ..draft }, None).await
    }

    /// Redacts an event.
    ///
    /// # Errors
    /// 403 when the sender may not, 404 when the event is not known.
    pub async fn redact(
        &self,
        sender: &UserId,
        txn: ClientTxn<'_>,
        room_id: &RoomId,
        target: &EventId,
        reason: Option<String>,
    ) -> Result<Sent, Error> {
        let snapshot = self.core.snapshot()?;
        let (short, _) = known_room(snapshot.view(), room_id)?;
        known_event(snapshot.view(), short, target)?;
        drop(snapshot);
        let mut content = CanonicalJsonObject::new();
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        let kind = TimelineEventType::RoomRedaction;
        let draft = EventDraft::new(kind, content, sender.to_owned(), self.core.clock().now());
        let draft = EventDraft { redacts: Some(target.to_owned()), ..draft };
        self.send_draft(room_id, draft, Some(txn)).await
    }

    /// As [`Rooms::send`] without a transaction id, as the first public API had it: a repetition is another event.
    ///
    /// # Errors
    /// As [`Rooms::send`].
    pub async fn send_once(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        kind: TimelineEventType,
        content: &str,
    ) -> Result<Sent, Error> {
        let content = build::content(content.as_bytes()).map_err(local::build_error)?;
        let draft = EventDraft::new(kind, content, sender.to_owned(), self.core.clock().now());
        self.send_draft(room_id, draft, None).await
    }

    /// Whether an event of a room is of this user.
    ///
    /// # Errors
    /// Storage errors.
    pub fn is_sender(&self, user: &UserId, room_id: &RoomId, event_id: &EventId) -> Result<bool, Error> {
        let snapshot = self.core.snapshot()?;
        let Some(room) = super::rows::room_short(snapshot.view(), room_id)? else { return Ok(false) };
        let found = super::rows::event_in_room(snapshot.view(), room, event_id)?;
        Ok(found.is_some_and(|(_, row)| crate::json::unquote(row.header.sender.of(&row.json)) == user.as_str()))
    }

    /// Sends an event whose time has come: what `still` says on the same view decides whether, and what `note` writes about
    /// it is part of the same commit. `mark` is kept with the event.
    ///
    /// # Errors
    /// As [`Rooms::send`], and what `still` says.
    pub(crate) async fn send_scheduled(
        &self,
        room_id: &RoomId,
        draft: EventDraft,
        mark: Box<str>,
        still: impl Fn(View<'_>) -> Result<(), Error> + Send + 'static,
        note: impl Fn(&mut WriteTxn<'_>, OwnedEventId) -> Result<(), millpond_store::Error> + Send + 'static,
    ) -> Result<OwnedEventId, Error> {
        if draft.kind == TimelineEventType::RoomCanonicalAlias && draft.state_key.is_some() {
            self.check_canonical_alias(room_id, &draft.content)?;
        }
        let (core, room_id) = (self.core.clone(), room_id.to_owned());
        let write_core = core.clone();
        let send = job(
            move |view| {
                still(view)?;
                let (short, _) = known_room(view, &room_id)?;
                if !current::is_joined(view, short, &draft.sender)? && draft.kind != TimelineEventType::RoomMember {
                    return Err(Error::forbidden(format!("you are not in room {room_id}")));
                }
                check_annotation(view, &draft)?;
                local::plan(&core, view, &room_id, draft.clone())
            },
            move |planned, txn| {
                let event_id = planned.pdu.owned_event_id();
                let (room, pdu) = (planned.room.clone(), planned.pdu.clone());
                let event = local::write(&write_core, txn, planned, Some(mark.clone()))?;
                membership::after_member_event(&write_core, txn, (room.0, &room.1), &pdu, event)?;
                note(txn, event_id.clone())?;
                Ok(event_id)
            },
        );
        Ok(self.core.write(send).await?.0)
    }

    async fn send_draft(&self, room_id: &RoomId, draft: EventDraft, txn: Option<ClientTxn<'_>>) -> Result<Sent, Error> {
        let key = txn.map(|txn| TxnKey::new(&draft, room_id, txn));
        for _ in 0..endorse::TRIES {
            let endorsed = self.endorsed(room_id, |view| sendable(view, room_id, &draft).map(Some)).await?;
            if let Some(sent) = Box::pin(self.try_draft(room_id, &draft, key.clone(), endorsed)).await? {
                return Ok(sent);
            }
        }
        Err(endorse::too_busy())
    }

    /// Writes the event of a draft; none when it would be another one than the policy server has endorsed.
    async fn try_draft(
        &self,
        room_id: &RoomId,
        draft: &EventDraft,
        key: Option<TxnKey>,
        endorsed: Option<CheckedPdu>,
    ) -> Result<Option<Sent>, Error> {
        let (core, room_id, draft) = (self.core.clone(), room_id.to_owned(), draft.clone());
        let write_core = core.clone();
        let write_key = key.clone();
        let send = job(
            move |view| {
                if let Some(key) = &key
                    && let Some(event_id) = key.answered(view)?
                {
                    return Ok(Step::Answered(event_id));
                }
                let planned = local::plan(&core, view, &room_id, sendable(view, &room_id, &draft)?)?;
                let planned = endorse::place(&core, view, planned, endorsed.as_ref())?;
                Ok::<_, Error>(planned.map_or(Step::Again, |planned| Step::Write(Box::new(planned))))
            },
            move |step, txn| match step {
                Step::Answered(event_id) => Ok(Some(event_id)),
                Step::Again => Ok(None),
                Step::Write(planned) => {
                    let event_id = planned.pdu.owned_event_id();
                    let (room, pdu) = (planned.room.clone(), planned.pdu.clone());
                    let event =
                        local::write(&write_core, txn, *planned, write_key.as_ref().map(|key| key.mark.clone()))?;
                    membership::after_member_event(&write_core, txn, (room.0, &room.1), &pdu, event)?;
                    if let Some(key) = &write_key {
                        key.answer(txn, event)?;
                    }
                    Ok(Some(event_id))
                }
            },
        );
        let (event_id, position) = self.core.write(send).await?;
        Ok(event_id.map(|event_id| Sent { event_id, position }))
    }

    fn check_canonical_alias(&self, room_id: &RoomId, content: &CanonicalJsonObject) -> Result<(), Error> {
        use ruma::{CanonicalJsonValue, RoomAliasId};
        let main = content.get("alias").into_iter();
        let alternatives = content.get("alt_aliases").and_then(CanonicalJsonValue::as_array).into_iter().flatten();
        let bad = |message: String| {
            Error::matrix(http::StatusCode::BAD_REQUEST, ruma::api::error::ErrorKind::BadAlias, message)
        };
        let snapshot = self.core.snapshot()?;
        for alias in main.chain(alternatives).filter(|value| !matches!(value, CanonicalJsonValue::Null)) {
            let parsed = alias.as_str().and_then(|alias| <&RoomAliasId>::try_from(alias).ok());
            let Some(alias) = parsed else {
                let invalid = ruma::api::error::ErrorKind::InvalidParam;
                return Err(Error::matrix(
                    http::StatusCode::BAD_REQUEST,
                    invalid,
                    "an alias is not of the form #name:server",
                ));
            };
            if !self.core.identity().is_ours(alias.server_name()) {
                continue;
            }
            let row = snapshot.view().get(tables::ALIASES, alias)?;
            if row.is_none_or(|row| row.room_id != room_id) {
                return Err(bad(format!("{alias} does not point to this room")));
            }
        }
        Ok(())
    }
}

/// What a redaction that is sent like any event redacts; where that stands in it is a matter of the room's version.
pub(crate) fn redacts(kind: &TimelineEventType, content: &mut CanonicalJsonObject) -> Option<OwnedEventId> {
    if *kind != TimelineEventType::RoomRedaction {
        return None;
    }
    let target = content.get("redacts")?.as_str().and_then(|id| EventId::parse(id).ok())?;
    content.remove("redacts");
    Some(target)
}

/// That an event does not say once more what its sender has said already ("Avoiding duplicate annotations").
///
/// # Errors
/// 400 `M_DUPLICATE_ANNOTATION`; storage errors.
fn check_annotation(view: View<'_>, draft: &EventDraft) -> Result<(), Error> {
    use ruma::CanonicalJsonValue;
    if draft.state_key.is_some() {
        return Ok(());
    }
    let relation = draft.content.get("m.relates_to").and_then(CanonicalJsonValue::as_object);
    let text = |name: &str| relation.and_then(|relation| relation.get(name)).and_then(CanonicalJsonValue::as_str);
    let target = text("event_id").and_then(|id| <&EventId>::try_from(id).ok());
    let (Some("m.annotation"), Some(target), Some(key)) = (text("rel_type"), target, text("key")) else {
        return Ok(());
    };
    let kind = draft.kind.to_string();
    for row in view.scan(tables::RELATIONS, (target,))? {
        let (_, row) = row?;
        // What was redacted has no row any more.
        if row.rel_type == "m.annotation"
            && row.sender == draft.sender
            && row.kind == kind
            && row.key.as_deref() == Some(key)
        {
            let kind = serde_json::from_value(serde_json::json!({ "errcode": "M_DUPLICATE_ANNOTATION" }));
            let kind = kind.unwrap_or(ruma::api::error::ErrorKind::Unknown);
            let message = "you have annotated this event with this key already";
            return Err(Error::matrix(http::StatusCode::BAD_REQUEST, kind, message));
        }
    }
    Ok(())
}

/// That the sender is in the room, as far as the auth rules leave that to us.
fn sendable(view: View<'_>, room_id: &RoomId, draft: &EventDraft) -> Result<EventDraft, Error> {
    let (short, _) = known_room(view, room_id)?;
    if !current::is_joined(view, short, &draft.sender)? && draft.kind != TimelineEventType::RoomMember {
        return Err(Error::forbidden(format!("you are not in room {room_id}")));
    }
    check_annotation(view, draft)?;
    Ok(draft.clone())
}

enum Step {
    Answered(OwnedEventId),
    Write(Box<local::Planned>),
    Again,
}

/// A transaction of a client: what is asked of which room under which id.
#[derive(Clone)]
struct TxnKey {
    key: millpond_store::rows::TxnKey,
    /// What the event's row says about its sender's device.
    mark: Box<str>,
}

impl TxnKey {
    fn new(draft: &EventDraft, room_id: &RoomId, txn: ClientTxn<'_>) -> Self {
        let target = draft.redacts.as_deref().map_or("", EventId::as_str);
        let scope = format!("{room_id}/{}/{target}/{}", draft.kind, txn.txn_id);
        let mark = format!("{}\0{}", txn.device_id, txn.txn_id).into();
        Self { key: txn_key(&draft.sender, txn.device_id, &scope), mark }
    }

    fn answered(&self, view: View<'_>) -> Result<Option<OwnedEventId>, Error> {
        let Some(event) = view.get(tables::TXNS, self.key)? else { return Ok(None) };
        Ok(rows::find_head(view, event)?.map(|head| head.header.event_id))
    }

    fn answer(&self, txn: &mut WriteTxn<'_>, event: EventShort) -> Result<(), millpond_store::Error> {
        txn.put(tables::TXNS, self.key, &event)
    }
}
