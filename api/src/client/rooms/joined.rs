//! `GET /_matrix/client/v3/joined_rooms`

use millpond_node::{Error, rooms::Rooms};
use ruma::api::client::membership::joined_rooms::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(rooms: Rooms, args: Args<Request>) -> Result<Response, Error> {
    Ok(Response::new(rooms.joined(&args.sender.user_id)?))
}
