//! `GET /_matrix/client/v3/keys/changes`: whose devices changed between two sync tokens.

use millpond_node::{Error, keys::Keys};
use ruma::api::client::keys::get_key_changes::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(keys: Keys, Args { sender, request, .. }: Args<Request>) -> Result<Response, Error> {
    let changes = keys.changes(&sender.user_id, &request.from, &request.to)?;
    Ok(Response::new(changes.changed.into_iter().collect(), changes.left.into_iter().collect()))
}
