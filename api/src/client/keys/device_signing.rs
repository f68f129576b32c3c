//! `POST /_matrix/client/v3/keys/device_signing/upload`: publishes cross-signing keys. Who replaces keys must
//! authenticate again; the first ones, and the same ones again, are taken as they come.

use http::Method;
use millpond_node::{
    Error,
    accounts::{Accounts, Asked},
    keys::Keys,
};
use ruma::api::client::keys::upload_signing_keys::v3::{Request, Response};

use crate::glue::Args;

pub(crate) async fn handler(accounts: Accounts, keys: Keys, args: Args<Request>) -> Result<Response, Error> {
    let Args { request, sender, json, path, address, .. } = args;
    let checked = keys.check_signing_keys(&sender.user_id, &request)?;
    let needed = keys.needs_authentication(&sender.user_id, &checked)?;
    if needed {
        let asked = Asked { method: Method::POST, path, body: json, address };
        accounts.confirm_reset(&sender, request.auth.as_ref(), asked).await?;
    }
    keys.upload_signing_keys(&sender.user_id, checked, needed).await?;
    Ok(Response::new())
}
