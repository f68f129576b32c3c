//! Rooms from outside: `GET /_matrix/client/v1/rooms/{roomId}/hierarchy` and
//! `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`

use http::StatusCode;
use millpond_node::{
    Error,
    spaces::{HierarchyRequest, Spaces},
};
use ruma::api::{
    client::{room::get_summary::v1 as get_summary, space::get_hierarchy::v1 as get_hierarchy},
    error::ErrorKind,
};

use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(hierarchy);
    routes.add(summary);
}

async fn hierarchy(spaces: Spaces, args: Args<get_hierarchy::Request>) -> Result<get_hierarchy::Response, Error> {
    let request = args.request;
    if request.limit.is_some_and(|limit| u64::from(limit) == 0) {
        return Err(Error::invalid_param("`limit` must be greater than 0"));
    }
    let ask = HierarchyRequest {
        room_id: request.room_id,
        suggested_only: request.suggested_only,
        limit: request.limit.map(u64::from),
        max_depth: request.max_depth.map(u64::from),
        from: request.from,
    };
    let page = spaces.hierarchy(&args.sender.user_id, &ask).await?;
    let mut response = get_hierarchy::Response::new();
    response.rooms = page.rooms;
    response.next_batch = page.next_batch;
    Ok(response)
}

/// The specification lets servers answer strangers; ours tells them nothing.
async fn summary(spaces: Spaces, args: Args<get_summary::Request>) -> Result<get_summary::Response, Error> {
    let Some(sender) = args.sender else {
        let message = "This endpoint needs an access token: send `Authorization: Bearer TOKEN`";
        return Err(Error::matrix(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, message));
    };
    let request = args.request;
    let (summary, membership) = spaces.summary(&sender.user_id, &request.room_id_or_alias, request.via).await?;
    let mut response = get_summary::Response::new(summary);
    response.membership = membership;
    Ok(response)
}
