//! `GET /_matrix/client/v1/rooms/{roomId}/threads`

use millpond_node::{
    Error,
    timeline::{ThreadsRequest, Timeline},
};
use ruma::api::client::threads::get_threads::v1::{IncludeThreads, Request};

use crate::glue::{Args, Http};

pub(crate) async fn handler(timeline: Timeline, args: Args<Request>) -> Result<Http, Error> {
    let request = args.request;
    let ask = ThreadsRequest {
        room_id: request.room_id,
        from: request.from,
        limit: request.limit.map(u64::from),
        participated: request.include == IncludeThreads::Participated,
    };
    Ok(Http::json(timeline.threads((&args.sender.user_id, &args.sender.device_id), &ask)?))
}
