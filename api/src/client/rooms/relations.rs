//! `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]`

use millpond_node::{
    Error,
    timeline::{RelationsRequest, Timeline, Wanted},
};
use ruma::api::client::relations::{
    get_relating_events::v1::Request as All, get_relating_events_with_rel_type::v1::Request as OfRelType,
    get_relating_events_with_rel_type_and_event_type::v1::Request as OfBoth,
};

use crate::glue::{Args, Http, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(all);
    routes.add(of_rel_type);
    routes.add(of_both);
}

/// The three requests differ in two fields only.
macro_rules! ask {
    ($request:expr, $rel_type:expr, $kind:expr) => {
        RelationsRequest {
            room_id: $request.room_id,
            event_id: $request.event_id,
            wanted: Wanted { rel_type: $rel_type, kind: $kind },
            from: $request.from,
            to: $request.to,
            dir: $request.dir,
            limit: $request.limit.map(u64::from),
            recurse: $request.recurse,
        }
    };
}

async fn all(timeline: Timeline, args: Args<All>) -> Result<Http, Error> {
    let ask = ask!(args.request, None, None);
    Ok(Http::json(timeline.relations((&args.sender.user_id, &args.sender.device_id), &ask)?))
}

async fn of_rel_type(timeline: Timeline, args: Args<OfRelType>) -> Result<Http, Error> {
    let rel_type = args.request.rel_type.to_string();
    let ask = ask!(args.request, Some(rel_type), None);
    Ok(Http::json(timeline.relations((&args.sender.user_id, &args.sender.device_id), &ask)?))
}

async fn of_both(timeline: Timeline, args: Args<OfBoth>) -> Result<Http, Error> {
    let (rel_type, kind) = (args.request.rel_type.to_string(), args.request.event_type.to_string());
    let ask = ask!(args.request, Some(rel_type), Some(kind));
    Ok(Http::json(timeline.relations((&args.sender.user_id, &args.sender.device_id), &ask)?))
}
