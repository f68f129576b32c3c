//! `make_knock` and `send_knock`.

use millpond_node::{Error, federation::Federation};
use ruma::{
    api::federation::membership::{RawStrippedState, create_knock_event, prepare_knock_event},
    events::room::member::MembershipState,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(make);
    routes.add(send);
}

async fn make(
    federation: Federation,
    Args { sender, request, .. }: Args<prepare_knock_event::v1::Request>,
) -> Result<prepare_knock_event::v1::Response, Error> {
    let knock = MembershipState::Knock;
    let made = federation.make(&sender, &request.room_id, &request.user_id, knock, Some(&request.ver))?;
    Ok(prepare_knock_event::v1::Response::new(made.version, made.event))
}

async fn send(
    federation: Federation,
    Args { sender, request, .. }: Args<create_knock_event::v1::Request>,
) -> Result<create_knock_event::v1::Response, Error> {
    let shown = federation.send_knock(&sender, &request.room_id, &request.event_id, &request.pdu).await?;
    Ok(create_knock_event::v1::Response::new(shown.into_iter().map(RawStrippedState::Pdu).collect()))
}
