//! `GET /_matrix/client/v3/voip/turnServer`

use std::time::Duration;

use millpond_node::{Core, Error, turn};
use ruma::api::client::voip::get_turn_server_info::v3::{Request, Response};

use crate::glue::{Answer, Args, Http};

pub(crate) async fn handler(core: Core, args: Args<Request>) -> Result<Http, Error> {
    let Some(config) = &core.config().turn else { return Ok(Http::json("{}")) };
    let credentials = turn::credentials(config, &args.sender.user_id, core.clock().now_ms() / 1000);
    let ttl = Duration::from_secs(config.ttl_secs);
    let response = Response::new(credentials.username, credentials.password, config.uris.clone(), ttl);
    Ok(Http(response.into_http()?))
}
