//! `GET /.well-known/matrix/server`: where other servers find this one, if the settings name another place than its name.

use millpond_node::{Core, Error};
use ruma::{
    OwnedServerName,
    api::federation::discovery::discover_homeserver::{Request, Response},
};

use crate::glue::Args;

pub(crate) async fn handler(core: Core, _: Args<Request>) -> Result<Response, Error> {
    let delegate = core.config().classic.as_ref().and_then(|classic| classic.delegate.as_deref());
    let absent = || Error::not_found("this server is where its name says");
    let server = OwnedServerName::try_from(delegate.ok_or_else(absent)?);
    Ok(Response::new(server.map_err(|_| Error::internal("the delegate in the settings is not a server name"))?))
}
