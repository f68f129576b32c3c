//! `make_leave` and `send_leave`.

use millpond_node::{Error, federation::Federation};
use ruma::{
    api::federation::membership::{create_leave_event, prepare_leave_event},
    events::room::member::MembershipState,
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(make);
    routes.add(send);
}

async fn make(
    federation: Federation,
    Args { sender, request, .. }: Args<prepare_leave_event::v1::Request>,
) -> Result<prepare_leave_event::v1::Response, Error> {
    let made = federation.make(&sender, &request.room_id, &request.user_id, MembershipState::Leave, None)?;
    Ok(prepare_leave_event::v1::Response::new(Some(made.version), made.event))
}

async fn send(
    federation: Federation,
    Args { sender, request, .. }: Args<create_leave_event::v2::Request>,
) -> Result<create_leave_event::v2::Response, Error> {
    federation.send_leave(&sender, &request.room_id, &request.event_id, &request.pdu).await?;
    Ok(create_leave_event::v2::Response::new())
}
