//! `PUT /rooms/{roomId}/typing/{userId}`.

use millpond_node::{Error, presence::Presence, typing::Typing};
use ruma::api::client::typing::create_typing_event::v3::{Request, Response, Typing as State};

use crate::glue::Args;

pub(super) async fn handler(
    typing: Typing,
    presence: Presence,
    Args { sender, request, .. }: Args<Request>,
) -> Result<Response, Error> {
    if sender.user_id != request.user_id {
        return Err(Error::forbidden(format!("you are {}: others type for themselves", sender.user_id)));
    }
    let timeout = match request.state {
        State::No => None,
        State::Yes(info) => Some(info.timeout),
    };
    presence.act(&sender.user_id, &sender.device_id)?;
    typing.set(&sender.user_id, &request.room_id, timeout)?;
    Ok(Response::new())
}
