//! `/_matrix/client/v3/directory/list/room/{roomId}`: GET, PUT.

use millpond_node::{Error, directory::Directory};
use ruma::api::client::{
    directory::{get_room_visibility::v3 as get_visibility, set_room_visibility::v3 as set_visibility},
    room::Visibility,
};

use crate::glue::{Args, Routes};

/// Registers the endpoints.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(get);
    routes.add(put);
}

async fn get(directory: Directory, args: Args<get_visibility::Request>) -> Result<get_visibility::Response, Error> {
    let published = directory.is_published(&args.request.room_id)?;
    Ok(get_visibility::Response::new(if published { Visibility::Public } else { Visibility::Private }))
}

async fn put(directory: Directory, args: Args<set_visibility::Request>) -> Result<set_visibility::Response, Error> {
    let published = match args.request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        other => return Err(Error::invalid_param(format!("visibility is public or private, not {other}"))),
    };
    directory.publish(&args.sender.user_id, &args.request.room_id, published).await?;
    Ok(set_visibility::Response::new())
}
