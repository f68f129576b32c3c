//! `GET /_matrix/client/v3/rooms/{roomId}/members` and `joined_members`.

use millpond_node::{
    Error,
    timeline::{MembersRequest, Timeline},
};
use ruma::api::client::membership::{
    get_member_events::v3::Request as Members, joined_members::v3::Request as JoinedMembers,
};

use crate::glue::{Args, Http, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(members);
    routes.add(joined_members);
}

async fn members(timeline: Timeline, args: Args<Members>) -> Result<Http, Error> {
    let request = args.request;
    let ask = MembersRequest {
        room_id: request.room_id,
        at: request.at,
        membership: request.membership,
        not_membership: request.not_membership,
    };
    timeline.until_whole(&ask.room_id).await?;
    Ok(Http::json(timeline.members((&args.sender.user_id, &args.sender.device_id), &ask)?))
}

async fn joined_members(timeline: Timeline, args: Args<JoinedMembers>) -> Result<Http, Error> {
    let asker = (&*args.sender.user_id, &*args.sender.device_id);
    timeline.until_whole(&args.request.room_id).await?;
    Ok(Http::json(timeline.joined_members(asker, &args.request.room_id)?))
}
