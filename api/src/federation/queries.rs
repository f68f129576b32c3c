//! `/query/directory` and `/query/profile`.

use millpond_node::{Error, federation::Federation};
use ruma::api::federation::query::{get_profile_information, get_room_information};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(directory);
    routes.add(profile);
}

async fn directory(
    federation: Federation,
    Args { sender, request, .. }: Args<get_room_information::v1::Request>,
) -> Result<get_room_information::v1::Response, Error> {
    let (room_id, servers) = federation.directory(&sender, &request.room_alias).await?;
    Ok(get_room_information::v1::Response::new(room_id, servers))
}

async fn profile(
    federation: Federation,
    Args { sender, request, .. }: Args<get_profile_information::v1::Request>,
) -> Result<get_profile_information::v1::Response, Error> {
    Ok(federation.profile(&sender, &request.user_id, request.field.as_ref())?.into())
}
