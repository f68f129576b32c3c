//! `make_join` and `send_join`.

use millpond_node::{Error, federation::Federation};
use ruma::{
    api::federation::membership::{create_join_event, prepare_join_event},
    events::room::member::MembershipState,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(make);
    routes.add(send);
}

async fn make(
    federation: Federation,
    Args { sender, request, .. }: Args<prepare_join_event::v1::Request>,
) -> Result<prepare_join_event::v1::Response, Error> {
    let join = MembershipState::Join;
    let made = federation.make(&sender, &request.room_id, &request.user_id, join, Some(&request.ver))?;
    let mut response = prepare_join_event::v1::Response::new(made.event);
    response.room_version = Some(made.version);
    Ok(response)
}

async fn send(
    federation: Federation,
    Args { sender, request, .. }: Args<create_join_event::v2::Request>,
) -> Result<create_join_event::v2::Response, Error> {
    let state = federation.send_join(&sender, &request).await?;
    Ok(create_join_event::v2::Response::new(state))
}
