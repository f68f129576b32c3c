//! `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`.

use millpond_node::{
    Error,
    federation::{Federation, Invite},
};
use ruma::api::federation::membership::create_invite::v2::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(
    federation: Federation,
    Args { sender, request, .. }: Args<Request>,
) -> Result<Response, Error> {
    let invite = Invite {
        room_id: &request.room_id,
        event_id: &request.event_id,
        version: request.room_version,
        event: request.event,
        shown: &request.invite_room_state,
    };
    federation.invite(&sender, invite).await.map(Response::new)
}
