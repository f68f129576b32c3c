//! `POST /_matrix/client/v3/` `rooms/{roomId}/join`, `join/{roomIdOrAlias}`, `knock/{roomIdOrAlias}`

use millpond_node::{Error, memberships::Memberships};
use ruma::api::client::{
    knock::knock_room::v3 as knock_room,
    membership::{join_room_by_id::v3 as by_id, join_room_by_id_or_alias::v3 as by_id_or_alias},
};

use super::with_reason;
use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(join);
    routes.add(join_by_alias);
    routes.add(knock);
}

async fn join(memberships: Memberships, args: Args<by_id::Request>) -> Result<by_id::Response, Error> {
    let (user, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    Ok(by_id::Response::new(memberships.join(&user, (&*request.room_id).into(), Vec::new(), extra).await?))
}

async fn join_by_alias(
    memberships: Memberships,
    args: Args<by_id_or_alias::Request>,
) -> Result<by_id_or_alias::Response, Error> {
    let (user, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    let room_id = memberships.join(&user, &request.room_id_or_alias, request.via, extra).await?;
    Ok(by_id_or_alias::Response::new(room_id))
}

async fn knock(memberships: Memberships, args: Args<knock_room::Request>) -> Result<knock_room::Response, Error> {
    let (user, request) = (args.sender.user_id, args.request);
    let extra = with_reason(request.reason);
    let room_id = memberships.knock(&user, &request.room_id_or_alias, request.via, extra).await?;
    Ok(knock_room::Response::new(room_id))
}
