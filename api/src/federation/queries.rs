//! `/query/directory`.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::query::get_room_information::v1::{Request, Response};

use crate::glue::Args;

pub(crate) async fn directory(federation: Federation, Args { request, .. }: Args<Request>) -> Result<Response, Error> {
    let (room_id, servers) = federation.directory(&request.room_alias).await?;
    Ok(Response::new(room_id, servers))
}
