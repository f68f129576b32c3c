//! `GET /.well-known/matrix/client`

use millpond_node::{Core, Error};
use ruma::api::client::discovery::discover_homeserver::{HomeserverInfo, Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(core: Core, _: Args<Request>) -> Result<Response, Error> {
    Ok(Response::new(HomeserverInfo::new(core.config().client_base_url.clone())))
}
