//! `/_matrix/client/v3/presence/{userId}/status`

use std::time::Duration;

use millpond_node::{Error, presence::Presence};
use ruma::api::client::presence::{get_presence, set_presence};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(show);
    routes.add(set);
}

async fn show(presence: Presence, args: Args<get_presence::v3::Request>) -> Result<get_presence::v3::Response, Error> {
    let shown = presence.of(&args.sender.user_id, &args.request.user_id)?;
    let mut response = get_presence::v3::Response::new(shown.state.clone());
    response.last_active_ago = shown.active_ago_ms.map(Duration::from_millis);
    response.currently_active = shown.is_active().then_some(true);
    response.status_msg = shown.status;
    Ok(response)
}

async fn set(presence: Presence, args: Args<set_presence::v3::Request>) -> Result<set_presence::v3::Response, Error> {
    let (sender, request) = (args.sender, args.request);
    if sender.user_id != request.user_id {
        return Err(Error::forbidden(format!("you are {}: others say themselves how they are", sender.user_id)));
    }
    presence.set(&sender.user_id, &sender.device_id, request.presence, request.status_msg).await?;
    Ok(set_presence::v3::Response::new())
}
