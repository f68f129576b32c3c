//! `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`

use millpond_node::{
    Error,
    timeline::{Context, Timeline},
};
use ruma::api::client::context::get_context::v3::Request;

use crate::glue::{Args, Http};

pub(crate) async fn handler(timeline: Timeline, args: Args<Request>) -> Result<Http, Error> {
    let request = args.request;
    let ask = Context {
        room_id: request.room_id,
        event_id: request.event_id,
        limit: request.limit.into(),
        filter: request.filter,
    };
    Ok(Http::json(timeline.context((&args.sender.user_id, &args.sender.device_id), &ask)?))
}
