//! `/_matrix/client/v3/pushers`, `/pushers/set`

use millpond_node::{Error, pushers::Pushers};
use ruma::api::client::push::{
    get_pushers,
    set_pusher::{self, v3::PusherAction},
};

use crate::glue::{Args, Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(all);
    routes.add(set);
}

async fn all(pushers: Pushers, args: Args<get_pushers::v3::Request>) -> Result<get_pushers::v3::Response, Error> {
    Ok(get_pushers::v3::Response::new(pushers.all(&args.sender.user_id)?))
}

async fn set(pushers: Pushers, args: Args<set_pusher::v3::Request>) -> Result<set_pusher::v3::Response, Error> {
    match args.request.action {
        PusherAction::Post(post) => pushers.set(&args.sender, post.pusher, post.append).await?,
        PusherAction::Delete(ids) => pushers.remove(&args.sender.user_id, ids).await?,
        _ => return Err(Error::invalid_param("`kind` can be http, or null to remove the pusher")),
    }
    Ok(set_pusher::v3::Response::new())
}
