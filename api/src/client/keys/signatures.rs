//! `POST /_matrix/client/v3/keys/signatures/upload`: publishes signatures on keys.

use millpond_node::{Error, keys::Keys};
use ruma::api::client::keys::upload_signatures::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(keys: Keys, Args { sender, request, .. }: Args<Request>) -> Result<Response, Error> {
    keys.upload_signatures(&sender.user_id, request).await
}
