//! `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`

use millpond_node::{Error, timeline::Timeline};
use ruma::api::client::room::get_event_by_timestamp::v1::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(timeline: Timeline, args: Args<Request>) -> Result<Response, Error> {
    let (request, sender) = (args.request, args.sender);
    let asker = (&*sender.user_id, &*sender.device_id);
    let (event_id, ts) = timeline.event_of_time(asker, &request.room_id, request.ts, request.dir).await?;
    Ok(Response::new(event_id, ts))
}
