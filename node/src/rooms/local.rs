//! One event of our own: built on the current extremities, decided by the same rules as a peer's, written by the funnel.

use std::collections::BTreeSet;

use http::StatusCode;
use millpond_matrix::{
    CheckedPdu, Verdict,
    build::{self, BuildError, EventDraft},
    create_room::CreateRoomError,
    decide::Given,
    rules::rules,
    state::{self, StateError},
};
use millpond_store::{
    View, WriteTxn,
    rows::{EventShort, Room, RoomShort},
};
use ruma::{RoomId, api::error::ErrorKind};

use super::{
    apply::{self, Context, Owed},
    reader::StoredRoom,
    rows, signer,
};
use crate::{Core, Error};

/// An event that is decided on and can be written on the same view.
pub(crate) struct Planned {
    pub(crate) room: (RoomShort, Room),
    pub(crate) pdu: CheckedPdu,
    pub(crate) verdict: Verdict,
}

/// Builds and decides on the next event of a room.
///
/// # Errors
/// 403 when the auth rules refuse it, 400 or 413 when its content cannot be an event, 404 for an unknown room.
pub(crate) fn plan(core: &Core, view: View<'_>, room_id: &RoomId, draft: EventDraft) -> Result<Planned, Error> {
    let room =
        rows::room(view, room_id)?.ok_or_else(|| Error::not_found(format!("room {room_id} is not known here")))?;
    let rules = rules(&room.1.version).map_err(|e| Error::internal(e.to_string()))?;
    let reader = StoredRoom::new(view, room.0, &room.1);
    let pdu = build::next(&reader, rules, room_id, draft, &signer(core)).map_err(build_error)?;
    let mut resolutions = Vec::new();
    loop {
        let given = Given { resolutions: &resolutions, ..Given::default() };
        let verdict = millpond_matrix::decide(&pdu, &reader, rules, &given).map_err(apply::store_error)?;
        match verdict {
            // Only with more extremities than one event may name: rare, and small next to the room that has them.
            Verdict::Resolve(sets) => {
                let resolved = state::resolve(&reader, rules, sets, Some(&pdu)).map_err(state_error)?;
                resolutions.push(resolved);
            }
            Verdict::Reject { why, .. } | Verdict::SoftFail { why, .. } => return Err(Error::forbidden(why)),
            Verdict::Append(_) => return Ok(Planned { room, pdu, verdict }),
            Verdict::Duplicate => return Err(Error::unknown("this very event was sent before")),
            Verdict::Park(_) => return Err(Error::internal("the room's extremities name events that are not stored")),
        }
    }
}

/// Writes a planned event and owes it to every server of the room.
///
/// # Errors
/// Storage errors.
pub(crate) fn write(
    core: &Core,
    txn: &mut WriteTxn<'_>,
    planned: Planned,
    client_txn: Option<Box<str>>,
) -> Result<EventShort, millpond_store::Error> {
    let Planned { room: (short, room), pdu, verdict } = planned;
    let context = Context { txn: client_txn, owed: Owed::AllBut(BTreeSet::new()), ..Context::default() };
    Ok(apply::write(txn, core.identity(), (short, &room), &pdu, verdict, &context)?.event)
}

/// What a client is told about an event that cannot be built.
pub(crate) fn build_error(error: BuildError) -> Error {
    match error {
        BuildError::TooLarge(_) | BuildError::FieldTooLong { .. } => Error::too_large(error.to_string()),
        BuildError::Content(_) | BuildError::Auth(_) | BuildError::Invalid(_) => Error::bad_json(error.to_string()),
        BuildError::Sign(_) => Error::internal(error.to_string()),
        BuildError::Read(error) => apply::store_error(error).into(),
    }
}

/// What a client is told about a room that cannot be made.
pub(crate) fn create_error(error: CreateRoomError) -> Error {
    match error {
        CreateRoomError::Field { .. } => Error::bad_json(error.to_string()),
        CreateRoomError::Refused { .. } => {
            Error::matrix(StatusCode::BAD_REQUEST, ErrorKind::InvalidRoomState, error.to_string())
        }
        CreateRoomError::Build { source, .. } => build_error(source),
    }
}

/// A failed resolution is a storage error or a damaged store.
pub(crate) fn state_error(error: StateError) -> Error {
    match error {
        StateError::Read(error) => apply::store_error(error).into(),
        other => Error::internal(other.to_string()),
    }
}
