//! `POST /_matrix/client/v3/keys/upload`: publishes a device's keys.

use millpond_node::{Error, keys::Keys};
use ruma::api::client::keys::upload_keys::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(keys: Keys, Args { sender, request, .. }: Args<Request>) -> Result<Response, Error> {
    keys.upload(&sender.user_id, &sender.device_id, request).await
}
