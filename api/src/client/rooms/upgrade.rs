//! `POST /_matrix/client/v3/rooms/{roomId}/upgrade`

use millpond_node::{Error, rooms::Rooms};
use ruma::api::client::room::upgrade_room::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(rooms: Rooms, args: Args<Request>) -> Result<Response, Error> {
    args.sender.active()?;
    let (sender, request) = (args.sender.user_id, args.request);
    let upgraded = rooms.upgrade(&sender, &request.room_id, request.new_version, request.additional_creators);
    Ok(Response::new(upgraded.await?))
}
