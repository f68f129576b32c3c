//! `POST /_matrix/client/v3/rooms/{roomId}/` `leave` and `forget`.

use millpond_node::{Error, memberships::Memberships, rooms::Rooms};
use ruma::api::client::membership::{forget_room::v3 as forget_room, leave_room::v3 as leave_room};

use super::with_reason;
use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(leave);
    routes.add(forget);
}

async fn leave(memberships: Memberships, args: Args<leave_room::Request>) -> Result<leave_room::Response, Error> {
    let (user, request) = (args.sender.user_id, args.request);
    memberships.leave(&user, &request.room_id, with_reason(request.reason)).await?;
    Ok(leave_room::Response::new())
}

async fn forget(rooms: Rooms, args: Args<forget_room::Request>) -> Result<forget_room::Response, Error> {
    rooms.forget(&args.sender.user_id, &args.request.room_id).await?;
    Ok(forget_room::Response::new())
}
