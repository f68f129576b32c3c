//! `/_matrix/client/v3/directory/room/{roomAlias}`: GET, PUT, DELETE; `GET /_matrix/client/v3/rooms/{roomId}/aliases`

use millpond_node::{Error, directory::Directory, memberships::Memberships};
use ruma::api::client::{
    alias::{create_alias::v3 as create_alias, delete_alias::v3 as delete_alias, get_alias::v3 as get_alias},
    room::aliases::v3 as aliases,
};

use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(get);
    routes.add(put);
    routes.add(delete);
    routes.add(of_room);
}

async fn get(memberships: Memberships, args: Args<get_alias::Request>) -> Result<get_alias::Response, Error> {
    let (room_id, servers) = memberships.resolve_alias(&args.request.room_alias).await?;
    Ok(get_alias::Response::new(room_id, servers))
}

async fn put(directory: Directory, args: Args<create_alias::Request>) -> Result<create_alias::Response, Error> {
    directory.create_alias(&args.sender.user_id, &args.request.room_alias, &args.request.room_id).await?;
    Ok(create_alias::Response::new())
}

async fn delete(directory: Directory, args: Args<delete_alias::Request>) -> Result<delete_alias::Response, Error> {
    directory.delete_alias(&args.sender.user_id, &args.request.room_alias).await?;
    Ok(delete_alias::Response::new())
}

async fn of_room(directory: Directory, args: Args<aliases::Request>) -> Result<aliases::Response, Error> {
    Ok(aliases::Response::new(directory.aliases(&args.sender.user_id, &args.request.room_id)?))
}
