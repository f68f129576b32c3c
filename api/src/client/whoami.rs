//! `GET /_matrix/client/v3/account/whoami`

use millpond_node::Error;
use ruma::api::client::account::whoami::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(Args { sender, .. }: Args<Request>) -> Result<Response, Error> {
    let mut response = Response::new(sender.user_id, false);
    response.device_id = Some(sender.device_id);
    Ok(response)
}
