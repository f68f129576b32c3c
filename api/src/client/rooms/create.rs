//! `POST /_matrix/client/v3/createRoom`

use millpond_node::{
    Error,
    memberships::{Memberships, ThirdParty},
    rooms::Rooms,
};
use ruma::api::client::{
    membership::Invite3pid,
    room::create_room::v3::{Request, Response},
};

use crate::glue::Args;

pub(crate) async fn handler(rooms: Rooms, memberships: Memberships, args: Args<Request>) -> Result<Response, Error> {
    args.sender.active()?;
    // A room whose invites cannot be sent is not made: the client would believe that they were.
    let overlay = rooms.policy_of_new(&args.request)?;
    for user in &args.request.invite {
        memberships.check_reachable(user, overlay).await?;
    }
    let by_address: Vec<ThirdParty> = args.request.invite_3pid.iter().map(third_party).collect();
    by_address.iter().try_for_each(|ask| memberships.check_third_party(ask, overlay))?;
    let sender = &args.sender.user_id;
    let room_id = rooms.create(sender, args.request).await?;
    for ask in by_address {
        // The identity server is asked about a room that exists: when it fails, the room stays.
        let invited = memberships.invite_third_party(sender, &room_id, ask).await;
        invited.map_err(|error| Error::unreachable(format!("room {room_id} is there, but invite again: {error}")))?;
    }
    Ok(Response::new(room_id))
}

fn third_party(invite: &Invite3pid) -> ThirdParty {
    ThirdParty {
        id_server: invite.id_server.clone(),
        id_access_token: invite.id_access_token.clone(),
        medium: invite.medium.to_string(),
        address: invite.address.clone(),
    }
}
