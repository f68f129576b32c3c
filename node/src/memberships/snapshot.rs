//! Entering a room by what came with the invite, while nobody in it is there: every event is checked as if a resident
//! server had answered, the join stands right after the invite, and the others get it from the outbox.
//!
//! Such a room is *unconfirmed*: who described it may have left something out, or told an old state.

use std::collections::BTreeSet;

use millpond_matrix::{
    CheckedPdu,
    build::{self, EventDraft, Parents},
    check::Origin,
    join::{self, AcceptedState, RoomAnswer},
    rules::RoomRules,
};
use millpond_store::{
    View, job,
    rows::{InviteSnapshot, Room, RoomShort, Unconfirmed},
    tables,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, RoomId, ServerName, UInt, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue;

use super::{Memberships, join::supported};
use crate::{
    Error,
    federation::{Snapshot, snapshot_document_of},
    inbox::known_pdu,
    rooms::{self, local, rows},
};

/// Snapshots that are kept at once; further invites are taken through a resident server.
const MAX_KEPT: usize = 64;

/// A described room whose every event holds.
struct Described {
    invite: CheckedPdu,
    accepted: AcceptedState,
}

impl Memberships {
    /// Takes the key documents of a snapshot, and gives the row to keep if all of it holds.
    ///
    /// # Errors
    /// Storage errors. A snapshot that does not hold is none.
    pub(crate) async fn checked_snapshot(
        &self,
        from: &ServerName,
        room: &Room,
        invite: &RawValue,
        snapshot: Snapshot,
    ) -> Result<Option<InviteSnapshot>, Error> {
        if self.core.snapshot()?.view().scan(tables::INVITE_SNAPSHOTS, ())?.take(MAX_KEPT).count() >= MAX_KEPT {
            return Ok(None);
        }
        for document in &snapshot.key_documents {
            if let Some(server) = snapshot_document_of(document) {
                self.peers.take_document(&server, document.get().as_bytes()).await?;
            }
        }
        let texts = |events: Vec<Box<RawValue>>| events.into_iter().map(|event| event.get().to_owned()).collect();
        let kept = InviteSnapshot {
            from: from.to_owned(),
            invite: invite.get().to_owned(),
            state: texts(snapshot.state),
            auth_chain: texts(snapshot.auth_chain),
        };
        match self.described(room, &kept).await {
            Ok(_) => Ok(Some(kept)),
            Err(Error::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "the snapshot of an invite does not hold and is not kept");
                Ok(None)
            }
        }
    }

    /// What came with the invite of a user, if it is still here.
    pub(super) fn kept_snapshot(&self, user: &UserId, room_id: &RoomId) -> Result<Option<InviteSnapshot>, Error> {
        Ok(self.core.snapshot()?.view().get(tables::INVITE_SNAPSHOTS, (user, room_id))?)
    }

    /// Enters a room by a snapshot.
    pub(super) async fn join_by_snapshot(
        &self,
        user: &UserId,
        room_id: &RoomId,
        kept: &InviteSnapshot,
        extra: CanonicalJsonObject,
    ) -> Result<(), Error> {
        let version = {
            let snapshot = self.core.snapshot()?;
            rooms::known_room(snapshot.view(), room_id)?.1.version
        };
        let rules = supported(&version)?;
        let room = Room { room_id: room_id.to_owned(), version, overlay: true };
        let Described { invite, accepted } = self.described(&room, kept).await?;
        let join = self.join_after(rules, user, &invite, &accepted, extra)?;
        let mark = Unconfirmed { invite: invite.owned_event_id(), from: kept.from.clone() };
        let short = self.know_described(room.clone(), mark).await?;
        self.inbox.write_outliers(short, &accepted).await?;
        if !self.inbox.write_described((short, &room), invite, accepted).await? {
            return Err(Error::internal("the invite refers to events that did not come with it"));
        }
        self.inbox.append((short, &room), join, BTreeSet::new()).await?;
        self.inbox.note_described();
        self.forget_snapshot(user, room_id).await
    }

    /// Checks a snapshot: form, hashes and signatures of every event, each by its auth events, the invite by the state.
    async fn described(&self, room: &Room, kept: &InviteSnapshot) -> Result<Described, Error> {
        let rules = supported(&room.version)?;
        let invalid =
            |why: String| Error::unreachable(format!("the room that came with the invite is not valid: {why}"));
        let invite = self.inbox.check_all(rules, &kept.from, raws(std::slice::from_ref(&kept.invite))).await?.pop();
        let invite = invite.ok_or_else(|| invalid("the invite's signature does not hold".to_owned()))?;
        let state = self.inbox.check_all(rules, &kept.from, raws(&kept.state)).await?;
        let auth_chain = self.inbox.check_all(rules, &kept.from, raws(&kept.auth_chain)).await?;
        if state.len() < kept.state.len() || auth_chain.len() < kept.auth_chain.len() {
            return Err(invalid("an event of it has no valid form or signature".to_owned()));
        }
        // A second member names ids only: what was emptied under its id would stay so. A resident server is asked instead.
        if state.iter().chain(&auth_chain).any(|pdu| pdu.origin() == Origin::RemoteRedacted) {
            return Err(invalid("an event of it is redacted".to_owned()));
        }
        let snapshot = self.core.snapshot()?;
        let view = snapshot.view();
        let short = rows::room_short(view, &room.room_id)?;
        let known = |id: &EventId| short.and_then(|short| known_pdu(view, short, &room.room_id, id));
        let accepted = join::accept_state(rules, &room.room_id, RoomAnswer { state, auth_chain }, known)
            .map_err(|e| invalid(e.to_string()))?;
        if !accepted.left_out.is_empty() {
            return Err(invalid("events are missing from it".to_owned()));
        }
        join::check_join(rules, &invite, &accepted, known).map_err(|e| invalid(e.to_string()))?;
        let create = accepted.state.get(&(StateEventType::RoomCreate, String::new()));
        let find = |id: &EventId| accepted.outliers.iter().find(|pdu| pdu.event_id() == id).cloned();
        let create = create.and_then(|id| find(id).or_else(|| known(id)));
        if !create.is_some_and(|create| rooms::is_overlay_content(create.content().get())) {
            return Err(invalid("it is a classic room".to_owned()));
        }
        Ok(Described { invite, accepted })
    }

    /// Our user's join, right after the invite.
    fn join_after(
        &self,
        rules: &'static RoomRules,
        user: &UserId,
        invite: &CheckedPdu,
        accepted: &AcceptedState,
        extra: CanonicalJsonObject,
    ) -> Result<CheckedPdu, Error> {
        let mut content = self.profile_content(user)?;
        content.extend(extra);
        content.insert("membership".to_owned(), CanonicalJsonValue::String("join".to_owned()));
        let draft = EventDraft {
            state_key: Some(user.to_string()),
            ..EventDraft::new(TimelineEventType::RoomMember, content, user.to_owned(), self.core.clock().now())
        };
        let mut state = accepted.state.clone();
        state.extend(invite.state_entry().map(|key| (key, invite.owned_event_id())));
        let auth_events = build::auth_events(rules, &draft, |kind, state_key| {
            Ok(state.get(&(kind.clone(), state_key.to_owned())).cloned())
        });
        let parents = Parents {
            prev_events: vec![invite.owned_event_id()],
            depth: invite.depth().checked_add(UInt::from(1_u8)).unwrap_or(UInt::MAX),
            auth_events: auth_events.map_err(local::build_error)?,
        };
        build::sign(rules, Some(invite.room_id()), draft, parents, &rooms::signer(&self.core))
            .map_err(local::build_error)
    }

    async fn know_described(&self, room: Room, mark: Unconfirmed) -> Result<RoomShort, Error> {
        let write = job(
            |_| Ok::<_, Error>(()),
            move |(), txn| {
                let short = rows::intern_room(txn, &room)?;
                txn.put(tables::ROOMS, short, &room)?;
                txn.put(tables::UNCONFIRMED, short, &mark)?;
                Ok(short)
            },
        );
        Ok(self.core.write(write).await?.0)
    }

    pub(super) async fn forget_snapshot(&self, user: &UserId, room_id: &RoomId) -> Result<(), Error> {
        let key = (user.to_owned(), room_id.to_owned());
        let view_key = key.clone();
        let forget = job(
            move |view: View<'_>| Ok::<_, Error>(view.contains(tables::INVITE_SNAPSHOTS, &view_key)?),
            move |kept: bool, txn| match kept {
                true => txn.remove(tables::INVITE_SNAPSHOTS, &key).map(drop),
                false => Ok(()),
            },
        );
        self.core.write(forget).await?;
        Ok(())
    }
}

fn raws(texts: &[String]) -> Vec<Box<RawValue>> {
    texts.iter().filter_map(|text| RawValue::from_string(text.clone()).ok()).collect()
}
