//! `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`

use millpond_node::{Error, timeline::Timeline};
use ruma::api::client::room::get_room_event::v3::Request;

use crate::glue::{Args, Http};

pub(crate) async fn handler(timeline: Timeline, args: Args<Request>) -> Result<Http, Error> {
    let asker = (&*args.sender.user_id, &*args.sender.device_id);
    Ok(Http::json(timeline.event(asker, &args.request.room_id, &args.request.event_id)?))
}
