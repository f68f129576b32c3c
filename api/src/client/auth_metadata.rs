//! `GET /_matrix/client/v1/auth_metadata`, and its unstable spelling (MSC2965)

use millpond_node::{Error, accounts::Accounts};
use ruma::{
    api::client::discovery::get_authorization_server_metadata::v1::{Request, Response},
    serde::Raw,
};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, _: Args<Request>) -> Result<Response, Error> {
    let metadata = Raw::new(&accounts.oauth_metadata());
    let metadata = metadata.map_err(|e| Error::internal(format!("the metadata does not serialise: {e}")))?;
    Ok(Response::new(metadata.cast_unchecked()))
}
