//! `POST /_matrix/client/v3/rooms/{roomId}/` `invite`, `kick`, `ban`, `unban`: what one user does to another.

use millpond_node::{
    Error,
    memberships::{Memberships, ThirdParty},
    rooms::{Action, Rooms},
};
use ruma::api::client::membership::{
    Invite3pid,
    ban_user::v3 as ban_user,
    invite_user::v3::{self as invite_user, InvitationRecipient},
    kick_user::v3 as kick_user,
    unban_user::v3 as unban_user,
};

use super::with_reason;
use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(invite);
    routes.add(kick);
    routes.add(ban);
    routes.add(unban);
}

async fn invite(memberships: Memberships, args: Args<invite_user::Request>) -> Result<invite_user::Response, Error> {
    args.sender.active()?;
    let (sender, room_id) = (&args.sender.user_id, &args.request.room_id);
    match args.request.recipient {
        InvitationRecipient::UserId(recipient) => {
            let extra = with_reason(recipient.reason);
            memberships.invite(sender, room_id, &recipient.user_id, extra).await?;
        }
        InvitationRecipient::ThirdPartyId(Invite3pid { id_server, id_access_token, medium, address, .. }) => {
            let ask = ThirdParty { id_server, id_access_token, medium: medium.to_string(), address };
            memberships.invite_third_party(sender, room_id, ask).await?;
        }
        _ => return Err(Error::bad_json("the recipient is neither a user nor an address")),
    }
    Ok(invite_user::Response::new())
}

async fn kick(rooms: Rooms, args: Args<kick_user::Request>) -> Result<kick_user::Response, Error> {
    args.sender.active()?;
    let (sender, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    rooms.change_membership(&sender, &request.room_id, &request.user_id, Action::Kick, extra).await?;
    Ok(kick_user::Response::new())
}

async fn ban(rooms: Rooms, args: Args<ban_user::Request>) -> Result<ban_user::Response, Error> {
    args.sender.active()?;
    let (sender, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    rooms.change_membership(&sender, &request.room_id, &request.user_id, Action::Ban, extra).await?;
    Ok(ban_user::Response::new())
}

async fn unban(rooms: Rooms, args: Args<unban_user::Request>) -> Result<unban_user::Response, Error> {
    args.sender.active()?;
    let (sender, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    rooms.change_membership(&sender, &request.room_id, &request.user_id, Action::Unban, extra).await?;
    Ok(unban_user::Response::new())
}
