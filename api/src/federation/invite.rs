//! `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`, and v1, which names no room version and so means one of the first two.

use millpond_node::{
    Error,
    federation::{Federation, Invite, Snapshot},
};
use ruma::{
    RoomVersionId,
    api::federation::membership::create_invite::{
        v1,
        v2::{Request, Response},
    },
};

use crate::glue::{Args, Routes};

/// Bytes of an invite: a room of 4 MiB, its key documents, and what is shown of it.
const LIMIT: usize = 8 << 20;

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(current);
    routes.add(oldest);
}

async fn oldest(federation: Federation, _: Args<v1::Request>) -> Result<v1::Response, Error> {
    Err(federation.incompatible(RoomVersionId::V1))
}

async fn current(
    federation: Federation,
    Args { sender, request, json, .. }: Args<Request, LIMIT>,
) -> Result<Response, Error> {
    let invite = Invite {
        room_id: &request.room_id,
        event_id: &request.event_id,
        version: request.room_version,
        event: request.event,
        shown: &request.invite_room_state,
        // ruma does not know `org.millpond.snapshot`.
        snapshot: Snapshot::of_invite(&json),
    };
    federation.invite(&sender, invite).await.map(Response::new)
}
