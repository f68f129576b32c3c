//! `POST /_matrix/client/v3/keys/claim`: takes one-time keys.

use millpond_node::{Error, keys::Keys};
use ruma::api::client::keys::claim_keys::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(keys: Keys, Args { request, .. }: Args<Request>) -> Result<Response, Error> {
    keys.claim(request).await
}
