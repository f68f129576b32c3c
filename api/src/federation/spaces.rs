//! `/hierarchy` and `/timestamp_to_event`.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::{event::get_event_by_timestamp, space::get_hierarchy};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(hierarchy);
    routes.add(timestamp_to_event);
}

async fn hierarchy(
    federation: Federation,
    Args { sender, request, .. }: Args<get_hierarchy::v1::Request>,
) -> Result<get_hierarchy::v1::Response, Error> {
    federation.hierarchy(&sender, &request.room_id, request.suggested_only)
}

async fn timestamp_to_event(
    federation: Federation,
    Args { sender, request, .. }: Args<get_event_by_timestamp::v1::Request>,
) -> Result<get_event_by_timestamp::v1::Response, Error> {
    let (event_id, ts) = federation.timestamp_to_event(&sender, &request.room_id, request.ts, request.dir)?;
    Ok(get_event_by_timestamp::v1::Response::new(event_id, ts))
}
