//! `POST /_matrix/client/v3/keys/query`: the devices of users and their keys.

use millpond_node::{Error, keys::Keys};
use ruma::api::client::keys::get_keys::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(keys: Keys, Args { sender, request, .. }: Args<Request>) -> Result<Response, Error> {
    keys.query(&sender.user_id, request).await
}
