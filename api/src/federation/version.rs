//! `GET /_matrix/federation/v1/version`.

use millpond_node::Error;
use ruma::api::federation::discovery::get_server_version::v1::{Request, Response, Server};

use crate::glue::Args;

pub(crate) async fn handler(_: Args<Request>) -> Result<Response, Error> {
    let mut server = Server::new();
    server.name = Some("Millpond".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = Response::new();
    response.server = Some(server);
    Ok(response)
}
