//! `/event`, `/event_auth`, `/state`, `/state_ids`.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::{
    authorization::get_event_authorization,
    event::{get_event, get_room_state, get_room_state_ids},
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(event);
    routes.add(event_auth);
    routes.add(state);
    routes.add(state_ids);
}

async fn event(
    federation: Federation,
    Args { sender, request, .. }: Args<get_event::v1::Request>,
) -> Result<get_event::v1::Response, Error> {
    federation.event(&sender, &request.event_id)
}

async fn event_auth(
    federation: Federation,
    Args { sender, request, .. }: Args<get_event_authorization::v1::Request>,
) -> Result<get_event_authorization::v1::Response, Error> {
    federation.event_auth(&sender, &request.room_id, &request.event_id)
}

async fn state(
    federation: Federation,
    Args { sender, request, .. }: Args<get_room_state::v1::Request>,
) -> Result<get_room_state::v1::Response, Error> {
    federation.state(&sender, &request.room_id, &request.event_id)
}

async fn state_ids(
    federation: Federation,
    Args { sender, request, .. }: Args<get_room_state_ids::v1::Request>,
) -> Result<get_room_state_ids::v1::Response, Error> {
    federation.state_ids(&sender, &request.room_id, &request.event_id)
}
