//! `GET /_matrix/client/v3/rooms/{roomId}/messages`

use millpond_node::{
    Error,
    timeline::{PageRequest, Timeline},
};
use ruma::api::client::message::get_message_events::v3::Request;

use crate::glue::{Args, Http};

pub(crate) async fn handler(timeline: Timeline, args: Args<Request>) -> Result<Http, Error> {
    let request = args.request;
    let ask = PageRequest {
        room_id: request.room_id,
        from: request.from,
        to: request.to,
        dir: request.dir,
        limit: request.limit.into(),
        filter: request.filter,
    };
    Ok(Http::json(timeline.page((&args.sender.user_id, &args.sender.device_id), ask).await?))
}
