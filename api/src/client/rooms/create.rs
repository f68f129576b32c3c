//! `POST /_matrix/client/v3/createRoom`

use millpond_node::{Error, memberships::Memberships, rooms::Rooms};
use ruma::api::client::room::create_room::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(rooms: Rooms, memberships: Memberships, args: Args<Request>) -> Result<Response, Error> {
    args.sender.active()?;
    // A room whose invites cannot be sent is not made: the client would believe that they were.
    let overlay = rooms.policy_of_new(&args.request)?;
    for user in &args.request.invite {
        memberships.check_reachable(user, overlay).await?;
    }
    Ok(Response::new(rooms.create(&args.sender.user_id, args.request).await?))
}
