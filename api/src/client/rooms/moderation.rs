//! `POST /_matrix/client/v3/rooms/{roomId}/` `invite`, `kick`, `ban`, `unban`: what one user does to another.

use http::StatusCode;
use millpond_node::{
    Error,
    memberships::Memberships,
    rooms::{Action, Rooms},
};
use ruma::api::{
    client::membership::{
        ban_user::v3 as ban_user,
        invite_user::v3::{self as invite_user, InvitationRecipient},
        kick_user::v3 as kick_user,
        unban_user::v3 as unban_user,
    },
    error::ErrorKind,
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
    let InvitationRecipient::UserId(recipient) = args.request.recipient else {
        let message = "no identity server is configured: invite users by their Matrix ids";
        return Err(Error::matrix(StatusCode::FORBIDDEN, ErrorKind::ThreepidDenied, message));
    };
    let (sender, room_id) = (&args.sender.user_id, &args.request.room_id);
    let extra = with_reason(recipient.reason);
    memberships.invite(sender, room_id, &recipient.user_id, extra).await?;
    Ok(invite_user::Response::new())
}

async fn kick(rooms: Rooms, args: Args<kick_user::Request>) -> Result<kick_user::Response, Error> {
    let (sender, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    rooms.change_membership(&sender, &request.room_id, &request.user_id, Action::Kick, extra).await?;
    Ok(kick_user::Response::new())
}

async fn ban(rooms: Rooms, args: Args<ban_user::Request>) -> Result<ban_user::Response, Error> {
    let (sender, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    rooms.change_membership(&sender, &request.room_id, &request.user_id, Action::Ban, extra).await?;
    Ok(ban_user::Response::new())
}

async fn unban(rooms: Rooms, args: Args<unban_user::Request>) -> Result<unban_user::Response, Error> {
    let (sender, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    rooms.change_membership(&sender, &request.room_id, &request.user_id, Action::Unban, extra).await?;
    Ok(unban_user::Response::new())
}
